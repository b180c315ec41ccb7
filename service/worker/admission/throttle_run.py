"""A run of throttles: a target that answers nothing else serves nobody, although it can be reached.

A few throttles between replies are the normal way of a target to set the pace. Only many of them, over a
minute without a reply, are an outage.

Pure. Times are monotonic seconds.
"""

from __future__ import annotations

from service.domain.errors import AgentThrottledError

LEAST_THROTTLES = 5
LEAST_S = 60.0
"""So many throttles over so long, with no reply between them, are an outage."""

RENEW_S = 60.0
"""Time after which an outage that goes on is news again, so that its report stays valid."""


class ThrottleRun:
    """The throttles of one target in one process since it last served a row.

    `reason` is the last throttle if they are an outage, else "". `wait_s` is the wait that it asked for.
    """

    __slots__ = ("_count", "_said_at", "_since", "reason", "wait_s")

    def __init__(self) -> None:
        self._count = 0
        self._since = 0.0
        self._said_at = 0.0
        self.reason = ""
        self.wait_s = 0.0

    def add(self, error: AgentThrottledError, now: float, *, is_outage: bool = False) -> bool:
        """Note a throttle. Return True if that is news: an outage begins, or its report is to be renewed.

        `is_outage`: the target was down until now, so it serves nobody however few throttles there are.
        """
        if not self._count:
            self._since = now
        self._count += 1
        self.wait_s = error.retry_after_s or 0.0
        has_lasted = self._count >= LEAST_THROTTLES and now - self._since >= LEAST_S
        if not (is_outage or self.reason or has_lasted):
            return False
        is_news = is_outage or not self.reason or now - self._said_at >= RENEW_S
        self.reason = f"{error.kind}: {error}"
        if is_news:
            self._said_at = now
        return is_news

    def lasts_s(self, now: float) -> float:
        """Seconds since the first throttle; 0 without any."""
        return now - self._since if self._count else 0.0

    def end(self) -> bool:
        """Forget all throttles, because the target has served a row. Return True if they were an outage."""
        was_outage = bool(self.reason)
        self._count, self.reason, self.wait_s = 0, "", 0.0
        return was_outage
