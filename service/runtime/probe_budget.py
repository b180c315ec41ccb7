"""Probes: when messages are received although no target has capacity. Pure; times are monotonic seconds.

Head-of-line blocking: while a target is full nothing is received, so rows for another target behind the
queue's head stay unseen. A probe receives messages anyway; the handler requeues those that cannot start. A
token bucket of `burst` messages lets a short backlog be scanned at once, and limits the scan of a long one to
ten messages every `pause_s`: otherwise its messages would be received and requeued all the time.
"""

from __future__ import annotations

from service.domain.ports import BATCH_CALL_ENTRIES


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
