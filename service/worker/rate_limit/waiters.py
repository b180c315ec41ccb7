"""Who waits in one process for its turn at a limit: for a time to begin, and for a place to be under way.

What the fleet grants arrives in blocks; callers are served in the order in which they came.
"""

from __future__ import annotations

import asyncio
import math
from bisect import insort
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from service.mapping.replies.transcript import Usage
from service.worker.rate_limit.pacing import NO_TOKENS, SAFETY_SHARE, Tokens

T = TypeVar("T")

LATE_S = 0.5
"""How late a call may begin: well within what `SAFETY_SHARE` forgives. What wakes up later waits anew."""


class WaitQueue(Generic[T]):
    """Callers in a row, each waiting for one `T`."""

    def __init__(self) -> None:
        self._callers: deque[asyncio.Future[T]] = deque()

    def __len__(self) -> int:
        return sum(not caller.done() for caller in self._callers)

    def join(self, *, first: bool = False) -> asyncio.Future[T]:
        """What to await, or to cancel."""
        caller = asyncio.get_running_loop().create_future()
        (self._callers.appendleft if first else self._callers.append)(caller)
        return caller

    @staticmethod
    async def wait(caller: asyncio.Future[T], give_back: Callable[[T], None]) -> T:
        """What the caller is served with; if it is cancelled at that very moment, that is given back."""
        try:
            return await caller
        except asyncio.CancelledError:
            if not caller.cancel() and not caller.cancelled() and caller.exception() is None:
                give_back(caller.result())
            raise

    def serve(self, thing: T) -> bool:
        """Hand it to the first who still waits; False where nobody does."""
        while self._callers:
            caller = self._callers.popleft()
            if not caller.done():
                caller.set_result(thing)
                return True
        return False

    def fail(self, error: Callable[[], Exception]) -> None:
        """Send everybody away, each with an error of its own."""
        while self._callers:
            caller = self._callers.popleft()
            if not caller.done():
                caller.set_exception(error())


@dataclass(frozen=True, slots=True, order=True)
class StartSlot:
    """Leave to begin a call at `at` (monotonic seconds), for which `cost` was charged."""

    at: float
    cost: Tokens = field(default=NO_TOKENS, compare=False)


class Permit:
    """Leave to make one call, now. `settle` it when the call has ended, whatever came of it."""

    __slots__ = ("_settle",)

    def __init__(self, settle: Callable[[Usage | None], None]) -> None:
        self._settle: Callable[[Usage | None], None] | None = settle

    def release(self, usage: Usage | None) -> None:
        """Exactly once: give the place back and settle the tokens. With None the estimate stands."""
        assert self._settle is not None, "a permit is settled once"
        settle, self._settle = self._settle, None
        settle(usage)


class SlotSchedule:
    """The times that this process may begin calls at; `last_at` is the latest of them."""

    def __init__(self) -> None:
        self.line: WaitQueue[StartSlot] = WaitQueue()
        self._free: list[StartSlot] = []
        self._step = 0.0
        self._costs: dict[asyncio.Future[StartSlot], Tokens] = {}
        self.last_at = -math.inf

    def join(self, cost: Tokens, now: float, *, first: bool = False) -> asyncio.Future[StartSlot]:
        """Wait for a turn, for a call that is expected to cost this much."""
        caller = self.line.join(first=first)
        self._costs[caller] = cost
        caller.add_done_callback(self._costs.pop)
        self.match(now)
        return caller

    @property
    def mean_cost(self) -> Tokens:
        """Of the calls that wait."""
        costs = [cost for caller, cost in self._costs.items() if not caller.done()]
        total = sum(costs, NO_TOKENS)
        return Tokens(total.input / len(costs), total.output / len(costs)) if costs else NO_TOKENS

    def add(self, start: float, step: float, count: int, cost: Tokens, now: float) -> None:
        """A block was granted."""
        self._free += [StartSlot(start + index * step, cost) for index in range(count)]
        self._step = step
        self.last_at = start + (count - 1) * step
        self.match(now)

    def match(self, now: float) -> None:
        """Give free turns to who waits, but none whose time has passed."""
        while self._free and self._is_stale(now):
            del self._free[0]
        while self._free and len(self.line):
            self.line.serve(self._free.pop(0))

    def give_back(self, turn: StartSlot, now: float) -> None:
        """It was not used."""
        insort(self._free, turn)
        self.match(now)

    def _is_stale(self, now: float) -> bool:
        """Nobody took it in time. The call after one that is late follows closely: only the 3 % allow it."""
        late_s = min(LATE_S, (1 - SAFETY_SHARE) * max(1.0, self._step))
        return self._free[0].at < now - late_s


class ConcurrencyQuota:
    """Calls of this process under way: new ones begin while fewer than `quota` are, until `ends_at`.

    Times are in monotonic seconds. `peak` is the highest demand since the ledger was last asked, `asked` the
    demand that it was told.
    """

    def __init__(self) -> None:
        self.line: WaitQueue[None] = WaitQueue()
        self.held = 0
        self.quota = 0
        self.ends_at = -math.inf
        self.in_use = 0
        self.peak = 0
        self.asked = 0

    @property
    def demand(self) -> int:
        """Calls that are under way or wait for a place."""
        return self.in_use + len(self.line)

    def ask(self) -> tuple[int, int]:
        """Calls under way, and how many are wanted."""
        self.asked = self.demand
        return self.in_use, max(self.peak, self.demand)

    def lower(self, held: int, quota: int) -> None:
        """What is about to be given up is not used from now on."""
        self.held, self.quota = min(self.held, held), min(self.quota, quota)

    def grant(self, held: int, quota: int, ends_at: float, now: float) -> None:
        """What the ledger gives."""
        self.held, self.quota, self.ends_at = held, quota, ends_at
        self.peak = self.demand
        self.match(now)

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
