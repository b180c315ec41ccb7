from __future__ import annotations

from bisect import bisect_left
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.mapping.definition import RateLimit
from service.mapping.replies.transcript import Usage
from service.worker.rate_limit.ledger import HORIZON_MS, Ledger
from service.worker.rate_limit.ledger_text import MAX_SKEW_MS, read_ledger, write_ledger
from service.worker.rate_limit.pacing import (
    CREDIT_SHARE,
    WINDOW_MS,
    ArrivalTimes,
    Tokens,
    emission_interval_ms,
)
from service.worker.rate_limit.sharing import (
    ACTIVE_MS,
    UNKNOWN_WORKER,
    LimitRequest,
    WorkerShare,
    max_min_shares,
)
from service.worker.rate_limit.token_estimates import TokenEstimates

NOW = 1_700_000_000_000
PER_MINUTE = RateLimit("a", requests_per_minute=600)
EPSILON = 1e-3


def most(events: list[tuple[float, float]]) -> float:
    """The largest sum of amounts in any half-open minute of (time, amount)."""
    events = sorted(events)
    times = [time for time, _ in events]
    sums = [0.0]
    for _, amount in events:
        sums.append(sums[-1] + amount)
    return max(
        (sums[bisect_left(times, time + WINDOW_MS)] - sums[i] for i, time in enumerate(times)), default=0
    )


def again(ledger: Ledger) -> Ledger:
    """As the next worker reads it."""
    return read_ledger(write_ledger(ledger, by="test"), NOW + 10**9)


# -- requests and tokens

asks = st.lists(
    st.tuples(st.sampled_from("abcd"), st.integers(0, 3_000), st.integers(1, 400)), min_size=1, max_size=150
)


@given(asks, st.integers(1, 2_000))
def test_no_minute_holds_more_requests_than_the_limit(asked, per_minute) -> None:
    """For any workers, times and numbers of calls. A reservation may stay unused, as after a crash."""
    limit, ledger, now = RateLimit("a", requests_per_minute=per_minute), Ledger(), NOW
    begins: list[tuple[float, float]] = []
    for seq, (worker, passed, calls) in enumerate(asked):
        now += passed
        grant = again(ledger).grant(LimitRequest(worker, seq, now, calls), limit)
        if grant.reservation is None:
            assert grant.retry_ms > 0
            continue
        ledger = grant.ledger
        reservation = grant.reservation
        assert now <= reservation.start_ms <= now + HORIZON_MS
        begins += [
            (reservation.start_ms + index * reservation.interval_ms, 1) for index in range(reservation.count)
        ]
    assert most(begins) <= per_minute
    times = [time for time, _ in begins]
    assert times == sorted(times), "nobody begins within another's reservation"
    spacing = emission_interval_ms(per_minute, 1) - EPSILON
    assert all(later - earlier >= spacing for earlier, later in pairwise(times))


@given(asks, st.integers(1, 5_000), st.integers(1, 20_000))
def test_no_minute_is_charged_more_tokens_than_the_limit(asked, cost, per_minute) -> None:
    """Exact for calls of equal cost; a single call that costs more than the limit is alone in its minute."""
    limit, ledger, now = RateLimit("a", input_tokens_per_minute=per_minute), Ledger(), NOW
    charged: list[tuple[float, float]] = []
    for seq, (worker, passed, calls) in enumerate(asked):
        now += passed
        grant = again(ledger).grant(LimitRequest(worker, seq, now, calls, Tokens(cost, 0)), limit)
        if reservation := grant.reservation:
            ledger = grant.ledger
            charged += [
                (reservation.start_ms + index * reservation.interval_ms, cost)
                for index in range(reservation.count)
            ]
    assert most(charged) <= max(per_minute, cost)


