"""A clock that somebody turns."""

from __future__ import annotations

import asyncio
import heapq
import itertools


class MemoryClock:
    """Time that passes only in `advance`. Sleepers wake in the order of their times."""

    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self._start_ms = now_ms
        self._elapsed_s = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    def now_ms(self) -> int:
        """Milliseconds since 1970 in UTC."""
        return self._start_ms + round(self._elapsed_s * 1000)

    def monotonic(self) -> float:
        """Seconds that never go backwards."""
        return self._elapsed_s

    async def sleep(self, seconds: float) -> None:
        """Wait until `advance` has come this far; cancellable."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._elapsed_s + seconds, next(self._order), woken))
        await woken

    async def advance(self, seconds: float) -> None:
        """Let time pass, waking each sleeper at its time and letting it run before the next."""
        await _settled()
        end = self._elapsed_s + seconds
        while self._sleepers and self._sleepers[0][0] <= end:
            due, _, woken = heapq.heappop(self._sleepers)
            self._elapsed_s = max(self._elapsed_s, due)
            if not woken.done():
                woken.set_result(None)
                await _settled()
        self._elapsed_s = end


async def _settled() -> None:
    """Let every task that can run do so, some steps deep."""
    for _ in range(20):
        await asyncio.sleep(0)
