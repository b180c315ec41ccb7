"""A circuit breaker (Nygard, Release It!): a target that is down gets no calls but an occasional trial call.

- closed: calls are free. `THRESHOLD` failures in a row, with no success between them, open the breaker.
- open: no call may begin until the pause is over.
- half-open: the pause is over and one trial call may begin. A success closes the breaker. Another failure
  opens it again for twice as long.

A failure is an outage, or a server error (a 5xx or a reset). The row may be the cause of the latter, so a run
of them is only suspected to be an outage. The gate leaves out rows that have failed several times before.

Pure. Times are monotonic seconds.
"""

from __future__ import annotations

THRESHOLD = 5
"""Failures in a row that open the breaker."""

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0
LONGEST_SUSPECTED_PAUSE_S = 30.0
"""Longest pause after a 5xx: if the rows themselves are the cause, their attempts should end."""


class CircuitBreaker:
    """The breaker of one target in one process.

    `reason` is the outage that opened it, "" while closed. `last_success_at` is the time of the last success.
    `failing_since` is the time of the first failure after it. `seen_by_several_rows` is True if at least two
    different rows have failed since then.
    """

    __slots__ = (
        "_failures",
        "_first_row",
        "_has_trial",
        "_open_until",
        "_pause_s",
        "failing_since",
        "last_success_at",
        "reason",
        "seen_by_several_rows",
    )

    def __init__(self) -> None:
        self._failures = 0
        self._pause_s = FIRST_PAUSE_S
        self._open_until = 0.0
        self._has_trial = False
        self.reason = ""
        self.last_success_at = float("-inf")
        self.failing_since = float("-inf")
        self._first_row = ""
        self.seen_by_several_rows = False

    @property
    def is_open(self) -> bool:
        """True if no calls may begin, except trial calls."""
        return bool(self.reason)

    def wait_s(self, now: float) -> float:
        """Seconds until a call may begin; 0 if one may begin now (if the breaker is open, the trial call)."""
        if not self.is_open:
            return 0.0
        return self._pause_s if self._has_trial else max(0.0, self._open_until - now)

    def before_call(self) -> bool:
        """Note that a call begins. Return True if it is the trial call."""
        is_trial = self.is_open and not self._has_trial
        self._has_trial = self._has_trial or is_trial
        return is_trial

    def record_success(self, now: float) -> bool:
        """Note that the target answered, well or badly. Return True if that closed the breaker."""
        was_open = self.is_open
        self._failures, self._pause_s, self.reason = 0, FIRST_PAUSE_S, ""
        self._has_trial, self.seen_by_several_rows = False, False
        self.last_success_at = now
        return was_open

    def record_throttle(self) -> bool:
        """Note that the target asks for fewer calls. Return True if that closed the breaker."""
        # The target is reachable but has served nobody: failures around the throttle stay in a row.
        was_open = self.is_open
        if was_open:
            self._failures, self._pause_s, self.reason, self._has_trial = 0, FIRST_PAUSE_S, "", False
        return was_open

    def record_failure(
        self, reason: str, now: float, *, row: str, is_trial: bool, is_suspected: bool = False
    ) -> bool:
        """Note that a call of `row` failed. Return True if that begins a pause."""
        self._failures += 1
        if self._failures == 1:
            self._first_row, self.failing_since = row, now
        # A single row may be at fault itself, by the credentials that it is sent with, for example.
        self.seen_by_several_rows = self.seen_by_several_rows or row != self._first_row
        if is_trial:
            longest_s = LONGEST_SUSPECTED_PAUSE_S if is_suspected else LONGEST_PAUSE_S
            self._pause_s = min(longest_s, self._pause_s * 2)
            self._has_trial = False
        elif self.is_open or self._failures < THRESHOLD:
            # Calls that began before the breaker opened do not lengthen its pause.
            return False
        self.reason = reason
        self._open_until = now + self._pause_s
        return True

    def cancel_trial(self) -> None:
        """Note that the trial call ended without a result, so that another call may be the trial."""
        self._has_trial = False
