"""Events at 50, 80 and 100 % of a budget."""

from __future__ import annotations

import asyncio
import json

import pytest

from service.domain.model import (
    Amounts,
    BatchBudgets,
    Budget,
    BudgetKind,
    EventKind,
    HoldReason,
    OutboxKind,
    Shortage,
    State,
)
from service.steering.budgets.holding import hold_for_budget
from service.steering.budgets.marks import BudgetMark, marks_reached, tell_of_mark

BUDGETS = BatchBudgets(Budget(calls=10))


@pytest.mark.parametrize(
    ("used", "percents"), [(0, []), (4, []), (5, [50]), (8, [50, 80]), (9, [50, 80]), (12, [50, 80, 100])]
)
def test_the_marks_of_a_budget(used, percents):
    """All that are reached, of each kind that is limited."""
    found = list(marks_reached(BUDGETS.own, Amounts(calls=used, tokens=99)))
    assert [mark.percent for mark in found] == percents
    assert {mark.kind for mark in found} <= {BudgetKind.CALLS}


def test_marks_have_names_of_their_own():
    """A raised limit has its own marks, and so has each day."""
    marks = [BudgetMark(50, BudgetKind.CALLS, 10), BudgetMark(80, BudgetKind.CALLS, 10),
             BudgetMark(50, BudgetKind.CALLS, 20), BudgetMark(50, BudgetKind.TOKENS, 10),
             BudgetMark(50, BudgetKind.CALLS, 10, "2026-11-30")]  # fmt: skip
    assert len({mark.request_id for mark in marks}) == len(marks)


async def events(lab):
    """The bodies of the batch's events about its budget."""
    records = await lab.table.records((await lab.view()).batch.batch_id, OutboxKind.EVENT)
    bodies = [json.loads(record.text) for record in records]
    return [body for body in bodies if body["kind"] == EventKind.BUDGET]


async def test_each_mark_is_told_once(lab):
    """Whoever sees it first; the status says what is spent, and which mark it is."""
    await lab.batch(5, budgets=BUDGETS, event_kinds=(EventKind.BUDGET.value,))
    batch, used = (await lab.view()).batch, Amounts(calls=8)
    marks = list(marks_reached(BUDGETS.own, used))
    budget = {"calls": {"cap": 10, "spent": 8}}
    for _ in range(2):
        await asyncio.gather(*(tell_of_mark(lab.ports, batch, mark, used, budget) for mark in marks))
    told = await events(lab)
    assert sorted(body["status"]["budget"]["reached"]["percent"] for body in told) == [50, 80]
    assert len({body["id"] for body in told}) == 2
    assert told[0]["status"]["budget"]["calls"] == {"cap": 10, "spent": 8}
    assert (await lab.view()).batch.state is State.RUNNING


async def test_a_mark_of_a_held_batch_is_told(lab):
    """The budget holds it at the moment at which its last mark is reached."""
    await lab.batch(5, budgets=BUDGETS, event_kinds=(EventKind.BUDGET.value,))
    batch, used = (await lab.view()).batch, Amounts(calls=10)
    shortage = Shortage(BudgetKind.CALLS, used, Amounts(calls=1))
    assert await hold_for_budget(lab.ports, batch, shortage, is_day=False)
    await tell_of_mark(lab.ports, batch, BudgetMark(100, BudgetKind.CALLS, 10), used, {})
    [told] = await events(lab)
    assert told["status"]["budget"]["reached"]["percent"] == 100
    batch = (await lab.view()).batch
    assert (batch.state, batch.hold(HoldReason.BUDGET) is None) == (State.PAUSED, False)


async def test_a_batch_that_has_ended_is_told_of_no_more(lab):
    """Its end says it all."""
    await lab.batch(1, budgets=BUDGETS, event_kinds=(EventKind.BUDGET.value,), state=State.CANCELLED)
    batch = (await lab.view()).batch
    await tell_of_mark(lab.ports, batch, BudgetMark(50, BudgetKind.CALLS, 10), Amounts(calls=5), {})
    assert await events(lab) == []
