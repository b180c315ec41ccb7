"""Max-min fairness, and the turns of workers that share too few calls in flight."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from service.worker.rate_limit.fair_shares import (
    LEASE_MS_PER_HOLDER,
    LEAST_WAITERS,
    ConcurrencyDivision,
    LimitRequest,
    WorkerShare,
    fair_level,
)

NOW = 1_700_000_000_000
LEASE_MS, MARGIN_MS = 20_000, 5_000


@given(st.integers(0, 100), st.lists(st.integers(0, 50)))
def test_shares_are_fair(total, wishes) -> None:
    """Up to the level no more than the total is divided. One more for each that wants it is too much."""
    fair = fair_level(total, wishes)
    assert sum(min(wish, fair.level) for wish in wishes) <= total
    if sum(wishes) <= total:
        assert fair.level == fair.most == max(wishes, default=0)
    else:
        assert sum(min(wish, fair.level + 1) for wish in wishes) > total
        is_remainder = sum(min(wish, fair.level) for wish in wishes) < total
        assert fair.most == fair.level + is_remainder


def request(now_ms: int = NOW, *, in_flight: int = 0, wanted: int = 4) -> LimitRequest:
    """A request of worker "me"."""
    return LimitRequest(
        "me", 1, now_ms, in_flight=in_flight, wanted=wanted, lease_ms=LEASE_MS, margin_ms=MARGIN_MS
    )


def holder(held: int = 1, wanted: int = 4) -> WorkerShare:
    """A share that has just been renewed."""
    return WorkerShare(held, wanted, NOW + LEASE_MS + MARGIN_MS)


def test_a_turn_ends_with_its_lease_if_others_wait() -> None:
    """One call for two workers: it is held for the whole lease, not renewed, and given back as calls end."""
    mine, others = holder(), {"other": holder(held=0)}
    half = ConcurrencyDivision(request(NOW + LEASE_MS // 2, in_flight=1), others, 1)
    share, quota = half.share(mine)
    assert (share.held, share.expires_ms, quota) == (1, mine.expires_ms, 1)
    assert not half.must_write(mine, share)
    for in_flight in (1, 0):
        over = ConcurrencyDivision(request(NOW + LEASE_MS, in_flight=in_flight), others, 1)
        share, quota = over.share(mine)
        assert (share.held, quota) == (in_flight, 0)
    assert over.must_write(mine, share)


def test_a_turn_goes_on_while_nobody_waits_or_something_is_free() -> None:
    """A call that is free is enough for whoever waits."""
    mine = holder()
    for others, concurrent in (({"other": holder(wanted=1)}, 2), ({"other": holder(held=0)}, 2)):
        division = ConcurrencyDivision(request(NOW + LEASE_MS, in_flight=1), others, concurrent)
        share, quota = division.share(mine)
        assert quota >= 1
        assert share.expires_ms > mine.expires_ms


def test_leases_grow_with_the_workers_that_hold_some() -> None:
    """A thousand holders renew about ten leases a second."""
    others = {f"w{number}": holder() for number in range(999)}
    division = ConcurrencyDivision(request(wanted=1), others, 1_000)
    assert division.lease_ms == 1_000 * LEASE_MS_PER_HOLDER
    share, _ = division.share(WorkerShare())
    assert share.expires_ms == NOW + division.lease_ms + MARGIN_MS
    later = ConcurrencyDivision(request(NOW + division.lease_ms // 4, wanted=1), others, 1_000)
    assert not later.must_write(share, later.share(share)[0])


def test_the_record_has_room_for_some_that_wait() -> None:
    """They make holders give calls back; more of them would only make the record larger."""
    for waiters, is_written in ((LEAST_WAITERS - 1, True), (LEAST_WAITERS, False)):
        others = {"holder": holder()} | {f"w{number}": holder(held=0) for number in range(waiters)}
        division = ConcurrencyDivision(request(), others, 1)
        share, quota = division.share(WorkerShare())
        assert (share.held, quota) == (0, 0)
        assert division.must_write(WorkerShare(), share) is is_written


def test_a_wish_beyond_the_fair_share_is_not_written() -> None:
    """It would change nothing for the others."""
    others = {"other": holder(held=5, wanted=9)}
    mine = holder(held=5, wanted=6)
    division = ConcurrencyDivision(request(in_flight=5, wanted=30), others, 10)
    assert not division.must_write(mine, division.share(mine)[0])


def test_the_remainder_stays_with_those_who_took_it() -> None:
    """Eleven calls for two: the first has six, until the other has less than the level."""
    for other_holds, quota in ((5, 6), (4, 5)):
        others = {"other": holder(held=other_holds, wanted=9)}
        division = ConcurrencyDivision(request(in_flight=6, wanted=9), others, 11)
        assert division.share(holder(held=6, wanted=9))[1] == quota
