"""Bytes that many readers share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class ByteBudget:
    """At most `limit` bytes are taken at a time; who comes first gets them first."""

    def __init__(self, limit: int) -> None:
        self._limit = self._left = limit
        self._turn = asyncio.Lock()
        self._given_back = asyncio.Event()

    @asynccontextmanager
    async def reserve(self, size: int) -> AsyncIterator[None]:
        """Wait for `size` bytes, all at once, so that nobody waits holding some; the limit if it is more."""
        size = min(size, self._limit)
        async with self._turn:
            while self._left < size:
                self._given_back.clear()
                await self._given_back.wait()
            self._left -= size
        try:
            yield
        finally:
            self._left += size
            self._given_back.set()
