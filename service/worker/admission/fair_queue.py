"""Who gets the next place at a target, where more rows wait than there are slots: batches, by weight.

Rows of a higher priority come first; within a priority the batch with the fewest rows in flight for its
weight. A batch alone has all slots. Each batch may have a few rows waiting: what finds no room is the
caller's to put back, so that rows of other batches and targets are seen.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from service.domain.model import Batch

RECENT_S = 2.0
"""A batch of which no row came for this long is not waited for."""


@dataclass(slots=True)
class _BatchQueue:
    """A batch at a target: its rows in flight, and those that wait."""

    priority: int
    weight: int
    seen_at: float = 0.0
    in_flight: int = 0
    waiting: deque[asyncio.Future[bool]] = field(default_factory=deque)

    @property
    def is_idle(self) -> bool:
        return not self.in_flight and not self.waiting

    @property
    def rank(self) -> tuple[int, float]:
        """Smaller goes first."""
        return -self.priority, (self.in_flight + 1) / self.weight


class FairQueue:
    """The slots of one target in one process. `slots` says how many there are now.

    Each batch has room for `max_waiting` rows that wait.
    """

    def __init__(self, slots: Callable[[], int], *, max_waiting: int) -> None:
        self._slots = slots
        self._max_waiting = max_waiting
        self._queues: dict[str, _BatchQueue] = {}
        self.in_flight = 0
        self.waiting = 0

    def capacity(self, now: float) -> int:
        """Rows that could come now and start or wait, of the batch that has most room for them."""
        free = max(0, self._slots() - self.in_flight - self.waiting)
        recent = [queue for queue in self._queues.values() if now - queue.seen_at < RECENT_S]
        fewest = min((len(queue.waiting) for queue in recent), default=self.waiting)
        return free + max(0, self._max_waiting - fewest)

    def is_full_for(self, batch: Batch) -> bool:
        """Whether a row of the batch would find neither a place nor room to wait for one."""
        queue = self._queues.get(batch.batch_id)
        return not self._has_free and queue is not None and len(queue.waiting) >= self._max_waiting

    def try_acquire(self, batch: Batch, now: float) -> bool:
        """Take a place where one is free and nobody waits; whether there was one."""
        if not self._has_free:
            return False
        self._start(self._queue_of(batch, now))
        return True

    async def acquire(self, batch: Batch, now: float) -> bool:
        """Take a place, after waiting for it where need be. False: no place, and no room to wait for one."""
        if self.try_acquire(batch, now):
            return True
        queue = self._queue_of(batch, now)
        if len(queue.waiting) >= self._max_waiting:
            return False
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        queue.waiting.append(turn)
        self.waiting += 1
        self.fill()  # it may be its turn already
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.result():  # it had just got its place
                self.release(batch)
            elif turn in queue.waiting:
                queue.waiting.remove(turn)
                self.waiting -= 1
                self._tidy(batch.batch_id)
            raise

    def release(self, batch: Batch) -> None:
        """A row of the batch leaves its place."""
        self._queues[batch.batch_id].in_flight -= 1
        self.in_flight -= 1
        self.fill()
        self._tidy(batch.batch_id)

    def fill(self) -> None:
        """Give what is free to those who wait."""
        while self.waiting and self.in_flight < self._slots():
            queue = min((s for s in self._queues.values() if s.waiting), key=lambda s: s.rank)
            turn = queue.waiting.popleft()
            self.waiting -= 1
            if not turn.done():  # cancelled, and not told yet
                self._start(queue)
                turn.set_result(True)

    def reject_waiting(self) -> None:
        """Whoever waits gets no place."""
        for batch_id, queue in list(self._queues.items()):
            while queue.waiting:
                self.waiting -= 1
                if not (turn := queue.waiting.popleft()).done():
                    turn.set_result(False)
            self._tidy(batch_id)

    @property
    def _has_free(self) -> bool:
        """Whether a place is free that nobody waits for."""
        return not self.waiting and self.in_flight < self._slots()

    def _start(self, queue: _BatchQueue) -> None:
        queue.in_flight += 1
        self.in_flight += 1

    def _queue_of(self, batch: Batch, now: float) -> _BatchQueue:
        queue = self._queues.setdefault(batch.batch_id, _BatchQueue(batch.priority, batch.weight))
        queue.seen_at = now
        return queue

    def _tidy(self, batch_id: str) -> None:
        queue = self._queues.get(batch_id)
        if queue is not None and queue.is_idle:
            del self._queues[batch_id]
