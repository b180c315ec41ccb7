"""An AIMD concurrency limit: how many calls may be in flight at a target, adapted to its replies.

Additive increase, multiplicative decrease (Chiu and Jain, 1989; TCP's congestion control). The limit begins
at `most`, which the user allowed. A round is about as many calls as the limit.

- Replies while all slots are in use raise the limit by one a round.
- A throttle lowers it at once.
- A round in which most calls time out halves it.

Latency is no signal: rows differ in it, and a target that queues serves as many calls under any limit.

Pure. Times are monotonic seconds.
"""

from __future__ import annotations

from enum import StrEnum

THROTTLED_FACTOR = 0.7
HANGING_FACTOR = 0.5

MIN_ROUND = 10
"""Fewest calls in a round, however low the limit: the share of time-outs among fewer means little."""


class LoadSignal(StrEnum):
    """The end of a call as a sign of the target's load."""

    ANSWERED = "answered"
    THROTTLED = "throttled"
    TIMED_OUT = "timed out"


class AimdLimit:
    """The limit of one target in one process, between 1 and `most`."""

    __slots__ = ("_ended", "_limit", "_lowered_at", "_most", "_timed_out")

    def __init__(self, most: int) -> None:
        self._most = most
        self._limit = float(most)
        self._lowered_at = float("-inf")
        self._ended = 0
        self._timed_out = 0

    @property
    def limit(self) -> int:
        """Calls that may be in flight now."""
        return int(self._limit)

    def record(self, signal: LoadSignal, *, started: float, now: float, in_flight: int) -> None:
        """Note that a call that began at `started` ended; `in_flight` counts the calls, this one included."""
        # A call that began under a higher limit says nothing about the present one. A burst of throttles
        # therefore lowers it once.
        if started < self._lowered_at:
            return
        if signal is LoadSignal.THROTTLED:
            self._lower(THROTTLED_FACTOR, now)
            return
        self._ended += 1
        self._timed_out += signal is LoadSignal.TIMED_OUT
        # With slots unused, a reply does not show that the target could bear more.
        if signal is LoadSignal.ANSWERED and in_flight >= self.limit:
            self._limit = min(float(self._most), self._limit + 1 / self._limit)
        # A round is complete: about one call for each slot, all of them begun under the present limit.
        if self._ended >= max(MIN_ROUND, self.limit):
            self._end_round(now)

    def _end_round(self, now: float) -> None:
        """Judge the round's time-outs and begin the next one."""
        if self._timed_out * 2 > self._ended:
            self._lower(HANGING_FACTOR, now)
        self._begin_round()

    def _lower(self, factor: float, now: float) -> None:
        self._limit = max(1.0, self._limit * factor)
        self._lowered_at = now
        self._begin_round()

    def _begin_round(self) -> None:
        self._ended = 0
        self._timed_out = 0
