"""The failure of a store, for the process that runs on it."""

from __future__ import annotations

import asyncio

from service.adapters.sqlite.errors import StoreError


class StoreFailure:
    """The first error of a store. Whoever pays for what it is to keep waits for it, and stops."""

    def __init__(self) -> None:
        self.error: StoreError | None = None
        self._has_failed = asyncio.Event()

    def report(self, error: StoreError) -> None:
        """Note an error; later ones follow from the first."""
        if self.error is None:
            self.error = error
            self._has_failed.set()

    async def wait(self) -> StoreError:
        """The error, once there is one."""
        await self._has_failed.wait()
        assert self.error is not None
        return self.error
