"""Time-outs on the clock of the ports, and one error of several tasks."""

import ast
import asyncio
from pathlib import Path

import pytest

from service.adapters.memory import MemoryClock
from service.domain.errors import LeaseLostError
from service.domain.ports import Clock
from service.runtime.clock import SystemClock
from service.runtime.tasks import is_cancelled, task_group, timeout

SERVICE = Path(__file__).resolve().parents[3] / "service"


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


async def _fail(error: BaseException) -> None:
    raise error


async def _beside_others(error: BaseException) -> None:
    async with task_group() as group:
        group.create_task(_fail(error))
        group.create_task(asyncio.Event().wait())


async def _in_the_body(error: BaseException) -> None:
    async with task_group() as group:
        group.create_task(asyncio.Event().wait())
        raise error


@pytest.mark.parametrize("work", [_beside_others, _in_the_body])
async def test_an_error_of_a_group_is_raised_as_it_is(work):
    """Callers name it in their `except`: of a task, or of the body."""
    error = LeaseLostError("ran out")
    with pytest.raises(LeaseLostError) as raised:
        await work(error)
    assert raised.value is error


@pytest.mark.parametrize("work", [_beside_others, _in_the_body])
async def test_a_caller_that_handles_the_error_is_not_cancelled(work):
    """Its own time-outs raise TimeoutError later, and its CancelledErrors count as bugs."""
    with pytest.raises(LeaseLostError):
        await work(LeaseLostError("ran out"))
    assert not is_cancelled()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await asyncio.Event().wait()


async def test_an_error_in_a_group_inside_is_raised_without_either_group():
    """The first of them is one error, however deep."""
    error = LeaseLostError("ran out")
    with pytest.raises(LeaseLostError):
        await _in_the_body(ExceptionGroup("inner", [error, ValueError("later")]))


async def test_a_group_whose_caller_is_cancelled_is_cancelled():
    """It is no error of the group."""
    task = asyncio.create_task(_beside_others_for_ever())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def _beside_others_for_ever() -> None:
    async with task_group() as group:
        group.create_task(asyncio.Event().wait())


def test_nothing_relies_on_how_except_star_raises():
    """It wraps what is raised in it, or does not: that depends on the Python version."""
    found = [
        f"{path}:{node.lineno}"
        for path in SERVICE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.TryStar)
    ]
    assert found == []
