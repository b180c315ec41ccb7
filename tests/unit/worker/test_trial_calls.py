"""Trials at a worker."""

import asyncio

import pytest

from service.domain.errors import AgentOutageError, AgentTimeoutError, UnreachableError
from service.domain.messages import RowMessage
from service.domain.model import Hold, HoldReason, State, iso_time
from service.steering.trials import FIRST_PAUSE_S, Trials


@pytest.fixture
async def batch(lab):
    """A batch that its target holds, with one trial sent."""
    hold = Hold(HoldReason.TARGET, "rowfleet", iso_time(lab.clock.now_ms()), {"served": 0})
    opened = await lab.batch(10, state=State.PAUSED, holds=(hold,))
    await lab.clock.advance(FIRST_PAUSE_S)
    assert await Trials(lab.table, lab.clock).send(opened, by="s1") == 1
    return opened


def trial(lab, batch, number=1, row=4, **more):
    return lab.row(row, batch, replay=True, trial=number, **more).encode()


async def state_of(lab, batch):
    return await Trials(lab.table, lab.clock).read(batch)


async def test_only_a_trial_is_called_in_a_batch_that_its_target_holds(lab, batch):
    """Other rows are dropped, as in every batch that is held."""
    async with lab.working() as worker:
        await worker.handle(lab.delivery(trial(lab, batch, 0)))
        assert lab.agent.calls == []
        await worker.handle(lab.delivery(trial(lab, batch)))
    assert [call.id for call in lab.agent.calls] == [f"{batch.identity}/1/4"]
    assert (await lab.view()).batch.state is State.RUNNING


async def test_copies_of_a_trial_are_called_once(lab, batch):
    """At two workers at the same time, or one after the other."""
    lab.agent.script = lambda _: lab.clock.sleep(5)
    async with lab.working() as one, lab.working(name="w2") as other:
        body = trial(lab, batch)
        tasks = [asyncio.create_task(worker.handle(lab.delivery(body))) for worker in (one, other, one)]
        await lab.until(lambda: all(task.done() for task in tasks), step_s=1.0)
        await other.handle(lab.delivery(body, receives=2))
    assert len(lab.agent.calls) == 1


@pytest.mark.parametrize("error", [AgentOutageError("down"), AgentTimeoutError("no answer within 10 s")])
async def test_a_trial_without_an_answer_ends(lab, batch, error):
    """Another one may begin. The row is neither sent again nor FAILED."""
    lab.agent.script = lambda _: error
    async with lab.working() as worker:
        await worker.handle(lab.delivery(trial(lab, batch)))
    state = await state_of(lab, batch)
    assert (state.begun, state.busy_until_ms, state.served_ms) == (1, 0, 0)
    assert await lab.waiting(lab.rows) == []
    assert await lab.outcomes(batch) == {}


async def test_the_call_of_a_dead_worker_ends_when_its_time_is_over(lab, batch):
    """It has the mapping's time-out, and the grace of an agent that ignores it."""
    lab.agent.script = lambda _: lab.clock.sleep(1_000)
    async with lab.working() as worker:
        task = asyncio.create_task(worker.handle(lab.delivery(trial(lab, batch))))
        await lab.until(lambda: bool(lab.agent.calls))
        began_ms = lab.clock.now_ms()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert (await state_of(lab, batch)).busy_until_ms == began_ms + 15_000


async def test_a_trial_that_is_turned_away_waits_as_it_is(lab, batch):
    """The worker's own circuit breaker is open; the row's budget does not run meanwhile."""
    lab.agent.script = lambda _: AgentOutageError("down")
    running = await lab.batch(10, execution_id="e2")
    async with lab.working(inline_wait_s=0.0) as worker:
        for number in range(1, 7):
            await worker.handle(lab.delivery(lab.row(number, running).encode()))
        await lab.waiting(lab.rows)
        await worker.handle(lab.delivery(trial(lab, batch)))
        calls = len(lab.agent.calls)
        await lab.clock.advance(5)
        (body,) = [body for body in await lab.waiting(lab.rows) if '"trial"' in body]
    again = RowMessage.decode(body)
    assert (again.trial, again.number, again.first_attempt_ms) == (1, 4, None)
    assert (await state_of(lab, batch)).begun == 0
    assert calls == 5


async def test_the_sweeper_knows_of_a_trial_whose_worker_could_not_lift_the_hold(lab, batch):
    """Its outcome is committed in any case."""

    async def refuse(*_, **__):
        raise UnreachableError("no table")

    lab.table.operate = refuse
    async with lab.working() as worker:
        await worker.handle(lab.delivery(trial(lab, batch)))
    assert (await lab.view()).batch.state is State.PAUSED
    assert (await lab.view()).counts.succeeded == 1
    assert (await state_of(lab, batch)).served_ms
