"""A narrow lane for rows whose workers died: one that kills its process takes few others with it.

A row shares its fate with what its process holds beside it, so the neighbours of a row that kills workers use
up deliveries as well. What became a dead letter gets a second chance: a few at a time, one at first, and one
more for every row that gets through; a process that was killed begins with one again. Innocent rows get
through, and what is left kills its worker alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class Lane:
    """The lane of one process."""

    def __init__(self) -> None:
        self._width = 1
        self._inside = 0

    @contextmanager
    def place(self) -> Iterator[bool]:
        """Whether there was a place. A body that ends without an exception widens the lane."""
        if self._inside >= self._width:
            yield False
            return
        self._inside += 1
        try:
            yield True
        finally:
            self._inside -= 1
        self._width += 1
