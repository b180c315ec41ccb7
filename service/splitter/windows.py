"""Windows: the records that a split sends between two checkpoints, bounded in rows and in bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from service.csvio import Record


class Windows:
    """Cuts a stream of records into windows of at most `max_rows` records and `max_bytes` of the source.

    A record that is larger than `max_bytes` is a window of its own.
    """

    def __init__(self, max_rows: int, max_bytes: int) -> None:
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self._open: list[Record] = []
        self._open_bytes = 0

    def add(self, records: Iterable[Record]) -> Iterator[list[Record]]:
        """Take in records; yield each window that is full."""
        for record in records:
            if self._open and self._open_bytes + record.length > self._max_bytes:
                yield self._cut()
            self._open.append(record)
            self._open_bytes += record.length
            if len(self._open) == self._max_rows or self._open_bytes >= self._max_bytes:
                yield self._cut()

    def rest(self) -> list[Record]:
        """The records of the window that is not full."""
        return self._cut()

    def _cut(self) -> list[Record]:
        window, self._open, self._open_bytes = self._open, [], 0
        return window
