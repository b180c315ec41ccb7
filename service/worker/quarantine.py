"""Quarantine: rows whose workers crashed are retried a few at a time, so that a poison row kills few others.

A row that crashes its process also costs a delivery to every other row in that process. Rows that were sent
again from the dead-letter queue are therefore admitted one at a time at first, and one more at a time after
each row that ends. A process that was killed starts with one again. A row whose worker crashes in quarantine
as well is admitted alone from then on: harmless rows get an outcome, and a poison row crashes nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class Quarantine:
    """The quarantine of one process."""

    def __init__(self) -> None:
        self._capacity = 1
        self._admitted = 0
        self._is_exclusive = False

    @contextmanager
    def admit(self, *, alone: bool = False) -> Iterator[bool]:
        """Yield True if the row may run now, in a slot that it holds until the end of the body.

        With `alone` the row is admitted only if no other row is, and no other row is admitted beside it. A
        body that ends without an exception raises the capacity by one.
        """
        if self._is_exclusive or self._admitted >= (1 if alone else self._capacity):
            yield False
            return
        self._admitted += 1
        self._is_exclusive = alone
        try:
            yield True
        finally:
            self._admitted -= 1
            self._is_exclusive = False
        # Only here, not in `finally`: a cancelled or crashed body does not show that its row is harmless.
        self._capacity += 1
