"""The stored text of a ledger."""

from __future__ import annotations

from dataclasses import replace

import pytest

from service.mapping.definition import RateLimit
from service.worker.rate_limit.fair_shares import UNKNOWN_WORKER, LimitRequest, WorkerShare
from service.worker.rate_limit.gcra import MINUTE_MS, ArrivalTimes, Tokens
from service.worker.rate_limit.ledger import Ledger
from service.worker.rate_limit.ledger_text import MAX_SKEW_MS, read_ledger, write_ledger

NOW = 1_700_000_000_000


def test_a_ledger_is_read_as_it_was_written() -> None:
    """Every number of it, and the number of each worker's last write."""
    ledger = Ledger(
        NOW, ArrivalTimes(NOW + 0.1, 1.5, 2.5), Tokens(1.25, 3), {"a": WorkerShare(1, 2, 3, 4, 5, 6)}
    )
    assert read_ledger(write_ledger(ledger, by="a/6"), NOW) == ledger
    assert ledger.has_written("a", 6)
    assert not ledger.has_written("a", 5)
    assert not ledger.has_written("b", 6)


def test_the_text_keeps_its_format() -> None:
    """Workers of an older release read and write the same record."""
    ledger = Ledger(
        NOW, ArrivalTimes(NOW + 0.5, 1.5, 2.5), Tokens(1.25, 3), {"a": WorkerShare(1, 2, 3, 4, 5, 6)}
    )
    assert write_ledger(ledger, by="a/6") == (
        '{"v":1,"by":"a/6","at":1700000000000,"ends":[1700000000000.5,1.5,2.5],"credit":[1.25,3],'
        '"shares":{"a":[1,2,3,4,5,6]}}'
    )


def test_no_text_is_a_new_ledger() -> None:
    """Nothing is reserved and no call is in flight."""
    assert read_ledger("", NOW) == Ledger(NOW)


@pytest.mark.parametrize(
    "text",
    [
        "nonsense", "[]", "null", '{"v":2}', "[" * 100_000,
        '{"v":1,"at":1,"ends":[1],"credit":[0,0],"shares":{}}',
        write_ledger(Ledger(NOW), by="x").replace("0.0", "NaN"),
        write_ledger(Ledger(NOW, shares={"a": WorkerShare(-1)}), by="x"),
        write_ledger(Ledger(NOW + MAX_SKEW_MS + 1), by="x"),
    ],
)  # fmt: skip
def test_an_unreadable_text_counts_as_all_used_up(text) -> None:
    """Calls pause for a minute, and calls in flight for a lease, also after a text from the future."""
    ledger = read_ledger(text, NOW, concurrent=5, share_ttl_ms=9_000)
    assert ledger.arrival_times == ArrivalTimes(*[NOW + MINUTE_MS] * 3)
    assert ledger.shares == {UNKNOWN_WORKER: WorkerShare(5, expires_ms=NOW + 9_000)}
    limit = RateLimit("a", requests_per_minute=600, concurrent=5)
    request = LimitRequest("a", 1, NOW, waiting=3, wanted=3, lease_ms=6_000, margin_ms=3_000)
    grant = ledger.grant(request, limit)
    assert (grant.reservation, grant.quota, grant.must_write) == (None, 0, True)
    grant = grant.ledger.grant(replace(request, now_ms=NOW + MINUTE_MS), limit)
    assert (grant.reservation.start_ms, grant.quota) == (NOW + MINUTE_MS, 3)
