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
        self._since: dict[str, float] = {}

    def __contains__(self, batch_id: str) -> bool:
        return batch_id in self._tasks

    def __len__(self) -> int:
        return len(self._tasks)

    @property
    def is_full(self) -> bool:
        """True if no further recovery may begin now."""
        return len(self._tasks) >= self._most

    @property
    def running_since(self) -> float | None:
        """The beginning of the oldest recovery under way; None if there is none."""
        return min(self._since.values(), default=None)

    def start(self, batch_id: str, work: Coroutine[Any, Any, None], now: float) -> None:
        """Begin to recover a batch at the time `now`. `work` handles its own errors."""
        task = asyncio.create_task(work)
        self._tasks[batch_id] = task
        self._since[batch_id] = now
        task.add_done_callback(lambda _: self._ended(batch_id))

    def _ended(self, batch_id: str) -> None:
        del self._tasks[batch_id], self._since[batch_id]

    async def wait(self) -> None:
        """Wait until every recovery has ended."""
        if self._tasks:
            await asyncio.wait(list(self._tasks.values()))

    async def cancel(self) -> None:
        """Cancel every recovery: each of its steps is safe to repeat."""
        for task in self._tasks.values():
            task.cancel()
        await self.wait()
