"""A narrow lane for rows whose workers died: one that kills its process takes few others with it.

A row shares its fate with what its process holds beside it, so the neighbours of a row that kills workers use
up deliveries as well. What became a dead letter gets a second chance: a few at a time, one at first, and one
more for every row that gets through; a process that was killed begins with one again. A row whose worker died
in the lane too has it for itself from then on: the innocent get through, and a killer dies alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class Quarantine:
    """The lane of one process."""

    def __init__(self) -> None:
        self._width = 1
        self._inside = 0
        self._is_closed = False

    @contextmanager
    def admit(self, *, alone: bool = False) -> Iterator[bool]:
        """Whether there was a place; `alone` asks for the whole lane.

        A body that ends without an exception widens the lane.
        """
        if self._is_closed or self._inside >= (1 if alone else self._width):
            yield False
            return
        self._inside += 1
        self._is_closed = alone
        try:
            yield True
        finally:
            self._inside -= 1
            self._is_closed = False
        self._width += 1
