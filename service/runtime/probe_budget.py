"""When messages are fetched although nothing has room for them: whose the next ones are, nobody knows.

Where no room was seen for `pause_s`, the head of the queue is looked through at once, and what cannot start
is sent back: otherwise the first row of another target would be found behind all that a full one has there,
ten every pause. What was looked at in vain is counted: after `burst` of them it is ten every pause again, so
that a deep backlog is not sent round and round. Times are monotonic seconds. Pure.
"""

from __future__ import annotations

from service.domain.ports import SEND_LIMIT


class ProbeBudget:
    """The probes of one consumer."""

    def __init__(self, pause_s: float, burst: int) -> None:
        self._pause_s = pause_s
        self._burst = burst
        self._left = float(burst)
        self._filled_at = float("-inf")
        self.due_at = float("-inf")

    def postpone(self, now: float) -> None:
        """Messages are fetched since there is room for them: no probe for a while."""
        self.due_at = now + self._pause_s

    def record(self, messages: int, now: float) -> None:
        """So many came, and nothing had room for them."""
        filled = (now - self._filled_at) * SEND_LIMIT / self._pause_s
        self._left = max(0.0, min(self._burst, self._left + filled) - messages)
        self._filled_at = now
        if self._left < SEND_LIMIT:
            self.due_at = now + self._pause_s
