"""Back-off: a pause that doubles while calls fail one after the other."""

from __future__ import annotations

from service.domain.errors import RowfleetError

FIRST_BACKOFF_S = 0.5

MAX_BACKOFF_S = 30.0
"""Longest pause of a poller whose calls fail, and longest delay of a released message."""


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
