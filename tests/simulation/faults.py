"""Which faults a world may suffer, and the drawing of them. What AWS may do, and nothing else.

A fault is drawn once for every call of a port. Faults end at `until_s`: from then on the world is kind, and
everything has to come to its end.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Mapping
from enum import StrEnum
from itertools import accumulate
from random import Random


class Fault(StrEnum):
    """What may happen to a call."""

    THROTTLED = "throttled"  # refused, nothing applied
    CONFLICT = "conflict"  # the same, by a concurrent transaction
    LOST_REQUEST = "lost request"  # not applied, and the caller cannot know
    LOST_ANSWER = "lost answer"  # applied, and the caller cannot know
    LATE = "late"  # given up by the caller, and applied afterwards
    SLOW = "slow"  # seconds to minutes before it is applied
    SLOW_ANSWER = "slow answer"  # and the same before the answer comes
    HANGING = "hanging"  # no answer until the client's own time-out; applied or not
    CRASH_BEFORE = "crash before"  # the caller dies as it calls
    CRASH_AFTER = "crash after"  # the caller dies before it learns of the effect
    PARTIAL = "partial"  # some entries of a batch call are refused under 200
    DUPLICATED = "duplicated"  # a message exists twice, each copy with its own receive count
    LOST_DELETE = "lost delete"  # answered as done, and the message stays
    STALE = "stale"  # an index answers as of a while ago; a count is about right


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
}
"""Kinds of calls, and what may happen to each on its way."""

RATE_FACTORS = {"part": 4.0, "complete": 4.0, "publish": 2.0, "commit": 3.0}
"""A world has few of these calls, so each suffers as many times more."""

AT_SERVICE: Mapping[str, tuple[Fault, ...]] = {
    "send": (Fault.PARTIAL, Fault.DUPLICATED),
    "receive": (Fault.DUPLICATED,),
    "extend": (Fault.PARTIAL,),
    "delete": (Fault.PARTIAL, Fault.LOST_DELETE),
    "depth": (Fault.STALE,),
    "index": (Fault.STALE,),
}
"""And what may happen to it where it arrives."""

_Table = dict[str, tuple[list[Fault], list[float]]]


class FaultInjector:
    """The faults of one world: `rates` of its kinds per call, drawn from `random` until `until_s`."""

    def __init__(
        self, rates: Mapping[Fault, float], until_s: float, random: Random, now: Callable[[], float]
    ) -> None:
        self._until_s = until_s
        self._random = random
        self._draw = random.random
        self._now = now
        self.happened: Counter[str] = Counter()
        self._on_the_way = _table(IN_TRANSIT, rates)
        self._inside = _table(AT_SERVICE, rates)

    def draw(self, call: str) -> Fault | None:
        """What happens to this call on its way."""
        return self._drawn(self._on_the_way, call)

    def inside(self, call: str) -> Fault | None:
        """What happens to it where it arrives."""
        return self._drawn(self._inside, call)

    def _drawn(self, table: _Table, call: str) -> Fault | None:
        kinds, steps = table[call]
        if not steps:
            return None
        value = self._draw()
        if value >= steps[-1] or self._now() >= self._until_s:
            return None
        fault = kinds[bisect_right(steps, value)]
        self.happened[f"{call}: {fault}"] += 1
        return fault

    def seconds(self) -> float:
        """How long something slow takes: often a second, sometimes two minutes."""
        return 120.0 ** self._draw()

    def chance(self, probability: float) -> bool:
        """Whether something of this probability is so."""
        return self._draw() < probability

    def uniform(self, most: float) -> float:
        """Anything from 0 to `most`."""
        return most * self._draw()

    def choose(self, count: int) -> list[int]:
        """At least one of `count` indices, in order."""
        chosen = [index for index in range(count) if self._draw() < 0.5]
        return chosen or [int(self._draw() * count)]


def _table(possible: Mapping[str, tuple[Fault, ...]], rates: Mapping[Fault, float]) -> _Table:
    """For every call its kinds of faults, and the running sums of their rates."""
    table = {}
    for call, faults in possible.items():
        kinds = [fault for fault in faults if rates.get(fault)]
        often = RATE_FACTORS.get(call, 1.0)
        table[call] = (kinds, list(accumulate(often * rates[fault] for fault in kinds)))
    return table
