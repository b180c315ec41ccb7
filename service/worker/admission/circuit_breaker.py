"""A circuit breaker: a target that serves nobody is left alone, and asked now and then by one call.

It opens after `THRESHOLD` outages in a row; when its pause is over, one call goes through as a probe, and
what becomes of that closes it or doubles the pause. Pure; times are monotonic seconds.
"""

from __future__ import annotations

THRESHOLD = 5
"""Outages in a row, with no answer to anybody in between, that open it."""

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0


class CircuitBreaker:
    """The breaker of one target in one process. `reason` is the outage that opened it, "" while closed.

    `met_by_several`: the outages since the last answer met more than one row.
    """

    __slots__ = (
        "_failures", "_first_row", "_pause_s", "_probing", "_until", "answered_at", "met_by_several", "reason"
    )  # fmt: skip

    def __init__(self) -> None:
        self._failures = 0
        self._pause_s = FIRST_PAUSE_S
        self._until = 0.0
        self._probing = False
        self.reason = ""
        self.answered_at = float("-inf")
        self._first_row = ""
        self.met_by_several = False

    @property
    def is_open(self) -> bool:
        """Whether calls are held back, but for probes."""
        return bool(self.reason)

    def wait_s(self, now: float) -> float:
        """Seconds until a call may be tried; 0 where it may begin now, as a probe if it is open."""
        if not self.is_open:
            return 0.0
        return self._pause_s if self._probing else max(0.0, self._until - now)

    def begin(self) -> bool:
        """A call begins; whether it is a probe."""
        is_probe = self.is_open and not self._probing
        self._probing = self._probing or is_probe
        return is_probe

    def answered(self, now: float) -> bool:
        """The target served somebody, well or badly; returns whether that closed the breaker."""
        was_open = self.is_open
        self._failures, self._pause_s, self.reason = 0, FIRST_PAUSE_S, ""
        self._probing, self.met_by_several = False, False
        self.answered_at = now
        return was_open

    def refused(self, reason: str, now: float, *, row: str, is_probe: bool) -> bool:
        """The target serves nobody, as `row` found; returns whether a pause begins now."""
        self._failures += 1
        if self._failures == 1:
            self._first_row = row
        self.met_by_several = self.met_by_several or row != self._first_row
        if is_probe:
            self._pause_s = min(LONGEST_PAUSE_S, self._pause_s * 2)
            self._probing = False
        elif self.is_open or self._failures < THRESHOLD:
            return False
        self.reason = reason
        self._until = now + self._pause_s
        return True

    def abandon(self) -> None:
        """The probe ended without telling anything."""
        self._probing = False
