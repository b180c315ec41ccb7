"""Holding a batch whose budget is used up, and the end of a day's hold."""

from __future__ import annotations

import asyncio

import pytest

from service.adapters.memory import MemoryTable
from service.batch.outages import Outage
from service.domain.model import (
    Amounts,
    BatchBudgets,
    Budget,
    BudgetKind,
    Commit,
    EventKind,
    HoldReason,
    OutboxKind,
    Shortage,
    State,
)
from service.domain.operation_requests import OperationRequest
from service.steering.budgets.holding import hold_for_budget, is_day_over, lift_budget_hold
from service.steering.operate import operate
from service.steering.target_hold import hold_for_target, is_tried, lift_target_hold

ONE = Amounts(1)
OWN = BatchBudgets(Budget(calls=3))
DAY = BatchBudgets(day=Budget(calls=3))
USED_UP = Shortage(BudgetKind.CALLS, ONE.times(3), ONE)


async def hold(lab, budgets=OWN, *, is_day=False):
    """A batch of five rows that is held because three calls were made."""
    await lab.batch(5, budgets=budgets)
    batch = (await lab.view()).batch
    made = await asyncio.gather(
        *(hold_for_budget(lab.ports, batch, USED_UP, is_day=is_day) for _ in range(4))
    )
    assert any(made)
    return (await lab.view()).batch


async def test_many_processes_hold_a_batch_once(lab):
    """They make the same request."""
    batch = await hold(lab)
    assert (batch.state, batch.control) == (State.PAUSED, 1)
    assert [held.reason for held in batch.holds] == [HoldReason.BUDGET]


@pytest.mark.parametrize(
    ("op", "args"), [("set", {"max_calls": 9}), ("cancel", {}), ("pause", {})], ids=["set", "cancel", "pause"]
)
async def test_a_batch_that_was_changed_meanwhile_is_not_held(lab, op, args):
    """Its budget is another one by now, or it is not called any more."""
    await lab.batch(5, budgets=OWN)
    judged = (await lab.view()).batch
    await operate(lab.ports, OperationRequest(op, judged.batch_id, "r1", "ada", args))
    assert not await hold_for_budget(lab.ports, judged, USED_UP, is_day=False)
    assert (await lab.view()).batch.hold(HoldReason.BUDGET) is None


async def test_another_operation_does_not_keep_a_batch_from_being_held(lab):
    """The budget is what counts, not the view of the batch."""
    await lab.batch(5, budgets=OWN)
    judged = (await lab.view()).batch
    await operate(lab.ports, OperationRequest("set", judged.batch_id, "r1", "ada", {"priority": 9}))
    assert await hold_for_budget(lab.ports, judged, USED_UP, is_day=False)


async def test_a_batch_that_its_target_holds_is_held_for_its_budget_as_well(lab):
    """No trial is made any more, and the batch goes on when both holds are gone."""
    await lab.batch(5, budgets=OWN)
    assert await hold_for_target(lab.ports, await lab.view(), Outage("no connection", 0))
    batch = (await lab.view()).batch
    assert is_tried(batch)
    assert await hold_for_budget(lab.ports, batch, USED_UP, is_day=False)
    batch = (await lab.view()).batch
    assert not is_tried(batch)
    assert [held.reason for held in batch.holds] == [HoldReason.TARGET, HoldReason.BUDGET]
    await lift_target_hold(lab.ports, batch, "its target serves again")
    assert (await lab.view()).batch.state is State.PAUSED
    await operate(lab.ports, OperationRequest("resume", batch.batch_id, "r1", "ada", {"max_calls": 9}))
    assert (await lab.view()).batch.state is State.RUNNING


async def test_the_next_day_lets_trials_go_on(lab):
    """The target still holds the batch."""
    await lab.batch(5, budgets=DAY)
    await hold_for_target(lab.ports, await lab.view(), Outage("no connection", 0))
    await hold_for_budget(lab.ports, (await lab.view()).batch, USED_UP, is_day=True)
    await lab.clock.advance(86_400)
    assert await lift_budget_hold(lab.ports, (await lab.view()).batch)
    assert is_tried((await lab.view()).batch)


async def test_a_complete_batch_is_not_held(lab):
    """Its last row came first."""
    await lab.batch(2, budgets=OWN)
    judged = (await lab.view()).batch
    rows = tuple(lab.outcome(number) for number in (1, 2))
    await lab.table.commit(Commit(judged.batch_id, 1, 1, 0, rows, "t".ljust(36, "0"), judged.ttl))
    assert not await hold_for_budget(lab.ports, judged, USED_UP, is_day=False)


async def test_a_batch_that_is_gone_is_not_held(lab):
    """There is nobody to hold."""
    await lab.batch(2, budgets=OWN)
    judged = (await lab.view()).batch
    lab.table = MemoryTable()
    assert not await hold_for_budget(lab.ports, judged, USED_UP, is_day=False)


async def test_the_next_day_lifts_the_hold_of_a_day(lab):
    """Not before; and only once, however many sweepers there are."""
    batch = await hold(lab, DAY, is_day=True)
    assert not is_day_over(batch, lab.clock.now_ms())
    assert not await lift_budget_hold(lab.ports, batch)
    await lab.clock.advance(86_400)
    assert is_day_over(batch, lab.clock.now_ms())
    lifted = await asyncio.gather(*(lift_budget_hold(lab.ports, batch) for _ in range(3)))
    assert any(lifted)
    now = (await lab.view()).batch
    assert (now.state, now.generation, now.control) == (State.RUNNING, 1, 2)


async def test_the_budget_of_a_batch_has_no_day(lab):
    """Only a raise lifts its hold."""
    batch = await hold(lab)
    await lab.clock.advance(5 * 86_400)
    assert not is_day_over(batch, lab.clock.now_ms())
    assert not await lift_budget_hold(lab.ports, batch)


async def test_the_hold_is_told(lab):
    """As every pause is."""
    await lab.batch(5, budgets=OWN, event_kinds=tuple(EventKind))
    await hold_for_budget(lab.ports, (await lab.view()).batch, USED_UP, is_day=False)
    records = await lab.table.records((await lab.view()).batch.batch_id, OutboxKind.EVENT)
    assert any('"kind":"paused"' in record.text for record in records)
