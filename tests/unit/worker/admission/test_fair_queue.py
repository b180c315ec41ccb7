"""Who gets the next place at a target."""

import asyncio
from collections import Counter

import pytest

from service.domain.model import Batch, Location, Source, State
from service.worker.admission.fair_queue import FairQueue


def batch(name, *, priority=5, weight=1):
    """A batch at the target."""
    return Batch(
        name, "e", State.RUNNING, Source("b", "k"), Location("b", ""), priority=priority, weight=weight
    )


async def settle():
    """Let everybody run."""
    for _ in range(5):
        await asyncio.sleep(0)


async def queue_up(shares, who, count):
    """Rows of a batch that want a place, as tasks."""
    tasks = [asyncio.create_task(shares.take(who, 0.0)) for _ in range(count)]
    await settle()
    return tasks


async def test_a_batch_alone_has_all_places():
    """Weights matter only where there is somebody to share with."""
    shares = FairQueue(lambda: 3, max_waiting=2)
    rows = await queue_up(shares, batch("a"), 6)
    assert [row.done() for row in rows] == [True] * 3 + [False] * 2 + [True]
    assert rows[5].result() is False
    assert (shares.in_flight, shares.waiting) == (3, 2)
    for row in rows[3:5]:
        row.cancel()


@pytest.mark.parametrize(("weights", "expected"), [((1, 1), (6, 6)), ((3, 1), (9, 3)), ((1, 5), (2, 10))])
async def test_batches_share_places_by_weight(weights, expected):
    """Where all have rows waiting, the places that become free go to them in proportion."""
    shares = FairQueue(lambda: 12, max_waiting=50)
    a, b = batch("a", weight=weights[0]), batch("b", weight=weights[1])
    first = await queue_up(shares, a, 12)
    waiting = await queue_up(shares, a, 40), await queue_up(shares, b, 40)
    for _ in first:
        shares.give_back(a)
    await settle()
    assert tuple(sum(row.done() for row in rows) for rows in waiting) == expected
    for row in waiting[0] + waiting[1]:
        row.cancel()


async def test_a_higher_priority_goes_first():
    """However many of a lower one wait, and whatever they weigh."""
    shares = FairQueue(lambda: 2, max_waiting=50)
    low, high = batch("low", priority=1, weight=1000), batch("high", priority=9)
    await queue_up(shares, low, 2)
    waiting_low, waiting_high = await queue_up(shares, low, 5), await queue_up(shares, high, 2)
    shares.give_back(low)
    shares.give_back(low)
    await settle()
    assert [row.done() for row in waiting_high] == [True, True]
    assert not any(row.done() for row in waiting_low)
    for row in waiting_low:
        row.cancel()


async def test_each_batch_has_room_to_wait():
    """One that fills its own does not take the other's: a small batch gets in beside a large one."""
    shares = FairQueue(lambda: 1, max_waiting=2)
    rows = await queue_up(shares, batch("large"), 9)
    assert sum(row.done() and not row.result() for row in rows) == 6
    assert shares.room(0.0) == 0
    assert shares.room(10.0) == 0
    (small,) = await queue_up(shares, batch("small"), 1)
    assert not small.done()
    assert shares.room(0.0) == 1
    for row in [*rows, small]:
        row.cancel()


async def test_who_is_cancelled_while_it_waits_takes_no_place():
    """Before it got one, at the moment it gets one, and while many others wait."""
    shares = FairQueue(lambda: 1, max_waiting=50)
    a = batch("a")
    (holder,) = await queue_up(shares, a, 1)
    rows = await queue_up(shares, a, 5)
    rows[0].cancel()
    shares.give_back(a)
    rows[1].cancel()
    await settle()
    assert Counter(row.cancelled() for row in rows) == {True: 2, False: 3}
    assert (shares.in_flight, shares.waiting) == (1, 2)
    shares.give_back(a)
    shares.fill()
    await settle()
    assert (shares.in_flight, shares.waiting) == (1, 1)
    rows[4].cancel()
    await settle()
    shares.give_back(a)
    assert (shares.in_flight, shares.waiting, shares._shares) == (0, 0, {})
    assert holder.result()


async def test_fewer_places_are_reached_by_waiting():
    """Where the level went down, nobody gets a place until enough have left."""
    places = [3]
    shares = FairQueue(lambda: places[0], max_waiting=5)
    a = batch("a")
    await queue_up(shares, a, 3)
    (row,) = await queue_up(shares, a, 1)
    places[0] = 1
    for done in (False, False, True):
        shares.give_back(a)
        await settle()
        assert row.done() is done


async def test_who_is_turned_away_gets_no_place():
    """All who wait are told at once, and nothing of them is left."""
    shares = FairQueue(lambda: 1, max_waiting=5)
    a, b = batch("a"), batch("b")
    await queue_up(shares, a, 1)
    rows = await queue_up(shares, a, 2) + await queue_up(shares, b, 2)
    rows[0].cancel()
    shares.turn_away()
    await settle()
    assert [row.result() for row in rows[1:]] == [False] * 3
    assert (shares.in_flight, shares.waiting, list(shares._shares)) == (1, 0, ["a#e"])
    shares.give_back(a)
    assert shares._shares == {}
