"""Clock: the time, and the only way in which roles wait."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Alarm(Protocol):
    """A callback that is set for a time."""

    def cancel(self) -> None:
        """Keep the callback from being called; no effect if it was called already."""
        ...


class Clock(Protocol):
    """Wall-clock and monotonic time. Tests and the simulation replace it by virtual time."""

    def now_ms(self) -> int:
        """Milliseconds since 1970 in UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go backwards."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait; cancellable."""
        ...

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Alarm:
        """Call `callback` in `seconds`."""
        ...
