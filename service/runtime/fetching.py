"""Receives: the decision of a poller to receive now or wait, those in flight, and probes.

A probe receives messages although no target has capacity. Head-of-line blocking: while a target is full
nothing is received, so rows for another target behind the queue's head stay unseen. The handler requeues
those that cannot start. A token bucket of `burst` messages lets a short backlog be scanned at once, and
limits the scan of a long one to ten messages every `pause_s`: otherwise its messages would be received and
requeued all the time.

Pure; times are monotonic seconds.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from service.domain.ports import BATCH_CALL_ENTRIES

POLL_MARGIN_S = 60.0
"""Time beyond its wait after which a receive is reported as hanging. Its own time-out is shorter."""


@dataclass(frozen=True, slots=True)
class Fetch:
    """Receive up to `limit` messages now. `is_probe`: although no target has capacity (see `ProbeBudget`)."""

    limit: int
    is_probe: bool = False


@dataclass(frozen=True, slots=True)
class WaitUntil:
    """Decide again at `at` (None: no set time), and earlier if slots, capacity or pauses change.

    `lingering_since`: time since which fewer slots than a full batch call needs have been free, None if the
    poller does not wait for more free slots. The next decision takes it.
    """

    at: float | None
    lingering_since: float | None = None


@dataclass(frozen=True, slots=True)
class FetchState:
    """The consumer's state that a decision depends on.

    `paused_until`: end of the pause after failed calls. `free_slots`: deliveries that could start, less those
    already requested by polls in flight. `holdable`: messages that may still be held, less the same.
    `probe_due_at`: time of the next probe, None if there are no probes.
    """

    paused_until: float
    free_slots: int
    holdable: int
    probe_due_at: float | None = None


def next_fetch(
    now: float, state: FetchState, lingering_since: float | None, *, max_running: int, linger_s: float
) -> Fetch | WaitUntil:
    """Decide what a poller does at `now`."""
    if now < state.paused_until:
        return WaitUntil(state.paused_until, lingering_since)
    full_call = min(BATCH_CALL_ENTRIES, max_running)
    if state.free_slots >= full_call:
        return Fetch(full_call)
    if state.free_slots > 0:
        # A short wait for more free slots, because SQS charges for calls, not for messages.
        since = now if lingering_since is None else lingering_since
        if now >= since + linger_s:
            return Fetch(state.free_slots)
        return WaitUntil(since + linger_s, since)
    return _next_probe(now, state)


def _next_probe(now: float, state: FetchState) -> Fetch | WaitUntil:
    if state.probe_due_at is not None and now < state.probe_due_at:
        return WaitUntil(state.probe_due_at)
    if state.probe_due_at is None or state.holdable <= 0:
        return WaitUntil(None)
    return Fetch(min(BATCH_CALL_ENTRIES, state.holdable), is_probe=True)


class PollsInFlight:
    """The receives of one consumer. `requested` is the number of messages that they may still deliver."""

    def __init__(self) -> None:
        self._began_at: dict[int, float] = {}
        self._numbers = itertools.count()
        self.requested = 0

    @contextmanager
    def one(self, limit: int, now: float) -> Iterator[None]:
        """A receive of up to `limit` messages that begins at `now` is in flight inside the block."""
        number = next(self._numbers)
        self._began_at[number] = now
        self.requested += limit
        try:
            yield
        finally:
            self.requested -= limit
            del self._began_at[number]

    def problem(self, queue: str, wait_s: float, now: float) -> str:
        """A receive with a wait of `wait_s` that should have ended long ago, or "".

        A consumer that is full has no receive in flight, which is no problem.
        """
        lasts_s = now - min(self._began_at.values(), default=math.inf)
        if lasts_s <= wait_s + POLL_MARGIN_S:
            return ""
        return f"a receive from {queue} has not ended for {lasts_s:.0f} s"


class ProbeBudget:
    """The probes of one consumer. The next one is due at `due_at`."""

    def __init__(self, pause_s: float, burst: int) -> None:
        self._pause_s = pause_s
        self._burst = burst
        self._tokens = float(burst)
        # The first refill fills the bucket, and the first probe is due at once.
        self._filled_at = float("-inf")
        self.due_at = float("-inf")

    def postpone(self, now: float) -> None:
        """Put the next probe off by `pause_s`, because messages are received into free slots."""
        self.due_at = now + self._pause_s

    def record(self, messages: int, now: float) -> None:
        """Record a probe that received `messages`."""
        refill = (now - self._filled_at) * BATCH_CALL_ENTRIES / self._pause_s
        self._tokens = max(0.0, min(self._burst, self._tokens + refill) - messages)
        self._filled_at = now
        if self._tokens < BATCH_CALL_ENTRIES:
            self.due_at = now + self._pause_s
