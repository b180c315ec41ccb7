"""A splitter waits while too many rows of its batch are queued."""

import asyncio

import pytest

from service.domain.errors import (
    LeaseLostError,
)
from service.domain.model import State
from service.splitter.backpressure import EMPTY_FOR_S
from tests.unit.splitter.splitting import (
    batch_of,
    split,
    table_of,
)


async def settle(lab, numbers, batch_id="demo#e1"):
    """Commit outcomes for rows of a batch, as its workers do."""
    batch = await batch_of(lab, batch_id)
    async with lab.committer() as committer:
        await asyncio.gather(*(committer.commit(batch, n, lab.outcome(n)) for n in numbers))


async def test_a_batch_is_split_just_ahead_of_its_workers(lab, stub_consumer):
    """With `max_queued_rows` no window is sent while that many rows of the batch are sent and not done."""
    await lab.put(table_of(35))
    delivery = lab.delivery(lab.job(), consumer=stub_consumer)
    splitting = asyncio.create_task(lab.splitter(max_queued_rows=20).handle(delivery))
    await lab.until(lambda: len(lab.rows._entries) == 20)
    await lab.pass_time(3600)
    assert len(lab.rows._entries) == 20
    assert stub_consumer.slots_released == 1, "what waits occupies no place"
    await settle(lab, [1])
    await lab.until(lambda: len(lab.rows._entries) == 30, step_s=0.5)
    await settle(lab, range(2, 11))
    await lab.pass_time(60)
    assert len(lab.rows._entries) == 30
    await settle(lab, [11])
    await lab.until(splitting.done, step_s=0.5)
    assert (await batch_of(lab)).total == 35
    assert stub_consumer.slots_released == 1


async def test_a_requeued_row_is_not_done(lab):
    """Only outcomes let the splitter go on: a requeued row still counts as queued."""
    await lab.put(table_of(35))
    splitting = asyncio.create_task(split(lab, lab.job(), max_queued_rows=10))
    await lab.until(lambda: len(lab.rows._entries) == 10)
    assert len(await lab.sent_rows()) == 10
    await lab.pass_time(60)
    for sent, last in ((20, 10), (30, 20), (35, 30)):
        assert len(lab.rows._entries) < sent
        await settle(lab, range(last - 9, last + 1))
        await lab.until(lambda sent=sent: len(lab.rows._entries) == sent, step_s=0.5)
    await lab.until(splitting.done, step_s=0.5)


async def test_lost_rows_do_not_make_a_splitter_wait_for_ever(lab):
    """Once their queue has been empty for a while, the split goes on, and it counts them no more."""
    await lab.put(table_of(35))
    splitting = asyncio.create_task(split(lab, lab.job(), max_queued_rows=10))
    await lab.until(lambda: len(lab.rows._entries) == 10)
    lab.rows._entries.clear()
    await lab.pass_time(EMPTY_FOR_S - 1)
    assert not lab.rows._entries
    await lab.until(lambda: len(lab.rows._entries) == 10, step_s=0.5)
    await lab.pass_time(10 * EMPTY_FOR_S)
    assert len(lab.rows._entries) == 10, "what is queued counts as before"
    await settle(lab, range(11, 21))
    await lab.until(lambda: len(lab.rows._entries) == 20, step_s=0.5)
    await settle(lab, range(21, 31))
    await lab.until(splitting.done, step_s=0.5)
    assert (await batch_of(lab)).total == 35


async def test_rows_of_other_batches_do_not_count(lab):
    """The bound is per batch, however deep the queue is."""
    await lab.put(table_of(15))
    await lab.send(lab.rows, *(["another batch's"] * 100))
    await split(lab, lab.job(), max_queued_rows=10 + 1)
    assert (await batch_of(lab)).total == 15


async def test_a_small_batch_is_split_while_large_ones_wait(lab):
    """Waiting batches hold no consumer slot, so a small batch behind them is split."""
    await lab.put(table_of(35))
    await lab.put(table_of(5), "files/small.csv")
    large = [f"large{n}" for n in range(3)]
    jobs = [lab.job(name) for name in large]
    await lab.send(lab.ingest, *jobs, lab.job("small", key="files/small.csv"))
    splitter = lab.splitter(max_queued_rows=10)
    async with lab.consuming(lab.consumer(lab.ingest, splitter.handle, max_running=1, max_held=4)):
        await lab.until(lambda: len(lab.rows._entries) == 35, step_s=0.1)
        await lab.pass_time(60)
        assert (await batch_of(lab, "demo#small")).total == 5
        for name in large:
            batch = await batch_of(lab, f"demo#{name}")
            assert (batch.state, batch.checkpoint.rows) == (State.SPLITTING, 10)
            await lab.table.move(batch, expected=State.SPLITTING, to=State.CANCELLED, now=batch.created_at)


@pytest.mark.parametrize("state", [State.CANCELLED, State.FAILED, State.RUNNING])
async def test_a_batch_that_ends_while_it_waits_is_split_no_further(lab, state):
    """A batch that another process seals or ends while its splitter waits gets no more rows."""
    await lab.put(table_of(35))
    splitting = asyncio.create_task(split(lab, lab.job(), max_queued_rows=10))
    await lab.until(lambda: len(lab.rows._entries) == 10)
    await lab.table.move(await batch_of(lab), expected=State.SPLITTING, to=state, now="")
    await lab.until(splitting.done, step_s=0.5)
    await splitting
    assert len(lab.rows._entries) == 10
    assert (await batch_of(lab)).state is state


async def test_a_lease_lost_while_waiting_ends_the_split(lab):
    """A splitter that waits notices that its ingest message went to another splitter."""
    await lab.put(table_of(35))
    delivery = lab.delivery(lab.job())
    splitting = asyncio.create_task(lab.splitter(max_queued_rows=10).handle(delivery))
    await lab.until(lambda: len(lab.rows._entries) == 10)
    delivery.lease.is_lost = True
    await lab.until(splitting.done, step_s=0.5)
    with pytest.raises(LeaseLostError):
        await splitting
