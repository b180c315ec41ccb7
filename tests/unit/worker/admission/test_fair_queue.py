"""The fair queue for a target's slots."""

import asyncio
from collections import Counter
from dataclasses import replace

import pytest

from service.domain.model import Batch, Location, Source, State
from service.worker.admission.fair_queue import FairQueue


def batch(name, *, priority=5, weight=1):
    """A batch of the target."""
    return Batch(
        name, "e", State.RUNNING, Source("b", "k"), Location("b", ""), priority=priority, weight=weight
    )


async def let_tasks_run():
    """Give every task time for a few steps."""
    for _ in range(5):
        await asyncio.sleep(0)


async def queue_up(queue, of_batch, count):
    """Tasks of rows of a batch that want a slot."""
    tasks = [asyncio.create_task(queue.acquire(of_batch, 0.0)) for _ in range(count)]
    await let_tasks_run()
    return tasks


async def test_a_batch_alone_has_all_slots():
    """Weights matter only between batches."""
    queue = FairQueue(lambda: 3, max_waiting=2)
    rows = await queue_up(queue, batch("a"), 6)
    assert [row.done() for row in rows] == [True] * 3 + [False] * 2 + [True]
    assert rows[5].result() is False
    assert (queue.in_flight, queue.waiting) == (3, 2)
    for row in rows[3:5]:
        row.cancel()


@pytest.mark.parametrize(("weights", "expected"), [((1, 1), (6, 6)), ((3, 1), (9, 3)), ((1, 5), (2, 10))])
async def test_batches_share_slots_by_weight(weights, expected):
    """While all have rows waiting, slots that become free go to them in proportion."""
    queue = FairQueue(lambda: 12, max_waiting=50)
    a, b = batch("a", weight=weights[0]), batch("b", weight=weights[1])
    first = await queue_up(queue, a, 12)
    waiting = await queue_up(queue, a, 40), await queue_up(queue, b, 40)
    for _ in first:
        queue.release(a)
    await let_tasks_run()
    assert tuple(sum(row.done() for row in rows) for rows in waiting) == expected
    for row in waiting[0] + waiting[1]:
        row.cancel()


async def test_a_higher_priority_goes_first():
    """However many rows of a lower one wait, and whatever their weight."""
    queue = FairQueue(lambda: 2, max_waiting=50)
    low, high = batch("low", priority=1, weight=1000), batch("high", priority=9)
    await queue_up(queue, low, 2)
    waiting_low, waiting_high = await queue_up(queue, low, 5), await queue_up(queue, high, 2)
    queue.release(low)
    queue.release(low)
    await let_tasks_run()
    assert [row.done() for row in waiting_high] == [True, True]
    assert not any(row.done() for row in waiting_low)
    for row in waiting_low:
        row.cancel()


async def test_each_batch_has_a_waiting_list():
    """A large batch that fills its list leaves room for the rows of a small one."""
    queue = FairQueue(lambda: 1, max_waiting=2)
    rows = await queue_up(queue, batch("large"), 9)
    assert sum(row.done() and not row.result() for row in rows) == 6
    assert queue.capacity(0.0) == 0
    assert queue.capacity(10.0) == 0
    (small,) = await queue_up(queue, batch("small"), 1)
    assert not small.done()
    assert queue.capacity(0.0) == 1
    for row in [*rows, small]:
        row.cancel()


async def test_a_cancelled_row_takes_no_slot():
    """Before it got one, at the moment when it gets one, and while others wait."""
    queue = FairQueue(lambda: 1, max_waiting=50)
    a = batch("a")
    (holder,) = await queue_up(queue, a, 1)
    rows = await queue_up(queue, a, 5)
    rows[0].cancel()
    queue.release(a)
    rows[1].cancel()
    await let_tasks_run()
    assert Counter(row.cancelled() for row in rows) == {True: 2, False: 3}
    assert (queue.in_flight, queue.waiting) == (1, 2)
    queue.release(a)
    queue.dispatch()
    await let_tasks_run()
    assert (queue.in_flight, queue.waiting) == (1, 1)
    rows[4].cancel()
    await let_tasks_run()
    queue.release(a)
    assert (queue.in_flight, queue.waiting, queue._queues) == (0, 0, {})
    assert holder.result()


