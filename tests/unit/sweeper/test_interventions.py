"""Operations and the sweeper: holds end, and work that nobody does is done."""

from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from service.domain.events import decode_ingest
from service.domain.jobs import Job
from service.domain.model import Checkpoint, Commit, Dialect, Hold, HoldReason, State, iso_time
from service.domain.operation_requests import OperationRequest
from service.steering.operate import operate
from service.sweeper.sweep_limits import HOLD_S

ROWS = 6
TEXT = "id,name\n" + "".join(f"{n},name {n}\n" for n in range(1, ROWS + 1))
DAY_S = 86_400


@asynccontextmanager
async def sweeping(lab, **limits):
    async with lab.committer(linger_s=0) as committer:
        yield lab.sweeper(committer, **limits)


async def sweeps(lab, sweeper, times, every_s=60.0):
    for _ in range(times):
        await sweeper.sweep()
        await lab.clock.advance(every_s)


async def running(lab, total=ROWS, **changes):
    source = await lab.put(TEXT)
    now_ms = lab.clock.now_ms()
    ttl = now_ms // 1000 + 14 * DAY_S
    return await lab.batch(
        total, source=source, dialect=Dialect("utf-8", ","), ttl=ttl, created_at=iso_time(now_ms), **changes
    )


async def do(lab, op, **args):
    control = (await stored(lab)).control
    await operate(lab.ports, OperationRequest(op, "demo#e1", f"r{control}", "ada", args))


async def stored(lab):
    return (await lab.view()).batch


async def held(lab, reason=HoldReason.FAILURES, total=ROWS, **changes):
    """A batch that is held by something other than its user."""
    hold = Hold(reason, "rowfleet", iso_time(lab.clock.now_ms()), {"reason": "why"})
    batch = await running(lab, total, **changes)
    lab.table._batches[batch.batch_id] = held = replace(batch, state=State.PAUSED, holds=(hold,))
    return held


# -- holds ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("total", [None, ROWS])
async def test_a_batch_that_is_held_is_not_stuck(lab, total):
    """Nothing is sent for it, however long it stands still."""
    await running(lab, total)
    await do(lab, "pause")
    before = await stored(lab)
    async with sweeping(lab) as sweeper:
        await sweeps(lab, sweeper, 30, every_s=3_600)
    assert await stored(lab) == before
    assert await lab.sent_rows() == await lab.waiting(lab.ingest) == await lab.waiting(lab.aggregate) == []


@pytest.mark.parametrize("hold_s", [None, 7_200])
async def test_a_hold_ends_when_its_time_is_over(lab, hold_s):
    """The batch is cancelled with the reason; its rows fail, and the results are written."""
    batch = await held(lab, hold_s=hold_s)
    async with sweeping(lab) as sweeper:
        await sweeper.sweep()
        await lab.clock.advance((hold_s or HOLD_S) - 1)
        await sweeper.sweep()
        assert (await stored(lab)).state is State.PAUSED
        await lab.clock.advance(1)
        await sweeper.sweep()
        assert (await stored(lab)).cancel_reason.startswith(
            "it was held and nobody went on with it: failures"
        )
        await lab.clock.advance(60)
        await sweeper.sweep()
    view = await lab.view()
    assert (view.batch.state, view.counts.cancelled) == (State.AGGREGATING, ROWS)
    error = (await lab.outcomes(batch))[1].error
    assert error.type == "CancelledError"
    assert "nobody went on with it: failures (by rowfleet" in error.message


async def test_a_users_hold_ends_a_day_before_the_rows_expire(lab):
    """Their results would be lost otherwise."""
    await running(lab)
    await do(lab, "pause")
    async with sweeping(lab) as sweeper:
        await lab.clock.advance(13 * DAY_S - 1)
        await sweeper.sweep()
        assert (await stored(lab)).state is State.PAUSED
        await lab.clock.advance(1)
        await sweeper.sweep()
    assert "its rows expire at" in (await stored(lab)).cancel_reason


