"""A budget of bytes that concurrent readers share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class ByteBudget:
    """At most `limit` bytes are reserved at a time. Reservations are granted in the order of arrival."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._available = limit
        self._head_of_line = asyncio.Lock()
        self._released = asyncio.Event()

    @asynccontextmanager
    async def reserve(self, size: int) -> AsyncIterator[None]:
        """Wait for `size` bytes and hold them inside the context; a larger size waits for the whole limit.

        All bytes are taken at once: readers that held a part while waiting for the rest could deadlock.
        """
        size = min(size, self._limit)
        # Only the first in line waits for bytes. Small requests cannot overtake a large one and starve it.
        async with self._head_of_line:
            while self._available < size:
                self._released.clear()
                await self._released.wait()
            self._available -= size
        try:
            yield
        finally:
            self._available += size
            self._released.set()
