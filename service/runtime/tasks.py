"""Tasks: ended by a time-out or when the process stops, or run beside each other."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from types import TracebackType

from service.domain.ports import Alarm, Clock


class timeout:  # noqa: N801 -- used as `asyncio.timeout` is
    """Like `asyncio.timeout`, but on `clock`: raise TimeoutError if the body takes longer than `seconds`.

    Tests and the simulation control this clock.
    """

    __slots__ = ("_alarm", "_clock", "_limit", "_seconds")

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds
        self._limit = asyncio.timeout(None)
        self._alarm: Alarm

    async def __aenter__(self) -> None:
        await self._limit.__aenter__()
        self._alarm = self._clock.call_later(self._seconds, self._ring)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._alarm.cancel()
        await self._limit.__aexit__(kind, error, trace)

    def _ring(self) -> None:
        self._limit.reschedule(0.0)  # a time in the past, so asyncio cancels the body now


async def until_stopped(stop: asyncio.Event, work: Coroutine[None, None, object]) -> None:
    """Run `work` until it ends or `stop` is set; if `stop` comes first, cancel it and wait for its end.

    Re-raises the exception of `work`.
    """
    working = asyncio.ensure_future(work)
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        working.cancel()
        stopping.cancel()
        # `wait` raises nothing; the result of `work` is fetched below.
        await asyncio.wait({working, stopping})
    if not working.cancelled():
        working.result()


def is_cancelled() -> bool:
    """True if the running task was cancelled, rather than a part of it having raised CancelledError."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


@asynccontextmanager
async def task_group() -> AsyncIterator[asyncio.TaskGroup]:
    """A task group that raises the first error of its tasks or of its body as it is, not in a group.

    `except*` would do this only from Python 3.11.4 on: before, it wraps again what is raised in it.
    """
    task = asyncio.current_task()
    assert task is not None
    cancelling = task.cancelling()
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as errors:
        # Before Python 3.13 a group whose task fails while it is left has cancelled its caller, and does not
        # take that back: `is_cancelled` would be true, and an `asyncio.timeout` might raise CancelledError.
        if sys.version_info < (3, 13) and task.cancelling() > cancelling:
            task.uncancel()
        raise _first_of(errors) from None


def _first_of(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first leaf of an exception group: one error is enough to act on and to report."""
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
