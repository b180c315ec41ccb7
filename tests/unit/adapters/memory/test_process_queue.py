"""The queue of one process."""

import asyncio

import pytest

from service.adapters.memory import MemoryClock, ProcessQueue
from service.domain.errors import AccessError
from service.domain.ports import MESSAGE_BYTES, OutgoingMessage

HIDDEN_S = 43_200.0


@pytest.fixture
def clock() -> MemoryClock:
    """Time passes only when a test says so."""
    return MemoryClock()


@pytest.fixture
def queue(clock) -> ProcessQueue:
    """A queue with dead letters after two deliveries."""
    return ProcessQueue("rows", clock, dead_letters=ProcessQueue("rows-dlq", clock), max_receives=2)


async def send(queue, *bodies, delay_s=0):
    await queue.send([OutgoingMessage(body, delay_s=delay_s) for body in bodies])


async def receive(queue, limit=10, wait_s=0.0):
    return await queue.receive(limit, wait_s=wait_s, visibility_s=HIDDEN_S)


async def bodies(queue, **options):
    return [message.body for message in await receive(queue, **options)]


async def test_messages_come_in_their_order(queue):
    """As many as are asked for, ten at most, and each once."""
    for start in (0, 10):
        await send(queue, *(str(n) for n in range(start, start + 10)))
    assert await bodies(queue, limit=3) == ["0", "1", "2"]
    assert await bodies(queue, limit=50) == [str(n) for n in range(3, 13)]
    assert (await queue.depth(), await queue.in_flight()) == (20, 13)


async def test_a_held_message_stays_hidden(queue, clock):
    """However long its process stands still; a renewal finds it held."""
    await send(queue, "a")
    (message,) = await receive(queue)
    await clock.advance(10 * HIDDEN_S)
    assert await bodies(queue) == []
    assert await queue.extend([message.receipt], HIDDEN_S) == []
    assert await bodies(queue) == []


async def test_a_released_message_comes_again_after_its_delay(queue, clock):
    """With a new receipt, and one more delivery; the old receipt is lost."""
    await send(queue, "a")
    (message,) = await receive(queue)
    await queue.extend([message.receipt], 5)
    assert await bodies(queue) == []
    await clock.advance(5)
    (again,) = await receive(queue)
    assert (again.id, again.receives) == (message.id, 2)
    assert again.first_received_ms == message.first_received_ms
    assert await queue.extend([message.receipt], 0) == [0]
    assert await queue.delete([message.receipt, again.receipt]) == [0]


async def test_nothing_is_kept_of_a_deleted_message(queue):
    """The memory of a process does not grow with the rows that it has done."""
    for _ in range(100):
        await send(queue, "a")
        (message,) = await receive(queue)
        assert await queue.delete([message.receipt]) == []
    assert await queue.depth() == 0
    assert not queue._visible
    assert not queue._delayed
    assert not queue._held


async def test_a_message_that_is_delivered_too_often_is_a_dead_letter(queue):
    """It keeps its id and its times."""
    await send(queue, "a")
    for _ in range(2):
        (message,) = await receive(queue)
        await queue.extend([message.receipt], 0)
    assert await bodies(queue) == []
    (dead,) = await receive(queue._dead_letters)
    assert (dead.id, dead.body, dead.receives) == (message.id, "a", 1)
    assert dead.sent_at_ms == message.sent_at_ms


async def test_a_receiver_waits_for_the_first_message(queue, clock):
    """One that is sent, or one that is due; or for as long as it wants."""
    waiting = asyncio.ensure_future(receive(queue, wait_s=20))
    await clock.advance(1)
    await send(queue, "a")
    assert [message.body for message in await waiting] == ["a"]
    await send(queue, "late", delay_s=7)
    waiting = asyncio.ensure_future(receive(queue, wait_s=20))
    await clock.advance(7)
    assert [message.body for message in await waiting] == ["late"]
    waiting = asyncio.ensure_future(receive(queue, wait_s=20))
    await clock.advance(20)
    assert list(await waiting) == []


async def test_a_closed_queue_keeps_no_receiver_waiting(queue):
    """Those that wait get nothing, and so do later ones; messages are still delivered."""
    waiting = asyncio.ensure_future(receive(queue, wait_s=20))
    await asyncio.sleep(0)
    queue.close()
    assert list(await waiting) == []
    assert list(await receive(queue, wait_s=20)) == []
    await send(queue, "a")
    assert await bodies(queue) == ["a"]


async def test_limits_are_those_of_the_port(queue):
    """Ten entries, and so many bytes."""
    with pytest.raises(ValueError, match="11 entries"):
        await send(queue, *"abcdefghijk")
    with pytest.raises(AccessError):
        await send(queue, "x" * (MESSAGE_BYTES + 1))
