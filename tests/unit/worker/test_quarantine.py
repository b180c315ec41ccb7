"""Rows whose workers died come again a few at a time."""

import asyncio

import pytest

from service.domain.errors import AgentThrottledError
from service.domain.model import State, Status
from service.worker.quarantine import Quarantine


def test_the_lane_begins_with_one_place_and_widens_with_each_row_that_gets_through():
    """One at first; each that comes out alive makes room for one more."""
    quarantine = Quarantine()
    with quarantine.admit() as first, quarantine.admit() as second:
        assert (first, second) == (True, False)
    with quarantine.admit(), quarantine.admit() as second:
        assert second
        with quarantine.admit() as third:
            assert not third


def test_a_row_that_breaks_off_gives_back_its_place_and_widens_nothing():
    """What was cancelled or crashed proved nothing."""
    quarantine = Quarantine()
    with pytest.raises(asyncio.CancelledError), quarantine.admit():
        raise asyncio.CancelledError
    with quarantine.admit() as first, quarantine.admit() as second:
        assert (first, second) == (True, False)


def test_a_row_that_asks_for_the_lane_alone_gets_all_of_it():
    """It waits until nobody is inside, and nobody comes in beside it."""
    quarantine = Quarantine()
    for _ in range(3):
        with quarantine.admit():
            pass
    with quarantine.admit() as shared, quarantine.admit(alone=True) as refused:
        assert (shared, refused) == (True, False)
    with quarantine.admit(alone=True) as whole, quarantine.admit() as refused:
        assert (whole, refused) == (True, False)
    with quarantine.admit() as first, quarantine.admit() as second:
        assert (first, second) == (True, True)


async def test_a_row_whose_worker_died_in_the_lane_runs_there_alone(lab):
    """Its next neighbours in the lane do not share its fate again."""
    batch = await lab.batch(5)
    going_on = asyncio.Event()

    async def answer(invocation):
        if invocation.body["name"] in ("name 4", "name 5"):
            await going_on.wait()
        return {"answer": "fine"}

    lab.agent.script = answer
    async with lab.working(max_lost=10) as worker:
        for number in (1, 2, 3):  # the lane is wide by now
            await worker.handle(lab.delivery(lab.row(number, batch, lost_deliveries=5).encode()))
        first = asyncio.create_task(
            worker.handle(lab.delivery(lab.row(4, batch, lost_deliveries=5).encode()))
        )
        await lab.until(lambda: lab.agent.running == 1)
        await worker.handle(lab.delivery(lab.row(5, batch, lost_deliveries=5).encode(), receives=2))
        assert lab.agent.running == 1
        going_on.set()
        await first
    assert sorted(await lab.outcomes(batch)) == [1, 2, 3, 4]
    await lab.clock.advance(16)
    assert await lab.sent_rows() == [lab.row(5, batch, lost_deliveries=6, replay=True)]


async def test_a_second_row_that_was_lost_waits_in_its_queue(lab):
    """It is not held beside the first: whatever kills that one's worker costs it no delivery."""
    batch = await lab.batch(2)
    going_on = asyncio.Event()

    async def answer(invocation):
        await going_on.wait()
        return {"answer": "late"}

    lab.agent.script = answer
    async with lab.working() as worker:
        first = asyncio.create_task(
            worker.handle(lab.delivery(lab.row(1, batch, lost_deliveries=5).encode()))
        )
        await lab.until(lambda: lab.agent.running == 1)
        await worker.handle(lab.delivery(lab.row(2, batch, lost_deliveries=5).encode(), receives=3))
        assert len(lab.agent.calls) == 1
        going_on.set()
        await first
    assert await lab.sent_rows() == []
    await lab.clock.advance(16)
    assert await lab.sent_rows() == [lab.row(2, batch, lost_deliveries=7, replay=True)]
    assert list(await lab.outcomes(batch)) == [1]


async def test_a_row_that_was_lost_begins_a_little_late(lab):
    """What was received together with it and finds no place has left the process by then."""
    batch = await lab.batch(1)
    async with lab.working(quarantine_pause_s=1.0) as worker:
        working = asyncio.create_task(
            worker.handle(lab.delivery(lab.row(1, batch, lost_deliveries=5).encode()))
        )
        await lab.clock.advance(0.9)
        assert lab.agent.calls == []
        await lab.until(working.done, step_s=0.2)
    assert list(await lab.outcomes(batch)) == [1]


async def test_an_ordinary_row_does_not_wait_for_the_lane(lab):
    """The lane is for what died; others run beside it."""
    batch = await lab.batch(3)
    async with lab.working() as worker:
        messages = [lab.row(1, batch, lost_deliveries=5), lab.row(2, batch), lab.row(3, batch)]
        await asyncio.gather(*(worker.handle(lab.delivery(row.encode())) for row in messages))
    assert sorted(await lab.outcomes(batch)) == [1, 2, 3]
    assert (await lab.view()).batch.state is State.AGGREGATING


async def test_what_a_row_has_lost_goes_with_it_when_it_is_turned_away(lab):
    """One that kills its workers, and finds no place in between, is counted on; the lane is for later."""
    batch = await lab.batch(1)
    batches = lab.batch_cache()
    (await batches.get(batch.batch_id, 1, 1)).target.gate.close()
    async with lab.working(batches, max_lost=10) as worker:
        await worker.handle(lab.delivery(lab.row(1, batch, lost_deliveries=1).encode(), receives=3))
    await lab.clock.advance(30)
    [again] = await lab.sent_rows()
    assert (again.lost_deliveries, again.attempt, again.replay) == (3, 1, True)


async def test_a_row_whose_worker_lived_through_an_attempt_has_lost_nothing(lab):
    """What ended an attempt, badly or not, did not kill its worker: the count begins again."""
    batch = await lab.batch(1)
    lab.agent.script = lambda _: AgentThrottledError("later", retry_after_s=20)
    async with lab.working(max_lost=10) as worker:
        await worker.handle(lab.delivery(lab.row(1, batch, lost_deliveries=1).encode(), receives=3))
    await lab.clock.advance(30)
    [again] = await lab.sent_rows()
    assert (again.lost_deliveries, again.attempt, again.replay) == (0, 1, True)


async def test_a_row_that_lost_too_many_deliveries_fails_without_another_invocation(lab):
    """Its bounces between lane and queue do not start the count again."""
    batch = await lab.batch(1)
    async with lab.working(max_lost=10) as worker:
        await worker.handle(lab.delivery(lab.row(1, batch, lost_deliveries=7).encode(), receives=4))
    outcome = (await lab.outcomes(batch))[1]
    assert (outcome.status, outcome.error.type) == (Status.FAILED, "WorkerLostError")
    assert outcome.error.message.startswith("its message was delivered 10 times without an outcome")
    assert outcome.input_data == {"id": "1", "name": "name 1"}
    assert lab.agent.calls == []
