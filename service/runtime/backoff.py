"""Calls that fail one after the other."""

from __future__ import annotations

from service.domain.errors import RowfleetError

MAX_BACKOFF_S = 30.0
"""Longest pause of a poller whose calls fail, and longest delay of a message that is given back."""


class Backoff:
    """How long to hold back while calls fail, and what to say of it."""

    __slots__ = ("_failures", "reason", "until")

    def __init__(self) -> None:
        self._failures = 0
        self.reason = ""
        self.until = 0.0

    def failed(self, error: RowfleetError, now: float) -> None:
        """Another failure: hold back for 0.5 s, doubling to `MAX_BACKOFF_S`; a burst counts as one."""
        self.reason = str(error)
        if now >= self.until:
            self._failures += 1
            self.until = now + min(MAX_BACKOFF_S, 0.25 * 2.0 ** min(self._failures, 8))

    def succeeded(self) -> bool:
        """A call succeeded; returns whether that is news."""
        news = bool(self.reason)
        self._failures, self.reason, self.until = 0, "", 0.0
        return news