async def test_many_sweepers_end_a_hold_once(lab):
    """They make the same request."""
    batch = await held(lab)
    await lab.clock.advance(HOLD_S)
    for _ in range(3):
        async with sweeping(lab) as sweeper:
            await sweeper.sweep()
    (operation,) = await lab.table.operations(batch)
    assert (operation.op, operation.by) == ("cancel", "rowfleet")


async def test_a_deadline_that_passes_while_a_batch_is_held_ends_it(lab):
    """Its rows fail by the deadline, whoever holds it."""
    batch = await running(lab, deadline_at=iso_time(lab.clock.now_ms() + 600_000))
    await do(lab, "pause")
    async with sweeping(lab) as sweeper:
        await lab.clock.advance(599)
        await sweeper.sweep()
        assert (await stored(lab)).state is State.PAUSED
        await lab.clock.advance(1)
        await sweeper.sweep()
        assert (await stored(lab)).state is State.RUNNING
        await sweeper.sweep()
    view = await lab.view()
    assert (view.batch.state, view.counts.failed) == (State.AGGREGATING, ROWS)
    assert (await lab.outcomes(batch))[1].error.type == "DeadlineError"
    assert await lab.sent_rows() == []


async def test_a_deadline_that_passes_while_a_split_is_held_has_it_split_on(lab):
    """The rows that were not read have to fail as well, so that the results have them."""
    batch = await running(
        lab, None, deadline_at=iso_time(lab.clock.now_ms() + 600_000), checkpoint=Checkpoint(3, 35, 5)
    )
    await do(lab, "pause")
    await lab.clock.advance(600)
    async with sweeping(lab) as sweeper:
        await sweeper.sweep()
    (body,) = await lab.waiting(lab.ingest)
    again = decode_ingest(Job.again_for(batch).encode()).jobs
    assert decode_ingest(body).jobs == again
    await lab.splitter().handle(lab.delivery(body))
    async with sweeping(lab) as sweeper:
        await sweeper.sweep()
    assert (await lab.view()).counts.failed == ROWS


# -- work ----------------------------------------------------------------------------------------------------


async def test_work_whose_message_is_lost_is_done(lab):
    """A resume whose process died before its message was sent."""
    await running(lab)
    await do(lab, "pause")
    await do(lab, "resume")
    await lab.waiting(lab.ingest)
    async with sweeping(lab) as sweeper:
        await sweeps(lab, sweeper, 5)
        assert await lab.sent_rows() == []
        await sweeps(lab, sweeper, 2)
    assert [row.number for row in await lab.sent_rows()] == list(range(1, ROWS + 1))
    assert (await stored(lab)).work is None


async def test_rows_of_a_cancelled_batch_fail_though_the_message_is_lost(lab):
    """Once no call can be under way any more; those that are done stay."""
    batch = await running(lab)
    await lab.table.commit(
        Commit(batch.batch_id, 1, batch.partitions, 0, (lab.outcome(2),), "t" * 36, batch.ttl)
    )
    await do(lab, "cancel", grace=30)
    async with sweeping(lab) as sweeper:
        await sweeps(lab, sweeper, 2, every_s=20)
        assert (await lab.view()).counts.cancelled == 0
        await sweeper.sweep()
    view = await lab.view()
    assert (view.batch.state, view.counts.succeeded, view.counts.cancelled) == (State.AGGREGATING, 1, 5)


async def test_work_that_somebody_does_is_left_alone(lab):
    """The lease shows it."""
    await running(lab)
    await do(lab, "pause")
    await do(lab, "resume")
    batch = await stored(lab)
    async with sweeping(lab) as sweeper:
        for _ in range(10):
            now_ms = lab.clock.now_ms()
            await lab.table.lease(
                batch, state=batch.state, owner="w", now_ms=now_ms, until_ms=now_ms + 100_000
            )
            await sweeps(lab, sweeper, 1)
    assert await lab.sent_rows() == []
