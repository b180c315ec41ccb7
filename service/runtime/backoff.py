"""Waits that grow while calls fail: the back-off of a poller, and the linger of a group commit."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

from service.domain.errors import RowfleetError

K = TypeVar("K")

FIRST_BACKOFF_S = 0.5

MAX_BACKOFF_S = 30.0
"""Longest pause of a poller whose calls fail, and longest delay of a released message."""

LINGER_GROWTH = 2.0
"""Factor after a commit that was throttled or met another."""

LINGER_DECAY = 0.9
"""Factor after a commit that was applied: the linger is stable at one failure in eight commits."""

MOST_LINGER_GROWTH = 15.0
LONGEST_LINGER_S = 3.0
"""A linger never grows beyond this: below `MAX_COMMIT_WAIT_S`, after which the target gets no calls."""

MAX_LINGERS = 100
"""Batches whose lingers are remembered while no row of them waits."""


class Backoff:
    """State of one kind of call. `until` is the end of the pause, in monotonic seconds.

    `reason` is the text of the last error, "" after a success.
    """

    __slots__ = ("_failures", "reason", "until")

    def __init__(self) -> None:
        self._failures = 0
        self.reason = ""
        self.until = 0.0

    def failed(self, error: RowfleetError, now: float) -> None:
        """Record a failed call: pause for 0.5 s, doubling up to `MAX_BACKOFF_S`."""
        self.reason = str(error)
        # Calls that began before the pause may fail during it: they belong to the same failure.
        if now >= self.until:
            self.until = now + min(MAX_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** min(self._failures, 8))
            self._failures += 1

    def succeeded(self) -> bool:
        """Record a successful call and end the pause. True if the calls before it had failed."""
        had_failed = bool(self.reason)
        self._failures, self.reason, self.until = 0, "", 0.0
        return had_failed


class Linger:
    """The time for which commits of one batch wait for more outcomes: `seconds`, at least `shortest_s`.

    All commits of a batch add to counters under one partition key, which takes 500 transactions a second
    (AWS). A worker that is throttled there, or meets the transactions of others, waits longer, and so makes
    fewer and larger transactions. Each worker adapts by itself: nobody has to know how many there are.
    """

    def __init__(self, shortest_s: float) -> None:
        self._shortest_s = shortest_s
        self._longest_s = max(shortest_s, min(LONGEST_LINGER_S, shortest_s * MOST_LINGER_GROWTH))
        self.seconds = shortest_s

    @property
    def is_shortest(self) -> bool:
        """True if nothing has lengthened it lately."""
        return self.seconds == self._shortest_s

    def lengthen(self) -> None:
        """Note a commit that was refused because of the commits of others."""
        self.seconds = min(self._longest_s, self.seconds * LINGER_GROWTH)

    def shorten(self) -> None:
        """Note a commit that was applied."""
        self.seconds = max(self._shortest_s, self.seconds * LINGER_DECAY)


class Lingers(Generic[K]):
    """The lingers of the batches of one process, as far as they are not the shortest."""

    def __init__(self, shortest_s: float) -> None:
        self._shortest_s = shortest_s
        self._kept: OrderedDict[K, Linger] = OrderedDict()

    def take(self, key: K) -> Linger:
        """The linger of a batch whose rows begin to wait."""
        return self._kept.pop(key, None) or Linger(self._shortest_s)

    def put_back(self, key: K, linger: Linger) -> None:
        """Remember the linger of a batch of which no row waits any more."""
        if linger.is_shortest:
            return
        self._kept[key] = linger
        if len(self._kept) > MAX_LINGERS:
            self._kept.popitem(last=False)