@given(asks, st.lists(st.integers(1, 300), min_size=150, max_size=150))
def test_calls_of_different_cost_exceed_by_less_than_one_call(asked, costs) -> None:
    """What a minute is charged is less than the limit and its last call."""
    limit, ledger, now = RateLimit("a", output_tokens_per_minute=3_000), Ledger(), NOW
    charged: list[tuple[float, float]] = []
    for seq, ((worker, passed, calls), cost) in enumerate(zip(asked, costs, strict=False)):
        now += passed
        grant = ledger.grant(LimitRequest(worker, seq, now, calls, Tokens(0, cost)), limit)
        if reservation := grant.reservation:
            ledger = grant.ledger
            charged += [
                (reservation.start_ms + index * reservation.interval_ms, cost)
                for index in range(reservation.count)
            ]
    assert most(charged) < 3_000 + 300


def test_all_limits_are_kept_at_once() -> None:
    """The tightest sets the pace, and the others' timelines go along with it."""
    limit = RateLimit("a", requests_per_minute=600, input_tokens_per_minute=6_000)
    grant = Ledger().grant(LimitRequest("a", 1, NOW, 9, Tokens(100, 0)), limit)
    assert grant.reservation.interval_ms == emission_interval_ms(60, 1)
    last = grant.reservation.start_ms + (grant.reservation.count - 1) * grant.reservation.interval_ms
    assert grant.ledger.arrival_times == ArrivalTimes(
        last + emission_interval_ms(600, 1), last + emission_interval_ms(60, 1), 0
    )


def test_what_is_spoken_for_beyond_the_horizon_is_refused_with_a_time() -> None:
    """Asking again then is answered with a reservation."""
    ledger = Ledger(NOW, ArrivalTimes(NOW + HORIZON_MS + 700))
    grant = ledger.grant(LimitRequest("a", 1, NOW, 5), PER_MINUTE)
    assert (grant.reservation, grant.retry_ms, grant.must_write) == (None, 700, False)
    assert ledger.grant(LimitRequest("a", 1, NOW + 700, 5), PER_MINUTE).reservation is not None


def test_blocks_are_fair_shares_of_a_second() -> None:
    """Who is alone gets all of it, four that want much a quarter each; who asked long ago does not count."""
    ledger, counts = Ledger(), []
    for seq, worker in enumerate("abcdabcd"):
        grant = ledger.grant(LimitRequest(worker, seq, NOW + 300 * seq, 50), PER_MINUTE)
        ledger = grant.ledger
        counts.append(grant.reservation.count)
    assert counts[0] == 9
    assert all(count in (2, 3) for count in counts[3:])
    assert ledger.grant(LimitRequest("a", 9, NOW + 2_100 + ACTIVE_MS, 1), PER_MINUTE).reservation.count == 9


@given(
    st.lists(
        st.tuples(st.integers(0, 5_000), st.floats(-5_000, 5_000), st.floats(-5_000, 5_000)), max_size=50
    )
)
def test_settling_moves_no_end_back(settled) -> None:
    """What was spent less makes no room before; what is kept of it is at most a small part of the limit."""
    limit = RateLimit("a", input_tokens_per_minute=10_000, output_tokens_per_minute=20_000)
    ledger, now = Ledger(), NOW
    for seq, (passed, *tokens) in enumerate(settled):
        now += passed
        before = ledger.arrival_times
        ledger = ledger.grant(LimitRequest("a", seq, now, 1, Tokens(10, 10), Tokens(*tokens)), limit).ledger
        assert ledger.arrival_times.input >= before.input
        assert ledger.arrival_times.output >= before.output
        assert 0 <= ledger.credit.input <= CREDIT_SHARE * 10_000
        assert 0 <= ledger.credit.output <= CREDIT_SHARE * 20_000


def test_an_excess_is_owed_from_now_on() -> None:
    """Unless credit covers it: 970 tokens of 1,000 a minute are 60 seconds at the pace that is kept."""
    limit = RateLimit("a", input_tokens_per_minute=1_000)
    ledger = Ledger().without("a", limit, Tokens(970, 0), NOW)
    assert ledger.arrival_times.input == pytest.approx(NOW + 60_000)
    ledger = Ledger(credit=Tokens(15, 0)).without("a", limit, Tokens(10, 0), NOW)
    assert (ledger.arrival_times.input, ledger.credit.input) == (0, 5)


