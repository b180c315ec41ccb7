"""Incidents in the log: a lasting problem is logged when it begins, changes and ends, rarely in between."""

from __future__ import annotations

import structlog

from service.domain.ports import Clock

log = structlog.get_logger(__name__)

REPEAT_S = 600.0
"""Pause between two log lines of an unchanged incident: often enough to be found, too rare to be noise."""


class IncidentLog:
    """Logs one kind of incident: `event` as an error with its reason, `event` plus `_over` at its end.

    `context` is part of every line. `reason` is the present incident, "" if there is none.
    """

    __slots__ = ("_clock", "_context", "_event", "_logged_at", "_over", "reason")

    def __init__(self, clock: Clock, event: str, **context: str) -> None:
        self._clock = clock
        self._event = event
        self._over = f"{event}_over"
        self._context = context
        self._logged_at = 0.0
        self.reason = ""

    def update(self, reason: str) -> None:
        """Set the present incident, with its remedy in the text; "" ends it."""
        now = self._clock.monotonic()
        is_due = reason != self.reason or now - self._logged_at >= REPEAT_S
        if reason and is_due:
            log.error(self._event, reason=reason, **self._context)
            self._logged_at = now
        elif self.reason and not reason:
            log.info(self._over, **self._context)
        self.reason = reason
