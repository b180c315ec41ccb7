"""A first-in-first-out queue of coroutines that each wait for one value."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar

T = TypeVar("T")


class WaitQueue(Generic[T]):
    """Waiters in the order in which they came. A waiter is a future: `join`, then `wait`."""

    def __init__(self) -> None:
        self._waiters: deque[asyncio.Future[T]] = deque()

    def __len__(self) -> int:
        """The number of waiters that are neither served nor cancelled."""
        # most queues are empty, and their length is asked for several times a row
        return sum(not waiter.done() for waiter in self._waiters) if self._waiters else 0

    def join(self, *, at_front: bool = False) -> asyncio.Future[T]:
        """Add a waiter. The caller passes it to `wait` or cancels it."""
        waiter: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        if at_front:
            self._waiters.appendleft(waiter)
        else:
            self._waiters.append(waiter)
        return waiter

    async def wait(self, waiter: asyncio.Future[T], release: Callable[[T], None]) -> T:
        """Return the value with which `waiter` is served.

        If the calling task is cancelled although the waiter was served, the value is passed to `release`.
        """
        try:
            return await waiter
        except asyncio.CancelledError:
            with suppress(ValueError):
                self._waiters.remove(waiter)
            # Another task may have served the waiter after this task was cancelled and before it ran again.
            was_served = not waiter.cancel() and not waiter.cancelled() and waiter.exception() is None
            if was_served:
                release(waiter.result())
            raise

    def serve(self, value: T) -> bool:
        """Give `value` to the first waiter. Return False if there is none."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(value)
                return True
        return False

    def fail_all(self, make_error: Callable[[], Exception]) -> None:
        """End the wait of every waiter with an error of its own."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_exception(make_error())
