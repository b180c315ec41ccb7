"""Time-outs on the clock of the ports, so that tests and the simulation control them."""

from __future__ import annotations

import asyncio
from types import TracebackType

from service.domain.ports import Alarm, Clock


class timeout:  # noqa: N801 -- used as `asyncio.timeout` is
    """Like `asyncio.timeout`, but on `clock`: raise TimeoutError if the body takes longer than `seconds`."""

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
