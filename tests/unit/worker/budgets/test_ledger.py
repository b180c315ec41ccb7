"""The ledger of a budget: reservations, what comes back, and what a dead worker leaves."""

from __future__ import annotations

from dataclasses import replace

from service.domain.model import NO_AMOUNTS, Amounts, Budget, BudgetKind, Shortage
from service.worker.budgets.ledger import BudgetLedger, BudgetRequest, BudgetShare

ONE = Amounts(1, 100, 5)
TEN_CALLS = Budget(calls=10)


def asked(worker="w1", seq=1, **wish):
    """A request."""
    return BudgetRequest(worker, seq, **wish)


def test_calls_that_wait_are_reserved_as_far_as_they_fit():
    """Of twelve calls under a budget of ten, two are left: some may come back, so it is not used up."""
    grant = BudgetLedger().grant(asked(needs=[ONE] * 12), TEN_CALLS)
    assert grant.free == ONE.times(10)
    assert grant.ledger.reserved == ONE.times(10)
    assert (grant.is_short, grant.shortage) == (True, None)


def test_a_budget_limits_each_kind():
    """Tokens and money limit as calls do; the first kind that is exceeded decides."""
    needs = [ONE] * 5
    assert BudgetLedger().grant(asked(needs=needs), Budget(tokens=250)).free == ONE.times(2)
    assert BudgetLedger().grant(asked(needs=needs), Budget(usd=15)).free == ONE.times(3)
    assert BudgetLedger().grant(asked(needs=needs), Budget(calls=4, usd=5)).free == ONE


def test_a_small_call_passes_a_large_one_that_does_not_fit():
    """A row that is too large for the rest of the budget does not keep others from their calls."""
    large, small = Amounts(1, 900, 0), Amounts(1, 50, 0)
    grant = BudgetLedger().grant(asked(needs=[large, small]), Budget(tokens=500))
    assert (grant.free, grant.is_short, grant.shortage) == (small, True, None)


def test_a_budget_is_used_up_once_nothing_can_come_back():
    """While another worker has a reservation, it is not; with used calls only, it is, and says what lacks."""
    shares = {"w2": BudgetShare(4, used=ONE.times(7), reserved=ONE)}
    ledger = BudgetLedger(ONE.times(2), shares)
    assert ledger.grant(asked(needs=[ONE]), TEN_CALLS).shortage is None
    used = replace(ledger, shares={"w2": BudgetShare(5, used=ONE.times(8))})
    grant = used.grant(asked(needs=[ONE]), TEN_CALLS)
    assert grant.shortage == Shortage(BudgetKind.CALLS, ONE.times(10), ONE)
    assert grant.shortage.least == 11


def test_the_own_calls_under_way_may_come_back():
    """A worker whose own call has reserved the rest waits for its end."""
    ledger = BudgetLedger(shares={"w1": BudgetShare(1, used=ONE.times(9), reserved=ONE)})
    grant = ledger.grant(asked(seq=2, used=ONE.times(9), in_calls=ONE, needs=[ONE]), TEN_CALLS)
    assert (grant.is_short, grant.shortage) == (True, None)


def test_reservations_ahead_become_fewer_close_to_the_limit():
    """A worker takes at most half of its share of the room ahead of demand, and none of the last calls."""
    others = {"w2": BudgetShare(1, reserved=ONE), "w3": BudgetShare(1, reserved=ONE)}

    def ahead(settled):
        ledger = BudgetLedger(ONE.times(settled), others)
        request = asked(needs=[ONE], ahead=50, typical=ONE)
        return ledger.grant(request, Budget(calls=1_000)).free.calls - 1

    assert ahead(0) == 50
    assert ahead(900) == (1_000 - 903) // 6
    assert ahead(995) == 0


def test_without_a_limit_of_what_a_call_needs_all_of_the_demand_is_reserved():
    """A budget of tokens does not limit calls that use none."""
    free_call = Amounts(1, 0, 0)
    grant = BudgetLedger().grant(asked(ahead=7, typical=free_call), Budget(tokens=10))
    assert grant.free == free_call.times(7)


def test_only_a_change_is_written_or_an_entry_that_is_due():
    """A worker that has nothing gets no entry; one that has nothing new writes only to show that it lives."""
    empty = BudgetLedger()
    assert not empty.grant(asked(), TEN_CALLS).must_write
    assert not empty.grant(asked(is_due=True), TEN_CALLS).must_write
    ledger = empty.grant(asked(in_calls=ONE), TEN_CALLS).ledger
    assert not ledger.grant(asked(seq=2, in_calls=ONE), TEN_CALLS).must_write
    assert ledger.grant(asked(seq=2, in_calls=ONE, is_due=True), TEN_CALLS).must_write
    assert ledger.grant(asked(seq=2, used=ONE), TEN_CALLS).must_write


def test_a_raised_limit_holds_from_the_next_request_on():
    """The ledger knows no limits, so that a change of one needs no write."""
    ledger = BudgetLedger(ONE.times(10))
    assert ledger.grant(asked(needs=[ONE]), TEN_CALLS).shortage is not None
    assert ledger.grant(asked(needs=[ONE]), Budget(calls=11)).free == ONE


def test_a_worker_that_leaves_takes_its_reservation_back():
    """What it has used stays."""
    ledger = BudgetLedger(ONE, {"w1": BudgetShare(3, used=ONE, reserved=ONE.times(4))})
    left = ledger.without("w1", ONE.times(2))
    assert (left.used, left.reserved, left.shares) == (ONE.times(3), NO_AMOUNTS, {})


def test_the_reservation_of_a_dead_worker_counts_as_used():
    """Its calls may have been made."""
    ledger = BudgetLedger(ONE, {"w1": BudgetShare(3, used=ONE, reserved=ONE.times(4))})
    rest = ledger.without_dead(["w1", "unknown"])
    assert (rest.used, rest.reserved, rest.shares) == (ONE.times(6), NO_AMOUNTS, {})
    assert ledger.without_dead([]) is ledger


def test_the_ledger_knows_its_own_writes():
    """The last write of a worker is known by its number, whoever has written since."""
    ledger = BudgetLedger(shares={"w1": BudgetShare(3)})
    assert ledger.has_written("w1", 3)
    assert not ledger.has_written("w1", 2)
    assert not ledger.has_written("w2", 3)
