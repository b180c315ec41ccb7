"""The clock of a running process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from service.domain.ports import Alarm


class SystemClock:
    """The operating system's time and asyncio's sleep."""

    def now_ms(self) -> int:
        """Milliseconds since 1970 in UTC."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """Seconds that never go backwards."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait; cancellable."""
        await asyncio.sleep(seconds)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Alarm:
        """Call `callback` in `seconds`, by the running event loop."""
        return asyncio.get_running_loop().call_later(seconds, callback)
