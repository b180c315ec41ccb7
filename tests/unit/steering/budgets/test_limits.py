"""Budgets that somebody changes, and what lifts the hold of one that is used up."""

from __future__ import annotations

from dataclasses import replace

import pytest

from service.domain.errors import UsageError
from service.domain.model import (
    Amounts,
    Batch,
    BatchBudgets,
    BatchView,
    Budget,
    BudgetKind,
    Counts,
    Hold,
    HoldReason,
    Location,
    Shortage,
    Source,
    Spending,
    State,
)
from service.domain.operation_requests import OperationRequest
from service.steering.budgets.limits import DAY_MS, budget_hold, is_over, price_problem, with_budget
from service.steering.decisions import DECISIONS

NOW_MS = 1_700_000_000_000  # 22:13:20 UTC
MIDNIGHT = "2023-11-15T00:00:00.000Z"
ONE = Amounts(1, 100, 5)
PRICES = {"currency": "USD", "per_call": 5}
BUDGETS = BatchBudgets(Budget(calls=300))
BATCH = Batch("demo", "e1", State.RUNNING, Source("in", "k"), Location("out", ""), total=900, budgets=BUDGETS)
USED_UP = Shortage(BudgetKind.CALLS, ONE.times(300), ONE)
USER = Hold(HoldReason.USER, "ada", "2023-11-14T00:00:00.000Z")


def held(batch=BATCH, shortage=USED_UP, *, is_day=False, holds=()):
    """The batch, held because its budget is used up."""
    hold = budget_hold(batch, shortage, is_day=is_day, by="rowfleet", now_ms=NOW_MS)
    return replace(batch, state=State.PAUSED, holds=(hold, *holds))


def decide(op, batch, now_ms=NOW_MS, spending=None, **args):
    """The decision on a request."""
    view = BatchView(batch, Counts(succeeded=300), spending or Spending())
    return DECISIONS[op](view, OperationRequest(op, batch.batch_id, "r1", "bob", args), now_ms)


def test_the_hold_says_what_is_spent_and_how_to_go_on():
    """With the least limit that helps."""
    [hold] = held().holds
    assert hold.detail == {
        "reason": "its budget is used up: 300 calls of 300 calls, and the next call may need 1 call; "
        "`rowfleet resume demo#e1 --max-calls N` goes on, with N from 301",
        "budget": "batch", "kind": "calls", "cap": 300, "spent": 300, "least": 301,
    }  # fmt: skip


def test_the_hold_of_a_day_says_until_when():
    """It ends at midnight in UTC."""
    batch = replace(BATCH, budgets=BatchBudgets(day=Budget(usd=1_000)))
    shortage = Shortage(BudgetKind.USD, Amounts(9, 9, 998), ONE)
    [hold] = held(batch, shortage, is_day=True).holds
    assert hold.detail["until"] == MIDNIGHT
    assert (hold.detail["budget"], hold.detail["cap"], hold.detail["spent"]) == (
        "day",
        "0.00001",
        "0.00000998",
    )
    assert MIDNIGHT in hold.detail["reason"]


def test_a_resume_without_a_higher_budget_is_refused():
    """In the words of the hold, which name the remedy."""
    with pytest.raises(UsageError, match=r"--max-calls N` goes on, with N from 301"):
        decide("resume", held())
    with pytest.raises(UsageError, match="--max-calls"):
        decide("resume", held(), budget_tokens=5_000)


@pytest.mark.parametrize("limit", [301, 1_000, "400"])
def test_a_resume_with_a_higher_budget_goes_on(limit):
    """All rows without an outcome are sent again."""
    after = decide("resume", held(), max_calls=limit).after
    assert (after.state, after.holds, after.generation) == (State.RUNNING, (), 1)
    assert after.budgets.own == Budget(calls=int(limit))


def test_a_resume_does_not_lower_a_budget():
    """`set` may."""
    with pytest.raises(UsageError, match="rowfleet set demo#e1"):
        decide("resume", held(), max_calls=299)
    assert decide("set", BATCH, max_calls=10).after.budgets.own == Budget(calls=10)


def test_a_resume_of_a_running_batch_changes_no_budget():
    """The command for that is named."""
    with pytest.raises(UsageError, match="rowfleet set"):
        decide("resume", BATCH, max_calls=500)


def test_after_a_set_a_plain_resume_goes_on():
    """The hold is compared with the present budget."""
    batch = decide("set", held(), max_calls=500).after
    assert (batch.state, batch.budgets.own.calls) == (State.PAUSED, 500)
    assert decide("resume", batch).after.state is State.RUNNING


def test_a_batch_that_its_user_holds_too_stays_held_for_the_other_reason():
    """A resume without a raise ends the user's hold only, one with a raise both."""
    both = held(holds=(USER,))
    decision = decide("resume", both)
    assert [hold.reason for hold in decision.after.holds] == ["budget"]
    assert "still held: budget" in decision.text
    assert decide("resume", both, max_calls=301).after.holds == ()


def test_a_day_ends_by_itself():
    """Before that a resume is refused, unless the present budget allows another call."""
    batch = replace(BATCH, budgets=BatchBudgets(day=Budget(calls=300)))
    paused = held(batch, is_day=True)
    with pytest.raises(UsageError, match=MIDNIGHT):
        decide("resume", paused)
    assert decide("resume", paused, NOW_MS + DAY_MS).after.state is State.RUNNING
    raised = replace(paused, budgets=BatchBudgets(day=Budget(calls=301)))
    assert decide("resume", raised).after.state is State.RUNNING
    assert is_over(paused.holds[0], replace(paused, budgets=BatchBudgets()), NOW_MS)


def test_a_first_budget_counts_what_was_used_before():
    """No ledger knows of it; a later change of the budget keeps it."""
    batch = replace(BATCH, budgets=BatchBudgets())
    spent = Spending(calls=40, input_tokens=900, output_tokens=100, cost=77)
    after = decide("set", batch, spending=spent, max_calls=100).after
    assert after.budgets == BatchBudgets(Budget(calls=100), before=Amounts(40, 1_000, 77))
    assert after.budgets.left_for_ledger == Budget(calls=60)
    again = decide("set", after, spending=Spending(calls=90), budget_tokens=5_000).after
    assert again.budgets.own == Budget(calls=100, tokens=5_000)
    assert again.budgets.before == Amounts(40, 1_000, 77)
    [hold] = held(after, Shortage(BudgetKind.CALLS, ONE.times(60), ONE)).holds
    assert (hold.detail["spent"], hold.detail["least"]) == (100, 101)


def test_a_set_says_what_the_budget_is():
    """Asked for again, it changes nothing."""
    decision = decide("set", BATCH, max_calls=500, budget_tokens="9000")
    assert "a budget of 500 calls and 9,000 tokens" in decision.text
    assert decide("set", BATCH, max_calls=300).after is None


@pytest.mark.parametrize(
    ("prices", "problem"),
    [(None, "not known"), ({"currency": "EUR", "per_call": 5}, "in USD, and `pricing` states EUR")],
)
def test_money_needs_a_price_in_dollars(prices, problem):
    """The text names what to do."""
    assert problem in price_problem(Budget(usd=5), prices)
    assert "`pricing`" in price_problem(Budget(usd=5), prices)
    assert not price_problem(Budget(calls=5), prices)
    assert not price_problem(Budget(usd=5), PRICES)
    with pytest.raises(UsageError, match=r"demo#e1: .*pricing"):
        with_budget(BatchView(replace(BATCH, prices=prices), Counts()), Budget(usd=5))
