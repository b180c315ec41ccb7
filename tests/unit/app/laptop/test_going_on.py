"""A batch that an earlier process has left, in each state that it may be in."""

import pytest

from service.app.laptop.going_on import go_on
from service.domain.errors import UsageError
from service.domain.model import Amounts, BatchBudgets, Budget, BudgetKind, Shortage, State
from service.domain.operation_requests import OperationRequest
from service.steering.budgets.holding import hold_for_budget
from service.steering.operate import operate


async def left(lab, **changes):
    """A batch as an earlier process has left it, with empty queues."""
    batch = await lab.batch(**changes)
    view = await lab.table.read(batch.batch_id)
    await go_on(lab.ports, view, "me")
    return (await lab.table.read(batch.batch_id)).batch, view.batch


@pytest.mark.parametrize("total", [3, None])
async def test_all_messages_of_the_earlier_process_are_out_of_use(lab, total):
    """The next generation begins at once, by nobody's sending so far, and the log says why."""
    state = State.SPLITTING if total is None else State.RUNNING
    lease = {"lease_owner": "dead", "lease_until_ms": 2**50}
    batch, before = await left(lab, total=total, state=state, sender="dead", **lease)
    assert batch.lease_owner == ""
    assert (batch.generation, batch.sender, batch.state) == (before.generation + 1, "", state)
    assert batch.work is not None
    assert await lab.ingest.depth() == 1
    (operation,) = await lab.table.operations(batch)
    assert operation.args["reason"] == "the process that ran it had ended"


async def test_a_result_that_was_being_written_is_written(lab):
    """The lease of the dead process is given back, and the aggregator is told at once."""
    batch, _ = await left(lab, state=State.AGGREGATING, lease_owner="dead", lease_until_ms=2**50)
    assert batch.lease_owner == ""
    assert await lab.aggregate.depth() == 1


async def test_a_held_batch_is_resumed(lab):
    """The user has run the same command again, which is a resume."""
    batch = await lab.batch()
    await operate(lab.ports, OperationRequest("pause", batch.batch_id, "r1", "me"))
    view = await lab.table.read(batch.batch_id)
    await go_on(lab.ports, view, "me")
    batch = (await lab.table.read(batch.batch_id)).batch
    assert (batch.state, batch.holds, batch.sender) == (State.RUNNING, (), "")


async def test_a_cancel_goes_on(lab):
    """A batch that was cancelled stays so: the work of the cancel is sent again."""
    batch = await lab.batch()
    await operate(lab.ports, OperationRequest("cancel", batch.batch_id, "r1", "me"))
    sent = await lab.ingest.depth()
    view = await lab.table.read(batch.batch_id)
    await go_on(lab.ports, view, "me")
    again = (await lab.table.read(batch.batch_id)).batch
    assert (again.generation, again.cancelled_at) == (view.batch.generation, view.batch.cancelled_at)
    assert await lab.ingest.depth() == sent + 1


async def test_a_batch_whose_budget_is_used_up_goes_on_with_a_higher_one(lab):
    """As a resume does; without it, it is refused. One that is not held yet gets the budget as well."""
    batch = await lab.batch(budgets=BatchBudgets(Budget(calls=2)))
    used_up = Shortage(BudgetKind.CALLS, Amounts(calls=2), Amounts(calls=1))
    await hold_for_budget(lab.ports, batch, used_up, is_day=False)
    view = await lab.table.read(batch.batch_id)
    with pytest.raises(UsageError, match="--max-calls N"):
        await go_on(lab.ports, view, "me")
    await go_on(lab.ports, view, "me", {"max_calls": 3})
    view = await lab.table.read(batch.batch_id)
    assert (view.batch.state, view.batch.budgets.own.calls) == (State.RUNNING, 3)
    await go_on(lab.ports, view, "me", {"max_calls": 9})
    assert (await lab.table.read(batch.batch_id)).batch.budgets.own.calls == 9
