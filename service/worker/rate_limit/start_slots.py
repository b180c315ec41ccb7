"""The start slots of one process: times at which it may begin calls, granted by the ledger in blocks.

Waiters get slots in the order in which they came.
"""

from __future__ import annotations

import asyncio
import math
from bisect import insort
from dataclasses import dataclass, field

from service.worker.rate_limit.gcra import NO_TOKENS, SAFETY_SHARE, Tokens
from service.worker.rate_limit.wait_queue import WaitQueue

LATE_S = 0.5
"""Longest delay of a call after its slot. It uses up part of the margin that `SAFETY_SHARE` leaves."""


@dataclass(frozen=True, slots=True, order=True)
class StartSlot:
    """The right to begin one call at `at` (monotonic seconds). The ledger was charged `cost` for it."""

    at: float
    cost: Tokens = field(default=NO_TOKENS, compare=False)


class SlotSchedule:
    """Free start slots and the callers that wait for one. `last_at` is the time of the last slot granted."""

    def __init__(self) -> None:
        self.waiters: WaitQueue[StartSlot] = WaitQueue()
        self._free: list[StartSlot] = []
        self._interval_s = 0.0
        self._costs: dict[asyncio.Future[StartSlot], Tokens] = {}
        self.last_at = -math.inf

    def join(self, cost: Tokens, now: float, *, at_front: bool = False) -> asyncio.Future[StartSlot]:
        """Queue for a slot, for a call that is estimated to cost `cost`."""
        waiter = self.waiters.join(at_front=at_front)
        self._costs[waiter] = cost
        # The callback gets the waiter, which is the key: its cost counts only while it waits.
        waiter.add_done_callback(self._costs.pop)
        self.dispatch(now)
        return waiter

    @property
    def mean_cost(self) -> Tokens:
        """The mean estimate of the calls that wait."""
        costs = [cost for waiter, cost in self._costs.items() if not waiter.done()]
        if not costs:
            return NO_TOKENS
        total = sum(costs, NO_TOKENS)
        return Tokens(total.input / len(costs), total.output / len(costs))

    def add(self, *, start_at: float, interval_s: float, count: int, cost: Tokens, now: float) -> None:
        """Add a reservation: `count` slots, `interval_s` apart, each charged with `cost`."""
        self._free += [StartSlot(start_at + index * interval_s, cost) for index in range(count)]
        self._interval_s = interval_s
        self.last_at = start_at + (count - 1) * interval_s
        self.dispatch(now)

    def dispatch(self, now: float) -> None:
        """Drop expired slots and give the others to waiters."""
        while self._free and self._is_expired(self._free[0], now):
            del self._free[0]
        while self._free and len(self.waiters):
            self.waiters.serve(self._free.pop(0))

    def release(self, slot: StartSlot, now: float) -> None:
        """Take back a slot that was not used."""
        # It may be earlier than the slots that are free.
        insort(self._free, slot)
        self.dispatch(now)

    def _is_expired(self, slot: StartSlot, now: float) -> bool:
        # A call that begins late is too close to the next one. Only the margin of `SAFETY_SHARE` covers that,
        # which is 3 % of an interval or, if intervals are short, of a second.
        late_s = min(LATE_S, (1 - SAFETY_SHARE) * max(1.0, self._interval_s))
        return slot.at < now - late_s
