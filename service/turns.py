"""Who waits in one process for its turn at a limit: for a time to begin, and for a place to be under way.

What the fleet grants arrives in blocks; callers are served in the order in which they came.
"""

from __future__ import annotations

import asyncio
import math
from bisect import insort
from collections import deque
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from service.rates import NO_TOKENS, Tokens

T = TypeVar("T")

LATE_S = 0.5
"""How late a call may begin: well within what `SAFETY_SHARE` forgives. What wakes up later waits anew."""


class Line(Generic[T]):
    """Callers in a row, each waiting for one `T`."""

    def __init__(self) -> None:
        self._callers: deque[asyncio.Future[T]] = deque()

    def __len__(self) -> int:
        return sum(not caller.done() for caller in self._callers)

    def join(self, *, first: bool = False) -> asyncio.Future[T]:
        """What to await; cancel it to leave the line."""
        caller = asyncio.get_running_loop().create_future()
        (self._callers.appendleft if first else self._callers.append)(caller)
        return caller

    def serve(self, thing: T) -> bool:
        """Hand it to the first who still waits; False where nobody does."""
        while self._callers:
            caller = self._callers.popleft()
            if not caller.done():
                caller.set_result(thing)
                return True
        return False

    def fail(self, error: Exception) -> None:
        """Send everybody away."""
        while self._callers:
            caller = self._callers.popleft()
            if not caller.done():
                caller.set_exception(error)


@dataclass(frozen=True, slots=True, order=True)
class Turn:
    """Leave to begin a call at `at` (monotonic seconds), for which `cost` was charged."""

    at: float
    cost: Tokens = field(default=NO_TOKENS, compare=False)


class Turns:
    """The times that this process may begin calls at. `taken` counts those that a caller got."""

    def __init__(self) -> None:
        self.line: Line[Turn] = Line()
        self._free: list[Turn] = []
        self.last_at = -math.inf
        self.taken = 0

    def add(self, start: float, step: float, count: int, cost: Tokens, now: float) -> None:
        """A block was granted."""
        self._free += [Turn(start + index * step, cost) for index in range(count)]
        self.last_at = start + (count - 1) * step
        self.match(now)

    def match(self, now: float) -> None:
        """Give free turns to who waits. Of those whose time has passed only the latest is of use."""
        while self._free and self._is_stale(now):
            del self._free[0]
        while self._free and len(self.line):
            self.line.serve(self._free.pop(0))
            self.taken += 1

    def give_back(self, turn: Turn, now: float) -> None:
        """It was not used."""
        self.taken -= 1
        insort(self._free, turn)
        self.match(now)

    def _is_stale(self, now: float) -> bool:
        """Two late calls at once would be a burst."""
        is_overtaken = len(self._free) > 1 and self._free[1].at <= now
        return is_overtaken or self._free[0].at < now - LATE_S


class Places:
    """Calls of this process under way: new ones begin while fewer than `quota` are, until `ends_at`.

    Times are in monotonic seconds. `peak` is the highest demand since it was last looked at.
    """

    def __init__(self) -> None:
        self.line: Line[None] = Line()
        self.held = 0
        self.quota = 0
        self.ends_at = -math.inf
        self.in_use = 0
        self.peak = 0

    @property
    def demand(self) -> int:
        """Calls that are under way or wait for a place."""
        return self.in_use + len(self.line)

    def match(self, now: float) -> None:
        """Let in who waits, as far as the quota goes."""
        self.peak = max(self.peak, self.demand)
        while now < self.ends_at and self.in_use < min(self.held, self.quota) and self.line.serve(None):
            self.in_use += 1

    def give_back(self, now: float) -> None:
        """A call has ended, or did not begin."""
        self.peak = max(self.peak, self.demand)
        self.in_use -= 1
        self.match(now)
