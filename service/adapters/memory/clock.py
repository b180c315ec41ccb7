"""A clock that tests advance."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable

from service.domain.ports import Alarm


class MemoryClock:
    """A clock whose time passes only in `advance`. Sleepers wake in the order of their times."""

    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self._start_ms = now_ms
        self._elapsed_s = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    def now_ms(self) -> int:
        """Milliseconds since 1970 in UTC."""
        return self._start_ms + round(self._elapsed_s * 1000)

    def monotonic(self) -> float:
        """Seconds on a scale that never goes backwards."""
        return self._elapsed_s

    async def sleep(self, seconds: float) -> None:
        """Wait until `advance` has let that much time pass; cancellable."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._elapsed_s + seconds, next(self._order), woken))
        await woken

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Alarm:
        """Call `callback` when `advance` has let that much time pass."""
        return _MemoryAlarm(asyncio.ensure_future(self.sleep(seconds)), callback)

    async def advance(self, seconds: float) -> None:
        """Let time pass. Each sleeper is woken at its time and runs before the next one is woken."""
        await _run_ready_tasks()
        end = self._elapsed_s + seconds
        while self._sleepers and self._sleepers[0][0] <= end:
            due, _, woken = heapq.heappop(self._sleepers)
            self._elapsed_s = max(self._elapsed_s, due)
            if not woken.done():
                woken.set_result(None)
                await _run_ready_tasks()
        self._elapsed_s = end


class _MemoryAlarm:
    """Calls `callback` when `due` is done, unless it is cancelled before."""

    def __init__(self, due: asyncio.Future[None], callback: Callable[[], None]) -> None:
        self._due = due
        self._callback = callback
        self._is_cancelled = False
        due.add_done_callback(self._ring)

    def cancel(self) -> None:
        """Keep the callback from being called."""
        self._is_cancelled = True
        self._due.cancel()

    def _ring(self, _: asyncio.Future[None]) -> None:
        # It may be cancelled in the same step of the event loop in which it is due.
        if not self._is_cancelled:
            self._callback()


async def _run_ready_tasks() -> None:
    # a task that was woken may wake others in turn
    for _ in range(20):
        await asyncio.sleep(0)