def test_a_newer_mapping_changes_the_limit_at_once() -> None:
    """The next reservation has the new pace. A limit that was dropped delays no call, whatever its TAT."""
    ledger = Ledger().grant(LimitRequest("a", 1, NOW, 5), PER_MINUTE).ledger
    slower = ledger.grant(LimitRequest("a", 2, NOW, 5), RateLimit("a", requests_per_minute=60)).reservation
    assert (slower.start_ms, slower.interval_ms) == (
        ledger.arrival_times.requests,
        emission_interval_ms(60, 1),
    )
    other = ledger.grant(LimitRequest("a", 2, NOW, 5), RateLimit("a", input_tokens_per_minute=60)).reservation
    assert other.start_ms == NOW


# -- calls under way


@given(
    st.integers(1, 12),
    st.lists(
        st.tuples(
            st.sampled_from("abcd"), st.integers(0, 4_000), st.integers(0, 15), st.booleans(), st.booleans()
        ),
        max_size=200,
    ),
)
def test_never_more_calls_under_way_than_the_limit(concurrent, steps) -> None:
    """Workers take all they may, keep it or die with it; a call runs for `call_ms`, also of who died."""
    limit, call_ms, ttl_ms = RateLimit("a", concurrent=concurrent), 8_000, 5_000
    ledger, now, names = Ledger(), NOW, {worker: worker for worker in "abcd"}
    under_way: dict[str, list[int]] = {}
    for seq, (worker, passed, wants, dies, begins) in enumerate(steps):
        now += passed
        under_way = {w: [end for end in ends if end > now] for w, ends in under_way.items()}
        name = names[worker]
        mine = under_way.setdefault(name, [])
        ask = LimitRequest(
            name,
            seq,
            now,
            in_flight=len(mine),
            wanted=max(wants, len(mine)),
            lease_ms=ttl_ms + call_ms,
            renew_ms=1,
        )
        grant = again(ledger).grant(ask, limit)
        ledger = grant.ledger
        if begins:
            mine += [now + call_ms] * max(0, grant.quota - len(mine))
        assert sum(len(ends) for ends in under_way.values()) <= concurrent
        assert sum(share.held for share in ledger.shares.values()) <= concurrent
        if dies:
            names[worker] = f"{worker}{seq}"


def test_who_has_more_than_its_share_gives_it_up_as_calls_end() -> None:
    """Ten of ten, then another wants some: no new calls begin above five, and the other gets what is free."""
    limit = RateLimit("a", concurrent=10)

    def ask(worker: str, in_use: int, wants: int) -> LimitRequest:
        return LimitRequest(worker, 1, NOW, in_flight=in_use, wanted=wants, lease_ms=10_000, renew_ms=1_000)

    first = Ledger().grant(ask("a", 0, 30), limit)
    assert (first.held, first.quota) == (10, 10)
    second = first.ledger.grant(ask("b", 0, 30), limit)
    assert (second.held, second.quota) == (0, 0)
    third = second.ledger.grant(ask("a", 7, 30), limit)
    assert (third.held, third.quota) == (7, 5)
    assert third.ledger.grant(ask("b", 0, 30), limit).held == 3


def test_what_nobody_else_wants_is_kept_while_it_is_used() -> None:
    """Fewer calls for a moment need no writing, no calls at all give everything back."""
    limit = RateLimit("a", concurrent=10)
    ledger = Ledger(NOW, shares={"a": WorkerShare(8, 8, NOW + 10_000)})
    ask = LimitRequest("a", 1, NOW, in_flight=1, wanted=3, lease_ms=10_000, renew_ms=1_000)
    assert (ledger.grant(ask, limit).held, ledger.grant(ask, limit).must_write) == (8, False)
    idle = ledger.grant(replace(ask, in_flight=0, wanted=0), limit)
    assert (idle.held, idle.must_write) == (0, True)