async def test_a_lower_limit_is_reached_as_rows_leave():
    """After the number of slots went down, no row gets one until enough have left."""
    slots = [3]
    queue = FairQueue(lambda: slots[0], max_waiting=5)
    a = batch("a")
    await queue_up(queue, a, 3)
    (row,) = await queue_up(queue, a, 1)
    slots[0] = 1
    for done in (False, False, True):
        queue.release(a)
        await let_tasks_run()
        assert row.done() is done


async def test_rejected_rows_get_no_slot():
    """All waiting rows are told at once, and nothing of them is left."""
    queue = FairQueue(lambda: 1, max_waiting=5)
    a, b = batch("a"), batch("b")
    await queue_up(queue, a, 1)
    rows = await queue_up(queue, a, 2) + await queue_up(queue, b, 2)
    rows[0].cancel()
    queue.reject_waiting()
    await let_tasks_run()
    assert [row.result() for row in rows[1:]] == [False] * 3
    assert (queue.in_flight, queue.waiting, list(queue._queues)) == (1, 0, ["a#e"])
    queue.release(a)
    assert queue._queues == {}


# -- caps ----------------------------------------------------------------------------------------------------


def capped(name, cap, control=0, **more):
    """A batch with a cap on its calls in flight."""
    return replace(batch(name, **more), max_concurrency=cap, control=control)


async def test_a_batch_has_no_more_calls_in_flight_than_its_cap():
    """What it leaves goes to the others, also to those of a lower priority."""
    queue = FairQueue(lambda: 4, max_waiting=5)
    first = await queue_up(queue, capped("a", 1, priority=9), 3)
    second = await queue_up(queue, batch("b"), 4)
    assert [row.done() for row in first] == [True, False, False]
    assert [row.done() for row in second] == [True] * 3 + [False]
    queue.release(batch("b"))
    await let_tasks_run()
    assert second[3].done()
    queue.release(batch("a"))
    await let_tasks_run()
    assert [row.done() for row in first] == [True, True, False]
    first[2].cancel()


async def test_an_update_holds_at_once():
    """A higher cap lets rows begin; a lower one ends no call. An older view changes nothing."""
    queue = FairQueue(lambda: 9, max_waiting=9)
    rows = await queue_up(queue, capped("a", 1, control=1), 5)
    queue.update(capped("a", 3, control=2))
    queue.update(capped("a", 9, control=1))
    await let_tasks_run()
    assert sum(row.done() for row in rows) == 3
    queue.update(capped("a", 1, control=3))
    for _ in range(2):
        queue.release(batch("a"))
        await let_tasks_run()
    assert (sum(row.done() for row in rows), queue.in_flight) == (3, 1)
    queue.update(capped("a", None, control=4))
    await let_tasks_run()
    assert all(row.done() for row in rows)


async def test_the_capacity_of_a_capped_batch_is_its_own():
    """Rows beyond its cap would only be turned away; with another batch, free slots count again."""
    queue = FairQueue(lambda: 10, max_waiting=2)
    one = capped("a", 3)
    assert queue.try_acquire(one, 0.0)
    assert queue.capacity(0.0) == 2 + 2
    assert queue.try_acquire(one, 0.0)
    assert queue.try_acquire(one, 0.0)
    rows = await queue_up(queue, one, 2)
    assert queue.capacity(0.0) == 0
    assert queue.is_full_for(one)
    assert queue.try_acquire(batch("b"), 0.0)
    assert queue.capacity(0.0) == 6 + 2
    for row in rows:
        row.cancel()
