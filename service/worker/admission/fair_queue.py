"""A weighted fair queue with priorities: how batches share the slots of a target, one for each call.

Rows of a higher priority come first. Within a priority the next slot goes to the batch with the fewest calls
in flight for its weight. A batch without rivals gets all slots.

A batch may have a cap of its own on its calls in flight. What it leaves goes to the others.

Each batch may have a few rows waiting. When its waiting list is full, the caller requeues the row; otherwise
it would block rows of other batches and targets behind it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from service.domain.model import DEFAULT_PRIORITY, DEFAULT_WEIGHT, Batch
from service.worker.rate_limit.wait_queue import WaitQueue

RECENT_S = 2.0
"""A batch or target whose last row came longer ago than this is not expected to send more."""


@dataclass(slots=True)
class _BatchQueue:
    """The rows of one batch: the number in flight, and those that wait for a slot.

    `control` is that of the view of the batch from which priority, weight and cap were taken.
    """

    priority: int = DEFAULT_PRIORITY
    weight: int = DEFAULT_WEIGHT
    cap: int | None = None
    control: int = -1
    last_row_at: float = 0.0
    in_flight: int = 0
    waiters: WaitQueue[bool] = field(default_factory=WaitQueue)

    @property
    def is_idle(self) -> bool:
        return not self.in_flight and not len(self.waiters)

    def update(self, batch: Batch) -> None:
        """Take over what the batch says, unless this view is older than another that was seen."""
        if batch.control >= self.control:
            self.control = batch.control
            self.priority, self.weight, self.cap = batch.priority, batch.weight, batch.max_concurrency

    @property
    def has_room(self) -> bool:
        """True if the batch may have another call in flight."""
        return self.cap is None or self.in_flight < self.cap

    @property
    def startable(self) -> int:
        """The number of waiting rows that the cap lets start."""
        return self.room(len(self.waiters))

    def room(self, free: int) -> int:
        """The number of `free` slots that the batch may take."""
        return free if self.cap is None else max(0, min(free, self.cap - self.in_flight))

    @property
    def rank(self) -> tuple[int, float]:
        """The batch with the lowest rank gets the next slot."""
        # The calls in flight for its weight, if it got one more.
        return -self.priority, (self.in_flight + 1) / self.weight


class FairQueue:
    """The slots of one target in one process, and the rows that wait for them.

    `slots` returns the present number of slots. At most `max_waiting` rows of each batch wait.
    """

    def __init__(self, slots: Callable[[], int], *, max_waiting: int) -> None:
        self._slots = slots
        self._max_waiting = max_waiting
        self._queues: dict[str, _BatchQueue] = {}
        self.in_flight = 0

    @property
    def waiting(self) -> int:
        """The number of rows that wait for a slot."""
        return sum(len(queue.waiters) for queue in self._queues.values())

    def capacity(self, now: float) -> int:
        """The number of rows that could start or wait, if they are of the batch with the fewest waiting."""
        claimed = sum(queue.startable for queue in self._queues.values())
        free = max(0, self._slots() - self.in_flight - claimed)
        # It is not known of which batch the next row will be. Any that sent rows a moment ago may send more.
        recent = [queue for queue in self._queues.values() if now - queue.last_row_at < RECENT_S]
        if not recent:
            return free + max(0, self._max_waiting - self.waiting)
        return max(
            queue.room(free + len(queue.waiters))
            - queue.startable
            + max(0, self._max_waiting - len(queue.waiters))
            for queue in recent
        )

    def is_full_for(self, batch: Batch) -> bool:
        """True if a row of `batch` could neither start nor wait."""
        queue = self._queues.get(batch.batch_id)
        if queue is None or len(queue.waiters) < self._max_waiting:
            return False
        return not (queue.has_room and self._has_free_slot)

    def try_acquire(self, batch: Batch, now: float) -> bool:
        """Take a slot if one is free and no row waits for it. Return True if that succeeded."""
        if not self._has_free_slot:
            return False
        queue = self._queue_of(batch, now)
        if not queue.has_room:
            return False
        self._occupy(queue)
        return True

    async def acquire(self, batch: Batch, now: float) -> bool:
        """Take a slot, after waiting for it if need be.

        Return False if the waiting list of the batch is full, or if `reject_waiting` was called meanwhile.
        """
        if self.try_acquire(batch, now):
            return True
        queue = self._queue_of(batch, now)
        if len(queue.waiters) >= self._max_waiting:
            return False
        waiter = queue.waiters.join()
        self.dispatch()  # the number of slots may have grown since the last release

        def release_if(is_granted: bool) -> None:
            if is_granted:
                self.release(batch)

        try:
            return await queue.waiters.wait(waiter, release_if)
        finally:
            self._drop_if_idle(batch.batch_id)

    def update(self, batch: Batch) -> None:
        """Take over priority, weight and cap of a batch that an operation has changed."""
        queue = self._queues.get(batch.batch_id)
        if queue is not None:
            queue.update(batch)
            self.dispatch()

    def release(self, batch: Batch) -> None:
        """Free the slot of a row of `batch`, for the next row that waits."""
        self._queues[batch.batch_id].in_flight -= 1
        self.in_flight -= 1
        self.dispatch()
        self._drop_if_idle(batch.batch_id)

    def dispatch(self) -> None:
        """Give free slots to waiting rows."""
        while self._has_waiting and self.in_flight < self._slots():
            contenders = (queue for queue in self._queues.values() if queue.startable)
            queue = min(contenders, key=lambda queue: queue.rank)
            queue.waiters.serve(True)
            self._occupy(queue)

    def reject_waiting(self) -> None:
        """End the wait of every row: `acquire` returns False."""
        for batch_id, queue in list(self._queues.items()):
            while queue.waiters.serve(False):
                pass
            self._drop_if_idle(batch_id)

    @property
    def _has_waiting(self) -> bool:
        """True if a row waits that its batch's cap lets start."""
        return any(queue.startable for queue in self._queues.values())

    @property
    def _has_free_slot(self) -> bool:
        """True if a slot is free that no row waits for."""
        return self.in_flight < self._slots() and not self._has_waiting

    def _occupy(self, queue: _BatchQueue) -> None:
        queue.in_flight += 1
        self.in_flight += 1

    def _queue_of(self, batch: Batch, now: float) -> _BatchQueue:
        queue = self._queues.setdefault(batch.batch_id, _BatchQueue())
        queue.update(batch)
        queue.last_row_at = now
        return queue

    def _drop_if_idle(self, batch_id: str) -> None:
        queue = self._queues.get(batch_id)
        if queue is not None and queue.is_idle:
            del self._queues[batch_id]
