"""Rows whose workers died come again a few at a time."""

import asyncio

import pytest

from service.lane import Lane
from service.model import State, Status


def test_the_lane_begins_with_one_place_and_widens_with_each_row_that_gets_through():
    """One at first; each that comes out alive makes room for one more."""
    lane = Lane()
    with lane.place() as first, lane.place() as second:
        assert (first, second) == (True, False)
    with lane.place(), lane.place() as second:
        assert second
        with lane.place() as third:
            assert not third


def test_a_row_that_breaks_off_gives_back_its_place_and_widens_nothing():
    """What was cancelled or crashed proved nothing."""
    lane = Lane()
    with pytest.raises(asyncio.CancelledError), lane.place():
        raise asyncio.CancelledError
    with lane.place() as first, lane.place() as second:
        assert (first, second) == (True, False)


async def test_a_second_row_that_was_lost_waits_in_its_queue(lab):
    """It is not held beside the first: whatever kills that one's worker costs it no delivery."""
    batch = await lab.batch(2)
    going_on = asyncio.Event()

    async def answer(invocation):
        await going_on.wait()
        return {"answer": "late"}

    lab.agent.script = answer
    async with lab.working() as worker:
        first = asyncio.create_task(worker.handle(lab.delivery(lab.row(1, batch, lost=5).encode())))
        await lab.until(lambda: lab.agent.running == 1)
        await worker.handle(lab.delivery(lab.row(2, batch, lost=5).encode(), receives=3))
        assert len(lab.agent.calls) == 1
        going_on.set()
        await first
    assert await lab.sent_rows() == []
    await lab.clock.advance(16)
    assert await lab.sent_rows() == [lab.row(2, batch, lost=7)]
    assert list(await lab.outcomes(batch)) == [1]


async def test_an_ordinary_row_does_not_wait_for_the_lane(lab):
    """The lane is for what died; others run beside it."""
    batch = await lab.batch(3)
    async with lab.working() as worker:
        messages = [lab.row(1, batch, lost=5), lab.row(2, batch), lab.row(3, batch)]
        await asyncio.gather(*(worker.handle(lab.delivery(row.encode())) for row in messages))
    assert sorted(await lab.outcomes(batch)) == [1, 2, 3]
    assert (await lab.view()).batch.state is State.AGGREGATING


async def test_a_row_that_lost_too_many_deliveries_fails_without_another_invocation(lab):
    """Its bounces between lane and queue do not start the count again."""
    batch = await lab.batch(1)
    async with lab.working(max_lost=10) as worker:
        await worker.handle(lab.delivery(lab.row(1, batch, lost=7).encode(), receives=4))
    outcome = (await lab.outcomes(batch))[1]
    assert (outcome.status, outcome.error.type) == (Status.FAILED, "WorkerLostError")
    assert outcome.error.message.startswith("its message was delivered 10 times without an outcome")
    assert outcome.input_data == {"id": "1", "name": "name 1"}
    assert lab.agent.calls == []
