"""The hold of a batch for its target."""

import asyncio
from dataclasses import replace

import pytest

from service.batch.outages import Outage
from service.domain.model import Counts, Hold, HoldReason, State, WorkKind, iso_time
from service.domain.operation_requests import OperationRequest
from service.steering.operate import operate
from service.steering.target_hold import answered, has_served, hold_for_target, is_tried, lift_target_hold

OUTAGE = Outage("AgentOutageError: connection refused", 1_700_000_000_000)


async def held(lab, **changes):
    await lab.batch(5, **changes)
    assert await hold_for_target(lab.ports, await lab.view(), OUTAGE)
    return (await lab.view()).batch


async def do(lab, op, request_id="r1"):
    return await operate(lab.ports, OperationRequest(op, "demo#e1", request_id, "ada"))


async def test_a_hold_keeps_the_generation_and_sends_nothing(lab):
    """So that rows that are under way count, and trials are known."""
    batch = await held(lab)
    assert (batch.state, batch.generation, batch.control, batch.work) == (State.PAUSED, 0, 1, None)
    assert await lab.waiting(lab.ingest) == []
    assert is_tried(batch)


async def test_the_end_of_a_hold_sends_every_row_again(lab):
    """As a resume does; a second lift changes nothing."""
    batch = await held(lab)
    await asyncio.gather(*(lift_target_hold(lab.ports, batch, "it serves again") for _ in range(4)))
    now = (await lab.view()).batch
    assert (now.state, now.generation, now.control, now.holds) == (State.RUNNING, 1, 2, ())
    assert now.work.kind is WorkKind.SEND
    await lift_target_hold(lab.ports, batch, "it serves again")
    assert (await lab.view()).batch == now


@pytest.mark.parametrize("op", ["cancel", "pause", "set"])
async def test_a_batch_that_was_changed_since_it_was_judged_is_not_held(lab, op):
    """The judgement was made on another state."""
    await lab.batch(5)
    view = await lab.view()
    await operate(
        lab.ports, OperationRequest(op, "demo#e1", "r1", "ada", {"priority": 9} if op == "set" else {})
    )
    assert not await hold_for_target(lab.ports, view, OUTAGE)
    assert (await lab.view()).batch.hold(HoldReason.TARGET) is None


async def test_a_batch_with_another_answered_row_is_not_held(lab):
    """The target has served meanwhile."""
    await lab.batch(5)
    view = await lab.view()
    assert not await hold_for_target(lab.ports, replace(view, counts=Counts(rejected=1)), OUTAGE)
    assert (await lab.view()).batch.state is State.RUNNING


async def test_a_batch_that_is_gone_is_left_alone(lab):
    """It has expired since."""
    await lab.batch(5)
    view = await lab.view()
    del lab.table._batches["demo#e1"]
    assert not await hold_for_target(lab.ports, view, OUTAGE)
    await lift_target_hold(lab.ports, view.batch, "why")


async def test_the_hold_of_a_user_stays(lab):
    """The batch goes on once it has none."""
    batch = await held(lab)
    await do(lab, "pause")
    assert not is_tried((await lab.view()).batch)
    await lift_target_hold(lab.ports, batch, "it serves again")
    now = (await lab.view()).batch
    assert (now.state, [hold.reason for hold in now.holds], now.work) == (State.PAUSED, ["user"], None)
    await do(lab, "resume", "r2")
    assert (await lab.view()).batch.state is State.RUNNING


async def test_a_resume_of_the_user_lifts_it(lab):
    """And a cancel ends the batch."""
    await held(lab)
    await do(lab, "resume")
    assert (await lab.view()).batch.state is State.RUNNING
    assert await hold_for_target(lab.ports, await lab.view(), OUTAGE)
    await do(lab, "cancel", "r2")
    now = (await lab.view()).batch
    assert (now.state, now.holds, now.work.kind) == (State.RUNNING, (), WorkKind.CANCEL)


@pytest.mark.parametrize(
    ("counts", "served", "rows"),
    [
        (Counts(succeeded=3, reused=1), False, 2),
        (Counts(succeeded=4, reused=1), True, 3),
        (Counts(succeeded=5, reused=3), False, 2),
        (Counts(succeeded=3, reused=1, failed=5, rejected=2, transient=1, unavailable=2), False, 4),
    ],
)
async def test_rows_that_were_answered(lab, counts, served, rows):
    """Reused replies and failures without an answer are none. A rejected row may have been sent or not."""
    hold = Hold(HoldReason.TARGET, "rowfleet", iso_time(lab.clock.now_ms()), {"served": 2})
    await lab.batch(9, state=State.PAUSED, holds=(hold,))
    view = replace(await lab.view(), counts=counts)
    assert has_served(view) == served
    assert answered(counts) == rows
