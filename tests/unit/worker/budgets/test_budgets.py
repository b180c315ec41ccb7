"""Rows of a batch with a budget: what is called, what is held, and what calls cost the budget."""

from __future__ import annotations

import asyncio

from service.domain.model import Amounts, BatchBudgets, Budget, HoldReason, State
from service.domain.operation_requests import OperationRequest
from service.steering.operate import operate
from service.worker.budgets.records import read_uses


async def run(lab, batch, numbers, budgets=None):
    """Have one worker handle rows of the batch, one after the other; return the calls of the agent."""
    before = len(lab.agent.calls)
    budgets = budgets or lab.budgets()
    async with lab.working(budgets=budgets) as worker:
        for number in numbers:
            task = asyncio.create_task(worker.handle(lab.delivery(lab.row(number, batch).encode())))
            await lab.until(task.done, step_s=0.25)
            await task
        closing = asyncio.create_task(budgets.close())
        await lab.until(closing.done, step_s=0.25)
        await closing
    return len(lab.agent.calls) - before


async def used(lab, batch):
    """What the batch has used, and what is reserved."""
    uses = await read_uses(lab.table, batch, lab.clock)
    return uses.own.used, uses.own.reserved


async def test_no_call_goes_beyond_the_budget_and_the_batch_is_held(lab):
    """Three of five rows are called; the others go back without an attempt."""
    await lab.batch(5, budgets=BatchBudgets(Budget(calls=3)))
    batch = (await lab.view()).batch
    assert await run(lab, batch, range(1, 6)) == 3
    view = await lab.view()
    assert (view.counts.succeeded, view.batch.state) == (3, State.PAUSED)
    assert view.batch.hold(HoldReason.BUDGET).detail["least"] == 4
    assert await used(lab, batch) == (Amounts(calls=3), Amounts())
    rows = await lab.sent_rows()
    assert all(row.attempt == 1 and row.replay for row in rows)


async def test_a_raise_lets_the_rest_be_called(lab):
    """Another process goes on with what the first has used."""
    await lab.batch(5, budgets=BatchBudgets(Budget(calls=3)))
    await run(lab, (await lab.view()).batch, range(1, 6))
    await operate(lab.ports, OperationRequest("resume", "demo#e1", "r1", "ada", {"max_calls": 5}))
    batch = (await lab.view()).batch
    rows = [lab.row(number, batch, generation=batch.generation) for number in (4, 5)]
    budgets = lab.budgets()
    async with lab.working(budgets=budgets) as worker:
        for row in rows:
            task = asyncio.create_task(worker.handle(lab.delivery(row.encode())))
            await lab.until(task.done, step_s=0.25)
            await task
        closing = asyncio.create_task(budgets.close())
        await lab.until(closing.done, step_s=0.25)
    assert len(lab.agent.calls) == 5
    assert (await lab.view()).counts.succeeded == 5


async def test_batches_of_a_mapping_share_its_day(lab):
    """What one has used the other one lacks; both are held until midnight."""
    day = BatchBudgets(day=Budget(calls=2))
    first = await lab.batch(2, budgets=day)
    second = await lab.batch(2, execution_id="e2", budgets=day)
    assert await run(lab, first, [1]) == 1
    assert await run(lab, second, [1, 2]) == 1
    view = await lab.view("demo#e2")
    assert view.batch.hold(HoldReason.BUDGET).detail["until"].endswith("T00:00:00.000Z")
    assert (await lab.view()).batch.state is State.RUNNING
    assert await run(lab, first, [2]) == 0
    assert (await lab.view()).batch.state is State.PAUSED


async def test_a_batch_without_a_budget_has_no_ledger(lab):
    """Nothing is written for it."""
    batch = await lab.batch(2)
    assert await run(lab, batch, [1, 2]) == 2
    assert lab.metrics.totals["budget_writes"] == 0
