"""Emptiness of queues: a lost message is sent again only when no message of its kind is left."""

from __future__ import annotations

from collections.abc import Callable

from service.domain.ports import Queue

EMPTY_SWEEPS = 2
"""SQS counts approximately: a queue counts as empty once this many sweeps in a row found it empty."""


class EmptinessCheck:
    """Finds out if a queue and its dead letters are empty together. `name` is the queue's, for the log.

    Dead letters are drained before lost messages are sent again. Those that the drain has left do not count,
    since they may lie there for days; `left` returns their number in a dead-letter queue.
    """

    def __init__(self, name: str, queue: Queue, dead: Queue, left: Callable[[Queue], int]) -> None:
        self._name = name
        self._queue = queue
        self._dead = dead
        self._left = left
        self._empty_sweeps = 0

    @property
    def is_empty(self) -> bool:
        """True if the last `EMPTY_SWEEPS` counts found no message."""
        return self._empty_sweeps >= EMPTY_SWEEPS

    async def count(self) -> None:
        """Count the messages once a sweep. Raises RetryableError and AccessError."""
        waiting = await self._queue.depth() + max(0, await self._dead.depth() - self._left(self._dead))
        self._empty_sweeps = 0 if waiting else self._empty_sweeps + 1

    @property
    def reason(self) -> str:
        """The reason why messages are sent again now, for the log."""
        found = "is empty" if self.is_empty else "is not, but it has been long"
        return f"the {self._name} queue {found}"
