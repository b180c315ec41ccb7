"""Backpressure: a splitter sends no further than a set number of rows ahead of the workers.

SQS takes any number of messages, and its fair queues tell batches apart, so on AWS there is no limit. An
emulator gets slow with a deep queue and serves a small batch only behind all rows that a large one has sent.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from service.batch.role_ports import Ports
from service.domain.errors import RetryableError
from service.domain.model import Batch, State
from service.runtime.delivery import Delivery

log = structlog.get_logger(__name__)

FIRST_POLL_S, LONGEST_POLL_S = 0.1, 1.0
"""Shortest and longest pause between two reads of a batch's progress. Each pause is twice the one before.

A splitter thus waits about twice as long as necessary at most. Meanwhile the workers have nearly
`max_queued_rows` rows left to process.
"""


EMPTY_FOR_S = 15.0
"""Rows are lost once their queue was empty for so long and none got an outcome. SQS counts approximately."""


class SplitEndedError(Exception):
    """The batch is no longer SPLITTING: another process has sealed or failed it, or it is held."""


class Backpressure:
    """Makes a splitter wait while `max_queued_rows` of its batch are sent and not done; 0: never.

    Rows whose messages are lost do not count: the sweeper sends them again once the batch is sealed.
    """

    def __init__(self, ports: Ports, max_queued_rows: int) -> None:
        self._ports = ports
        self._max_queued_rows = max_queued_rows
        self._lost = 0
        self._done = 0
        self._empty_since: float | None = None

    async def wait(self, batch: Batch, check_leases: Callable[[], None], delivery: Delivery) -> None:
        """Return once the batch may send its next window.

        Raises SplitEndedError, what `check_leases` raises, and RetryableError if the process stops.
        """
        pause_s = FIRST_POLL_S
        self._empty_since = None
        while self._max_queued_rows and batch.checkpoint.rows - self._lost >= self._max_queued_rows:
            view = await self._ports.table.read(batch.batch_id)
            if view is None or view.batch.state is not State.SPLITTING:
                raise SplitEndedError
            unfinished = batch.checkpoint.rows - view.all_counts.done
            if view.batch.cancelled_at:
                return
            if unfinished - self._lost < self._max_queued_rows:
                return
            # Other batches may use the slot from here on, for as long as this split lasts. If a waiting split
            # kept it, a few large batches would keep all others from being split.
            delivery.release_slot()
            check_leases()
            if delivery.is_draining:
                raise RetryableError("this process stops; the split goes on elsewhere, or later")
            if await self._is_empty(view.counts.done):
                log.warning("rows_are_lost", rows=unfinished, reason="the rows queue is empty")
                self._lost = unfinished
                return
            await self._ports.clock.sleep(pause_s)
            pause_s = min(LONGEST_POLL_S, 2 * pause_s)

    async def _is_empty(self, done: int) -> bool:
        """True if the rows queue has been empty for `EMPTY_FOR_S`, and no row of the batch was done since."""
        now = self._ports.clock.monotonic()
        if await self._ports.queues.rows.depth():
            self._empty_since = None
        elif self._empty_since is None or done != self._done:
            self._empty_since = now
        self._done = done
        return self._empty_since is not None and now - self._empty_since >= EMPTY_FOR_S
