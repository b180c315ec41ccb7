"""Quarantine: rows whose workers crashed are retried a few at a time."""

import asyncio

import pytest

from service.domain.errors import AgentThrottledError
from service.domain.model import State, Status
from service.worker.quarantine import Quarantine


def test_the_capacity_starts_at_one_and_grows_with_each_row_that_ends():
    """One row is admitted at first. Each row that ends without an exception raises the capacity by one."""
    quarantine = Quarantine()
    with quarantine.admit() as first, quarantine.admit() as second:
        assert (first, second) == (True, False)
    with quarantine.admit(), quarantine.admit() as second:
        assert second
        with quarantine.admit() as third:
            assert not third


def test_a_row_that_is_cancelled_releases_its_slot_and_raises_no_capacity():
    """A cancelled or crashed row does not show that it is harmless."""
    quarantine = Quarantine()
    with pytest.raises(asyncio.CancelledError), quarantine.admit():
        raise asyncio.CancelledError
    with quarantine.admit() as first, quarantine.admit() as second:
        assert (first, second) == (True, False)


def test_a_row_that_is_admitted_alone_shares_the_quarantine_with_no_row():
    """It is rejected while another row is admitted, and no row is admitted beside it."""
    quarantine = Quarantine()
    for _ in range(3):
        with quarantine.admit():
            pass
    with quarantine.admit() as shared, quarantine.admit(alone=True) as refused:
        assert (shared, refused) == (True, False)
    with quarantine.admit(alone=True) as alone, quarantine.admit() as refused:
        assert (alone, refused) == (True, False)
    with quarantine.admit() as first, quarantine.admit() as second:
        assert (first, second) == (True, True)


async def test_a_row_whose_worker_crashed_in_quarantine_runs_alone(lab):
    """Other quarantined rows do not lose a second delivery to it."""
    batch = await lab.batch(5)
    may_reply = asyncio.Event()

    async def answer(invocation):
        if invocation.body["name"] in ("name 4", "name 5"):
            await may_reply.wait()
        return {"answer": "fine"}

    lab.agent.script = answer
    async with lab.working(max_lost=10) as worker:
        for number in (1, 2, 3):  # each raises the capacity
            await worker.handle(lab.delivery(lab.row(number, batch, lost_deliveries=5).encode()))
        first = asyncio.create_task(
            worker.handle(lab.delivery(lab.row(4, batch, lost_deliveries=5).encode()))
        )
        await lab.until(lambda: lab.agent.running == 1)
        await worker.handle(lab.delivery(lab.row(5, batch, lost_deliveries=5).encode(), receives=2))
        assert lab.agent.running == 1
        may_reply.set()
        await first
    assert sorted(await lab.outcomes(batch)) == [1, 2, 3, 4]
    await lab.clock.advance(16)
    assert await lab.sent_rows() == [lab.row(5, batch, lost_deliveries=6, replay=True)]


async def test_a_row_that_finds_the_quarantine_full_is_requeued(lab):
    """It is not held beside the first row: if that one crashes the worker, it costs this one no delivery."""
    batch = await lab.batch(2)
    may_reply = asyncio.Event()

    async def answer(invocation):
        await may_reply.wait()
        return {"answer": "late"}

    lab.agent.script = answer
    async with lab.working() as worker:
        first = asyncio.create_task(
            worker.handle(lab.delivery(lab.row(1, batch, lost_deliveries=5).encode()))
        )
        await lab.until(lambda: lab.agent.running == 1)
        await worker.handle(lab.delivery(lab.row(2, batch, lost_deliveries=5).encode(), receives=3))
        assert len(lab.agent.calls) == 1
        may_reply.set()
        await first
    assert await lab.sent_rows() == []
    await lab.clock.advance(16)
    assert await lab.sent_rows() == [lab.row(2, batch, lost_deliveries=7, replay=True)]
    assert list(await lab.outcomes(batch)) == [1]


async def test_a_quarantined_row_starts_late(lab):
    """Rows that were received together with it, and found the quarantine full, have been requeued by then."""
    batch = await lab.batch(1)
    async with lab.working(quarantine_pause_s=1.0) as worker:
        working = asyncio.create_task(
            worker.handle(lab.delivery(lab.row(1, batch, lost_deliveries=5).encode()))
        )
        await lab.clock.advance(0.9)
        assert lab.agent.calls == []
        await lab.until(working.done, step_s=0.2)
    assert list(await lab.outcomes(batch)) == [1]


async def test_other_rows_do_not_wait_for_the_quarantine(lab):
    """Rows without lost deliveries run beside a quarantined row."""
    batch = await lab.batch(3)
    async with lab.working() as worker:
        messages = [lab.row(1, batch, lost_deliveries=5), lab.row(2, batch), lab.row(3, batch)]
        await asyncio.gather(*(worker.handle(lab.delivery(row.encode())) for row in messages))
    assert sorted(await lab.outcomes(batch)) == [1, 2, 3]
    assert (await lab.view()).batch.state is State.AGGREGATING


async def test_a_rejected_row_is_requeued_with_its_lost_deliveries(lab):
    """A row that crashes workers and is rejected in between still reaches its limit."""
    batch = await lab.batch(1)
    batches = lab.batch_cache()
    (await batches.get(lab.row(1, batch))).target.gate.close()
    async with lab.working(batches, max_lost=10) as worker:
        await worker.handle(lab.delivery(lab.row(1, batch, lost_deliveries=1).encode(), receives=3))
    await lab.clock.advance(30)
    [again] = await lab.sent_rows()
    assert (again.lost_deliveries, again.attempt, again.replay) == (3, 1, True)


async def test_lost_deliveries_start_again_after_an_attempt_that_the_worker_survived(lab):
    """A failed attempt has not crashed the worker, so the row is requeued with no lost deliveries."""
    batch = await lab.batch(1)
    lab.agent.script = lambda _: AgentThrottledError("later", retry_after_s=20)
    async with lab.working(max_lost=10) as worker:
        await worker.handle(lab.delivery(lab.row(1, batch, lost_deliveries=1).encode(), receives=3))
    await lab.clock.advance(30)
    [again] = await lab.sent_rows()
    assert (again.lost_deliveries, again.attempt, again.replay) == (0, 1, True)


async def test_a_row_with_too_many_lost_deliveries_fails_without_an_invocation(lab):
    """Deliveries of the present message are added to those that earlier messages have lost."""
    batch = await lab.batch(1)
    async with lab.working(max_lost=10) as worker:
        await worker.handle(lab.delivery(lab.row(1, batch, lost_deliveries=7).encode(), receives=4))
    outcome = (await lab.outcomes(batch))[1]
    assert (outcome.status, outcome.error.type) == (Status.FAILED, "WorkerLostError")
    assert outcome.error.message.startswith("its message was delivered 10 times without an outcome")
    assert outcome.input_data == {"id": "1", "name": "name 1"}
    assert lab.agent.calls == []
