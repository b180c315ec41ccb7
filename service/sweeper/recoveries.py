"""Long work on batches in the background: a bounded number of tasks, one for each batch."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


class Recoveries:
    """Runs at most `most` recoveries at a time, so that a large batch stops no other."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def __contains__(self, batch_id: str) -> bool:
        return batch_id in self._tasks

    def __len__(self) -> int:
        return len(self._tasks)

    @property
    def is_full(self) -> bool:
        """True if no further recovery may begin now."""
        return len(self._tasks) >= self._most

    def start(self, batch_id: str, work: Coroutine[Any, Any, None]) -> None:
        """Begin to recover a batch. `work` handles its own errors."""
        task = asyncio.create_task(work)
        self._tasks[batch_id] = task
        task.add_done_callback(lambda _: self._tasks.pop(batch_id, None))

    async def wait(self) -> None:
        """Wait until every recovery has ended."""
        if self._tasks:
            await asyncio.wait(list(self._tasks.values()))

    async def cancel(self) -> None:
        """Cancel every recovery: each of its steps is safe to repeat."""
        for task in self._tasks.values():
            task.cancel()
        await self.wait()
