"""The faults of calls to a port, and their injection. Each of them can happen on AWS.

A fault is drawn once for every call. Faults end at `until_s`: from then on every call succeeds, so that every
batch has to end.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Mapping
from enum import StrEnum
from itertools import accumulate
from random import Random


class Fault(StrEnum):
    """A fault of one call."""

    THROTTLED = "throttled"  # refused, not applied
    CONFLICT = "conflict"  # refused because of a concurrent transaction, not applied
    LOST_REQUEST = "lost request"  # not applied, but the caller cannot know
    LOST_ANSWER = "lost answer"  # applied, but the caller cannot know
    LATE = "late"  # applied after the caller has given up
    SLOW = "slow"  # applied after seconds to minutes
    SLOW_ANSWER = "slow answer"  # applied at once, answered after seconds to minutes
    HANGING = "hanging"  # applied or not, no answer until the client's time-out
    CRASH_BEFORE = "crash before"  # the calling process crashes, not applied
    CRASH_AFTER = "crash after"  # applied, and the calling process crashes before the answer
    PARTIAL = "partial"  # some entries of a batch call are refused, under HTTP 200
    DUPLICATED = "duplicated"  # a message exists twice, each copy with its own receive count
    LOST_DELETE = "lost delete"  # answered as deleted, but the message stays
    STALE = "stale"  # an index answers with an old state, a count is off by one


_EVERY = (
    Fault.THROTTLED, Fault.SLOW, Fault.SLOW_ANSWER, Fault.HANGING, Fault.CRASH_BEFORE, Fault.CRASH_AFTER,
)  # fmt: skip
_WRITE = (*_EVERY, Fault.LOST_REQUEST, Fault.LOST_ANSWER, Fault.LATE)

IN_TRANSIT: Mapping[str, tuple[Fault, ...]] = {
    "send": _WRITE,
    "receive": (*_EVERY, Fault.LOST_REQUEST, Fault.LOST_ANSWER),
    "extend": _WRITE,
    "delete": _WRITE,
    "depth": _EVERY,
    "commit": (*_WRITE, Fault.CONFLICT),
    "write": (*_WRITE, Fault.CONFLICT),
    "read": (*_EVERY, Fault.LOST_REQUEST),
    "index": (*_EVERY, Fault.LOST_REQUEST),
    "publish": _WRITE,
    "part": _EVERY,
    "complete": (*_EVERY, Fault.LOST_REQUEST, Fault.LOST_ANSWER),
    "tell": _WRITE,
}
"""The faults that a call of each kind can suffer between the process and the service."""

RATE_FACTORS = {"part": 4.0, "complete": 4.0, "publish": 2.0, "commit": 3.0, "tell": 4.0}
"""Kinds of calls that are rare in a world: their faults are as many times more likely."""

AT_SERVICE: Mapping[str, tuple[Fault, ...]] = {
    "send": (Fault.PARTIAL, Fault.DUPLICATED),
    "receive": (Fault.DUPLICATED,),
    "extend": (Fault.PARTIAL,),
    "delete": (Fault.PARTIAL, Fault.LOST_DELETE),
    "depth": (Fault.STALE,),
    "index": (Fault.STALE,),
}
"""The faults that a call of each kind can suffer at the service itself."""

_Table = dict[str, tuple[list[Fault], list[float]]]


class FaultInjector:
    """Draws the faults of one world from `random`, by their `rates` per call, until `until_s`.

    `happened` counts the faults by kind of call, `count` all of them, those of processes and services too.
    `late_writes` are under way: their callers have given them up, and they will still be applied.
    """

    def __init__(
        self, rates: Mapping[Fault, float], until_s: float, random: Random, now: Callable[[], float]
    ) -> None:
        self._until_s = until_s
        self._random = random
        self._draw = random.random
        self._now = now
        self.happened: Counter[str] = Counter()
        self.count = 0
        self.late_writes = 0
        self._written: set[str] = set()
        self._in_transit = _table(IN_TRANSIT, rates)
        self._at_service = _table(AT_SERVICE, rates)

    def in_transit(self, call: str) -> Fault | None:
        """Draw the fault of a call of this kind between the process and the service; None for no fault."""
        return self._draw_fault(self._in_transit, call)

    def at_service(self, call: str) -> Fault | None:
        """Draw the fault of a call of this kind at the service itself; None for no fault."""
        return self._draw_fault(self._at_service, call)

    def _draw_fault(self, table: _Table, call: str) -> Fault | None:
        kinds, steps = table[call]
        if not steps:
            return None
        value = self._draw()
        if value >= steps[-1] or self._now() >= self._until_s:
            return None
        fault = kinds[bisect_right(steps, value)]
        self.happened[f"{call}: {fault}"] += 1
        self.count += 1
        return fault

    def stall_s(self, rate: float) -> float:
        """Draw how long a process is paused at this point, with probability `rate`; 0.0 for no pause."""
        if not rate or self._now() >= self._until_s or self._draw() >= rate:
            return 0.0
        self.happened["process: stalled"] += 1
        return 20.0 + 150.0 * self._draw()

    def is_late(self, rate: float, name: str) -> bool:
        """Draw, with probability `rate`, that the first write of an object is applied minutes later."""
        if name in self._written or self._draw() >= rate:
            return False
        self._written.add(name)
        self.happened["world: late write"] += 1
        self.count += 1
        return True

    def redelivered_s(self, rate: float, visibility_s: float) -> float | None:
        """Draw after how long a message is delivered again, with probability `rate`; None for not early."""
        if not rate or self._now() >= self._until_s or self._draw() >= rate:
            return None
        self.happened["receive: redelivered"] += 1
        # Half of them soon, because most messages are deleted soon.
        return visibility_s * self._draw() ** 2 if self._draw() < 0.5 else 0.3 * self._draw()

    def seconds(self) -> float:
        """Draw the duration of something slow: 1 to 120 seconds, more often short than long."""
        return 120.0 ** self._draw()

    def chance(self, probability: float) -> bool:
        """Return True with this probability."""
        return self._draw() < probability

    def uniform(self, most: float) -> float:
        """Draw a number from 0 to `most`."""
        return most * self._draw()

    def choose(self, count: int) -> list[int]:
        """Draw at least one of `count` indices, in order."""
        chosen = [index for index in range(count) if self._draw() < 0.5]
        return chosen or [int(self._draw() * count)]


def _table(possible: Mapping[str, tuple[Fault, ...]], rates: Mapping[Fault, float]) -> _Table:
    """For each kind of call its faults, and the running sums of their rates."""
    table = {}
    for call, faults in possible.items():
        kinds = [fault for fault in faults if rates.get(fault)]
        factor = RATE_FACTORS.get(call, 1.0)
        table[call] = (kinds, list(accumulate(factor * rates[fault] for fault in kinds)))
    return table
