"""The ledger of a rate limit: reservations, reconciliation and calls in flight."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.mapping.definition import RateLimit
from service.worker.rate_limit.fair_shares import ACTIVE_MS, LimitRequest, WorkerShare
from service.worker.rate_limit.gcra import (
    CREDIT_SHARE,
    MINUTE_MS,
    ArrivalTimes,
    Tokens,
    emission_interval_ms,
)
from service.worker.rate_limit.ledger import HORIZON_MS, Ledger, Reservation
from service.worker.rate_limit.ledger_text import read_ledger, write_ledger

NOW = 1_700_000_000_000
PER_MINUTE = RateLimit("a", requests_per_minute=600)
EPSILON = 1e-3


def starts(reservation: Reservation) -> list[float]:
    """The start times of a reservation."""
    return [reservation.start_ms + index * reservation.interval_ms for index in range(reservation.count)]


def largest_minute(events: list[tuple[float, float]]) -> float:
    """The largest sum of amounts in any half-open minute of (time, amount)."""
    events = sorted(events)
    times = [time for time, _ in events]
    sums = [0.0]
    for _, amount in events:
        sums.append(sums[-1] + amount)
    return max(
        (sums[bisect_left(times, time + MINUTE_MS)] - sums[i] for i, time in enumerate(times)), default=0
    )


def reread(ledger: Ledger) -> Ledger:
    """The ledger as the next worker reads it."""
    return read_ledger(write_ledger(ledger, by="test"), NOW + 10**9)


# -- requests and tokens

requests = st.lists(
    st.tuples(st.sampled_from("abcd"), st.integers(0, 3_000), st.integers(1, 400)), min_size=1, max_size=150
)
"""Worker, ms since the request before, and calls that wait."""


@given(requests, st.integers(1, 2_000))
def test_no_minute_holds_more_requests_than_the_limit(requested, per_minute) -> None:
    """For any workers, times and numbers of calls. A reservation may stay unused, as after a crash."""
    limit, ledger, now = RateLimit("a", requests_per_minute=per_minute), Ledger(), NOW
    begins: list[float] = []
    for seq, (worker, passed, calls) in enumerate(requested):
        now += passed
        grant = reread(ledger).grant(LimitRequest(worker, seq, now, waiting=calls), limit)
        if grant.reservation is None:
            assert grant.retry_ms > 0
            continue
        ledger = grant.ledger
        assert now <= grant.reservation.start_ms <= now + HORIZON_MS
        begins += starts(grant.reservation)
    assert largest_minute([(time, 1) for time in begins]) <= per_minute
    assert begins == sorted(begins), "no call begins within the reservation of another worker"
    interval_ms = emission_interval_ms(per_minute, 1) - EPSILON
    assert all(later - earlier >= interval_ms for earlier, later in pairwise(begins))


@given(requests, st.integers(1, 5_000), st.integers(1, 20_000))
def test_no_minute_is_charged_more_tokens_than_the_limit(requested, cost, per_minute) -> None:
    """Exact for calls of equal cost. A single call that costs more than the limit is alone in its minute."""
    limit, ledger, now = RateLimit("a", input_tokens_per_minute=per_minute), Ledger(), NOW
    charged: list[tuple[float, float]] = []
    for seq, (worker, passed, calls) in enumerate(requested):
        now += passed
        request = LimitRequest(worker, seq, now, waiting=calls, cost=Tokens(cost, 0))
        grant = reread(ledger).grant(request, limit)
        if grant.reservation is not None:
            ledger = grant.ledger
            charged += [(time, cost) for time in starts(grant.reservation)]
    assert largest_minute(charged) <= max(per_minute, cost)


@given(requests, st.lists(st.integers(1, 300), min_size=150, max_size=150))
def test_calls_of_different_cost_exceed_by_less_than_one_call(requested, costs) -> None:
    """A minute is charged less than the limit plus its last call."""
    limit, ledger, now = RateLimit("a", output_tokens_per_minute=3_000), Ledger(), NOW
    charged: list[tuple[float, float]] = []
    for seq, ((worker, passed, calls), cost) in enumerate(zip(requested, costs, strict=False)):
        now += passed
        request = LimitRequest(worker, seq, now, waiting=calls, cost=Tokens(0, cost))
        grant = ledger.grant(request, limit)
        if grant.reservation is not None:
            ledger = grant.ledger
            charged += [(time, cost) for time in starts(grant.reservation)]
    assert largest_minute(charged) < 3_000 + 300


def test_all_limits_are_kept_at_once() -> None:
    """The tightest limit sets the pace. Each TAT is its own emission interval after the last call."""
    limit = RateLimit("a", requests_per_minute=600, input_tokens_per_minute=6_000)
    grant = Ledger().grant(LimitRequest("a", 1, NOW, waiting=9, cost=Tokens(100, 0)), limit)
    assert grant.reservation.interval_ms == emission_interval_ms(60, 1)
    last = grant.reservation.last_start_ms
    assert grant.ledger.arrival_times == ArrivalTimes(
        last + emission_interval_ms(600, 1), last + emission_interval_ms(60, 1), 0
    )


def test_nothing_is_reserved_beyond_the_horizon() -> None:
    """The grant says when to ask again, and the request made then gets a reservation."""
    ledger = Ledger(NOW, ArrivalTimes(NOW + HORIZON_MS + 700))
    request = LimitRequest("a", 1, NOW, waiting=5)
    grant = ledger.grant(request, PER_MINUTE)
    assert (grant.reservation, grant.retry_ms, grant.must_write) == (None, 700, False)
    assert ledger.grant(replace(request, now_ms=NOW + 700), PER_MINUTE).reservation is not None


def test_reservations_are_fair_shares_of_a_second() -> None:
    """A worker alone gets all of it, each of four that want much a quarter. An idle worker does not count."""
    ledger, counts = Ledger(), []
    for seq, worker in enumerate("abcdabcd"):
        grant = ledger.grant(LimitRequest(worker, seq, NOW + 300 * seq, waiting=50), PER_MINUTE)
        ledger = grant.ledger
        counts.append(grant.reservation.count)
    assert counts[0] == 9
    assert all(count in (2, 3) for count in counts[3:])
    later = LimitRequest("a", 9, NOW + 2_100 + ACTIVE_MS, waiting=1)
    assert ledger.grant(later, PER_MINUTE).reservation.count == 9


@given(
    st.lists(
        st.tuples(st.integers(0, 5_000), st.floats(-5_000, 5_000), st.floats(-5_000, 5_000)), max_size=50
    )
)
def test_reconciling_moves_no_tat_back(corrections) -> None:
    """Unused tokens become credit, at most a small part of the limit, and never an earlier TAT."""
    limit = RateLimit("a", input_tokens_per_minute=10_000, output_tokens_per_minute=20_000)
    ledger, now = Ledger(), NOW
    for seq, (passed, *tokens) in enumerate(corrections):
        now += passed
        before = ledger.arrival_times
        request = LimitRequest("a", seq, now, waiting=1, cost=Tokens(10, 10), correction=Tokens(*tokens))
        ledger = ledger.grant(request, limit).ledger
        assert ledger.arrival_times.input >= before.input
        assert ledger.arrival_times.output >= before.output
        assert 0 <= ledger.credit.input <= CREDIT_SHARE * 10_000
        assert 0 <= ledger.credit.output <= CREDIT_SHARE * 20_000


def test_an_excess_moves_the_tat_on_from_now() -> None:
    """Unless credit covers it: 970 tokens of 1,000 a minute are 60 seconds at the pace that is kept."""
    limit = RateLimit("a", input_tokens_per_minute=1_000)
    ledger = Ledger().without("a", limit, Tokens(970, 0), NOW)
    assert ledger.arrival_times.input == pytest.approx(NOW + 60_000)
    ledger = Ledger(credit=Tokens(15, 0)).without("a", limit, Tokens(10, 0), NOW)
    assert (ledger.arrival_times.input, ledger.credit.input) == (0, 5)


def test_a_newer_mapping_changes_the_limit_at_once() -> None:
    """The next reservation has the new pace. A limit that was dropped delays no call, whatever its TAT."""
    ledger = Ledger().grant(LimitRequest("a", 1, NOW, waiting=5), PER_MINUTE).ledger
    request = LimitRequest("a", 2, NOW, waiting=5)
    slower = ledger.grant(request, RateLimit("a", requests_per_minute=60)).reservation
    assert slower.start_ms == ledger.arrival_times.requests
    assert slower.interval_ms == emission_interval_ms(60, 1)
    other = ledger.grant(request, RateLimit("a", input_tokens_per_minute=60)).reservation
    assert other.start_ms == NOW


# -- calls in flight


@given(
    st.integers(1, 12),
    st.lists(
        st.tuples(
            st.sampled_from("abcd"), st.integers(0, 4_000), st.integers(0, 15), st.booleans(), st.booleans()
        ),
        max_size=200,
    ),
)
def test_never_more_calls_in_flight_than_the_limit(concurrent, steps) -> None:
    """Workers use, keep or lose their share, and crash. A call lasts `call_ms` even if its worker crashed."""
    limit, call_ms, ttl_ms = RateLimit("a", concurrent=concurrent), 8_000, 5_000
    ledger, now, names = Ledger(), NOW, {worker: worker for worker in "abcd"}
    in_flight: dict[str, list[int]] = {}
    for seq, (worker, passed, wanted, crashes, begins) in enumerate(steps):
        now += passed
        in_flight = {w: [end for end in ends if end > now] for w, ends in in_flight.items()}
        name = names[worker]
        mine = in_flight.setdefault(name, [])
        request = LimitRequest(
            name,
            seq,
            now,
            in_flight=len(mine),
            wanted=max(wanted, len(mine)),
            lease_ms=ttl_ms,
            margin_ms=call_ms,
        )
        grant = reread(ledger).grant(request, limit)
        ledger = grant.ledger
        if begins:
            mine += [now + call_ms] * max(0, grant.quota - len(mine))
        assert sum(len(ends) for ends in in_flight.values()) <= concurrent
        assert sum(share.held for share in ledger.shares.values()) <= concurrent
        if crashes:
            names[worker] = f"{worker}{seq}"


def holding_request(worker: str, in_flight: int, wanted: int) -> LimitRequest:
    """A request for calls in flight only."""
    return LimitRequest(worker, 1, NOW, in_flight=in_flight, wanted=wanted, lease_ms=6_000, margin_ms=4_000)


def test_a_worker_with_more_than_its_share_gives_it_up_as_calls_end() -> None:
    """One holds ten of ten when another wants some: it begins none above five; the other gets the rest."""
    limit = RateLimit("a", concurrent=10)
    first = Ledger().grant(holding_request("a", 0, 30), limit)
    assert (first.held, first.quota) == (10, 10)
    second = first.ledger.grant(holding_request("b", 0, 30), limit)
    assert (second.held, second.quota) == (0, 0)
    third = second.ledger.grant(holding_request("a", 7, 30), limit)
    assert (third.held, third.quota) == (7, 5)
    assert third.ledger.grant(holding_request("b", 0, 30), limit).held == 3


def test_a_share_that_nobody_else_wants_is_kept_while_it_is_used() -> None:
    """With fewer calls for a moment nothing is written. With no calls at all everything is given back."""
    limit = RateLimit("a", concurrent=10)
    ledger = Ledger(NOW, shares={"a": WorkerShare(8, 8, NOW + 10_000)})
    grant = ledger.grant(holding_request("a", 1, 3), limit)
    assert (grant.held, grant.must_write) == (8, False)
    idle = ledger.grant(holding_request("a", 0, 0), limit)
    assert (idle.held, idle.must_write) == (0, True)


def test_a_lower_limit_lets_calls_in_flight_end() -> None:
    """They stay held until they end, and no new ones begin until fewer are in flight."""
    ledger = Ledger(NOW, shares={"a": WorkerShare(8, 8, NOW + 10_000), "b": WorkerShare(2, 2, NOW + 10_000)})
    request = LimitRequest("a", 1, NOW, in_flight=8, wanted=8, lease_ms=9)
    grant = ledger.grant(request, RateLimit("a", concurrent=5))
    assert (grant.held, grant.quota) == (8, 3)
