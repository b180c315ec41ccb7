"""Emptiness of queues: a lost message is sent again only when no message of its kind is left."""

from __future__ import annotations

from service.domain.ports import Queue

EMPTY_SWEEPS = 2
"""SQS counts approximately: a queue counts as empty once this many sweeps in a row found it empty."""


class EmptinessCheck:
    """Finds out if a queue and its dead letters are empty together. `name` is the queue's, for the log.

    The dead-letter queue belongs to the set: its letters are drained before lost messages are sent again.
    """

    def __init__(self, name: str, *queues: Queue) -> None:
        self._name = name
        self._queues = queues
        self._empty_sweeps = 0

    @property
    def is_empty(self) -> bool:
        """True if the last `EMPTY_SWEEPS` counts found no message."""
        return self._empty_sweeps >= EMPTY_SWEEPS

    async def count(self) -> None:
        """Count the messages once a sweep. Raises RetryableError and AccessError."""
        depths = [await queue.depth() for queue in self._queues]
        self._empty_sweeps = 0 if any(depths) else self._empty_sweeps + 1

    @property
    def reason(self) -> str:
        """The reason why messages are sent again now, for the log."""
        found = "is empty" if self.is_empty else "is not, but it has been long"
        return f"the {self._name} queue {found}"
