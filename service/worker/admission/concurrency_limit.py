"""How many calls may be in flight at a target: a level that finds itself, by what the target answers.

Additive increase, multiplicative decrease (Chiu and Jain, 1989; what TCP does): while every place is used and
the answers come, one place more per round of calls; a throttle takes the level down at once, most calls of a
round timing out halve it, and answers that have become much slower than the best round seen take it down
slowly. It begins at `most`: that many are what the user allowed. Pure; times are monotonic seconds.
"""

from __future__ import annotations

import statistics
from enum import StrEnum

THROTTLED_FACTOR = 0.7
HANGING_FACTOR = 0.5
SLOW_FACTOR = 0.9
SLOW_RATIO = 3.0
"""A round whose median latency is this many times the best round's means that calls wait in the target."""

FORGET_RATIO = 1.02
"""The best round's latency is believed a little less with every round: a target may have become slower."""

LEAST_ROUND = 10
"""Calls in a round, where the level is lower: fewer have no median."""


class LoadSignal(StrEnum):
    """How a call ended, as far as the target's load goes."""

    ANSWERED = "answered"
    THROTTLED = "throttled"
    TIMED_OUT = "timed out"


class AimdLimit:
    """The level of one target in one process, between 1 and `most`."""

    __slots__ = ("_best_s", "_changed_at", "_latencies_s", "_limit", "_most", "_timed_out")

    def __init__(self, most: int) -> None:
        self._most = most
        self._limit = float(most)
        self._changed_at = float("-inf")
        self._latencies_s: list[float] = []
        self._timed_out = 0
        self._best_s = float("inf")

    @property
    def limit(self) -> int:
        """Calls that may be in flight now."""
        return int(self._limit)

    def record(self, ended: LoadSignal, *, started: float, now: float, in_flight: int) -> None:
        """A call that began at `started` ended; `in_flight` counts the calls before it left, itself included.

        What began before the level was last lowered says nothing of the level as it is now.
        """
        if started < self._changed_at:
            return
        if ended is LoadSignal.THROTTLED:
            self._lower(THROTTLED_FACTOR, now)
            return
        self._latencies_s.append(now - started)
        self._timed_out += ended is LoadSignal.TIMED_OUT
        if ended is LoadSignal.ANSWERED and in_flight >= self.limit:
            self._limit = min(float(self._most), self._limit + 1 / self._limit)
        if len(self._latencies_s) >= max(LEAST_ROUND, self.limit):
            self._judge(now)

    def _judge(self, now: float) -> None:
        """A round is complete."""
        median_s = statistics.median(self._latencies_s)
        if self._timed_out * 2 > len(self._latencies_s):
            self._lower(HANGING_FACTOR, now)
        elif median_s > SLOW_RATIO * self._best_s:
            self._lower(SLOW_FACTOR, now)
        self._best_s = min(self._best_s * FORGET_RATIO, median_s)
        self._begin_round()

    def _lower(self, factor: float, now: float) -> None:
        self._limit = max(1.0, self._limit * factor)
        self._changed_at = now
        self._begin_round()

    def _begin_round(self) -> None:
        self._latencies_s.clear()
        self._timed_out = 0