def test_a_lower_limit_lets_calls_under_way_end() -> None:
    """They are counted as they are, and no new ones begin until there is room."""
    ledger = Ledger(NOW, shares={"a": WorkerShare(8, 8, NOW + 10_000), "b": WorkerShare(2, 2, NOW + 10_000)})
    grant = ledger.grant(
        LimitRequest("a", 1, NOW, in_flight=8, wanted=8, lease_ms=9), RateLimit("a", concurrent=5)
    )
    assert (grant.held, grant.quota) == (8, 3)


@given(st.integers(0, 100), st.dictionaries(st.text(max_size=3), st.integers(0, 50)), st.integers(0, 99))
def test_shares_are_fair(total, wants, turn) -> None:
    """All is divided or all wants are met; who gets less than it wants gets no less than others, but one."""
    shares = max_min_shares(total, wants, turn)
    assert sum(shares.values()) == min(total, sum(wants.values()))
    assert all(shares[name] <= wants[name] for name in wants)
    largest = max(shares.values(), default=0)
    assert all(shares[name] >= largest - 1 for name in wants if shares[name] < wants[name])


def test_what_cannot_be_divided_goes_round() -> None:
    """Two places for four workers are somebody else's after a turn: nobody starves."""
    wants = dict.fromkeys("abcd", 9)
    assert [sorted(w for w, n in max_min_shares(2, wants, turn).items() if n) for turn in range(3)] == [
        ["a", "b"],
        ["b", "c"],
        ["c", "d"],
    ]


# -- the text


def test_a_ledger_is_read_as_it_was_written() -> None:
    """Every number of it, and whose writes are part of it."""
    ledger = Ledger(
        NOW, ArrivalTimes(NOW + 0.1, 1.5, 2.5), Tokens(1.25, 3), {"a": WorkerShare(1, 2, 3, 4, 5, 6)}
    )
    assert read_ledger(write_ledger(ledger, by="a/6"), NOW) == ledger
    assert ledger.has_written("a", 6)
    assert not ledger.has_written("a", 5)
    assert not ledger.has_written("b", 6)


def test_no_text_is_a_new_ledger() -> None:
    """Nobody has begun anything."""
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
def test_what_cannot_be_believed_counts_as_all_in_use(text) -> None:
    """A text of another version, or none, or from a clock minutes ahead: a minute's pause, a lease's wait."""
    ledger = read_ledger(text, NOW, concurrent=5, lease_ms=9_000)
    assert ledger.arrival_times == ArrivalTimes(*[NOW + WINDOW_MS] * 3)
    assert ledger.shares == {UNKNOWN_WORKER: WorkerShare(5, expires_ms=NOW + 9_000)}
    limit = RateLimit("a", requests_per_minute=600, concurrent=5)
    ask = LimitRequest("a", 1, NOW, 3, wanted=3, lease_ms=9_000)
    grant = ledger.grant(ask, limit)
    assert (grant.reservation, grant.quota, grant.must_write) == (None, 0, True)
    grant = grant.ledger.grant(replace(ask, now_ms=NOW + WINDOW_MS), limit)
    assert (grant.reservation.start_ms, grant.quota) == (NOW + WINDOW_MS, 3)


# -- estimates


def test_estimates_learn_from_what_calls_cost() -> None:
    """Four bytes are a token and a reply has `max_tokens` until a call tells otherwise."""
    estimates = TokenEstimates(4_096)
    first = estimates.of(400)
    assert first == Usage(100, 4_096)
    estimates.learn(first, estimates.ratio, Usage(150, 80))
    assert estimates.of(400) == Usage(150, 80)
    for _ in range(100):
        estimates.learn(estimates.of(400), estimates.ratio, Usage(50, 200))
    assert estimates.of(400).input_tokens == pytest.approx(50, abs=3)
    assert estimates.of(400).output_tokens == pytest.approx(200, abs=5)


def test_a_reply_without_input_tokens_teaches_only_its_output() -> None:
    """An envelope may tell one and not the other."""
    estimates = TokenEstimates()
    estimates.learn(estimates.of(400), estimates.ratio, Usage(0, 80))
    assert estimates.of(400) == Usage(100, 80)
