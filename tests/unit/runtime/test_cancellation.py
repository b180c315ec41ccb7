"""Time-outs on the clock of the ports."""

import asyncio

import pytest

from service.adapters.memory import MemoryClock
from service.domain.ports import Clock
from service.runtime.cancellation import timeout
from service.runtime.clock import SystemClock


async def test_a_body_that_takes_too_long_is_cancelled():
    """It ends with TimeoutError at the time of the clock, and not before."""
    clock = MemoryClock()
    ended = []

    async def body() -> None:
        try:
            async with timeout(clock, 5.0):
                await asyncio.Event().wait()
        except TimeoutError:
            ended.append(clock.monotonic())

    async with asyncio.TaskGroup() as group:
        group.create_task(body())
        await clock.advance(4.0)
        assert ended == []
        await clock.advance(3.0)
    assert ended == [5.0]


async def test_a_body_that_ends_leaves_no_alarm():
    """Nothing happens when its time would have been over; an error of the body passes."""
    clock = MemoryClock()
    with pytest.raises(KeyError):
        async with timeout(clock, 5.0):
            raise KeyError
    await clock.advance(10.0)
    await asyncio.sleep(0)


@pytest.mark.parametrize("clock", [SystemClock(), MemoryClock()])
async def test_a_cancelled_alarm_does_not_ring(clock: Clock):
    """Only the other one calls its callback, once."""
    rung = asyncio.Event()
    clock.call_later(0.0, lambda: pytest.fail("it was cancelled")).cancel()
    clock.call_later(0.0, rung.set)
    await rung.wait()
