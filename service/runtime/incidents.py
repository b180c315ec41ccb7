"""A lasting trouble in the log: when it begins or changes, rarely while it lasts, and when it is over."""

from __future__ import annotations

import structlog

from service.domain.ports import Clock

log = structlog.get_logger(__name__)

REPEAT_S = 600.0
"""While nothing changes a trouble is said this often: enough to be found, too rare to be noise."""


class IncidentLog:
    """Logs `event` as an error with its reason; `event` plus `_over` when it is gone."""

    __slots__ = ("_clock", "_event", "_known", "_over", "_said_at", "text")

    def __init__(self, clock: Clock, event: str, **known: str) -> None:
        self._clock = clock
        self._event = event
        self._over = f"{event}_over"
        self._known = known
        self._said_at = 0.0
        self.text = ""

    def say(self, text: str) -> None:
        """What is the matter now, with the remedy; "" where nothing is."""
        now = self._clock.monotonic()
        is_due = text != self.text or now - self._said_at >= REPEAT_S
        if text and is_due:
            log.error(self._event, reason=text, **self._known)
            self._said_at = now
        elif self.text and not text:
            log.info(self._over, **self._known)
        self.text = text
