"""The outcomes of a batch in file order, without a sort.

Row *i* lies in partition *i mod P*, and each partition is sorted by row number. Reading the partitions
round-robin therefore yields file order; memory holds one page of each. The size of a page follows the sizes
of the outcomes before it, so that the pages of many partitions stay small together.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator

from service.domain.errors import BatchRejectedError
from service.domain.item_size import outcome_bytes
from service.domain.model import Batch, Outcome, partition_of
from service.domain.ports import Table

LEAST_PAGE_ROWS = 10
"""Rows in a page of small outcomes; a smaller page would cost a read for few rows."""

AHEAD_BYTES = 8 * 2**20
"""Bytes of outcomes that are read ahead over all partitions together."""

FIRST_BYTES = 4 * 2**10
"""Size of an outcome that is expected before the first page."""

WEIGHT = 0.5
"""Weight of the latest page in the moving average of sizes."""


async def outcomes_in_order(
    table: Table, batch: Batch, page_rows: int, *, after: int = 0
) -> AsyncIterator[Outcome]:
    """The outcomes of a sealed batch above row `after`; about `page_rows` are read ahead over all partitions.

    Fewer if they are large: at most `AHEAD_BYTES`, one page (DynamoDB: 1 MB), and one outcome of each
    partition. Raises BatchRejectedError if a row has no outcome, RetryableError and AccessError.
    """
    ahead = _ReadAhead(batch.partitions, max(LEAST_PAGE_ROWS, page_rows // batch.partitions))
    partitions = [_Partition(table, batch, partition, ahead, after) for partition in range(batch.partitions)]
    for number in range(after + 1, (batch.total or 0) + 1):
        outcome = await partitions[partition_of(number, batch.partitions)].next()
        if outcome is None or outcome.number != number:
            raise BatchRejectedError(
                f"row {number} of {batch.total} is counted but has no outcome in the table; was "
                "the table restored, or its ttl shorter than the run?"
            )
        yield outcome


class _ReadAhead:
    """The bytes that the pages of all partitions hold, and the rows that the next page may have."""

    def __init__(self, partitions: int, most_rows: int) -> None:
        self._share = AHEAD_BYTES // partitions
        self._most_rows = most_rows
        self._mean = float(FIRST_BYTES)
        self.held_bytes = 0

    @property
    def rows(self) -> int:
        """The rows of the next page: 1 up to the most that was asked for."""
        room = min(self._share, AHEAD_BYTES - self.held_bytes)
        return max(1, min(self._most_rows, int(room / self._mean)))

    def add(self, rows: int, size: int) -> None:
        """Note that a page of `rows` outcomes and `size` bytes is held now."""
        self.held_bytes += size
        if rows:
            self._mean += WEIGHT * (size / rows - self._mean)


class _Partition:
    """The outcomes of one partition, read a page at a time."""

    def __init__(self, table: Table, batch: Batch, partition: int, ahead: _ReadAhead, after: int) -> None:
        self._table = table
        self._batch = batch
        self._partition = partition
        self._ahead = ahead
        self._page: deque[Outcome] = deque()
        self._page_bytes = 0
        self._after: int | None = after

    async def next(self) -> Outcome | None:
        """The next outcome; None at the end."""
        while not self._page and self._after is not None:
            await self._read(self._after)
        return self._page.popleft() if self._page else None

    async def _read(self, after: int) -> None:
        self._ahead.held_bytes -= self._page_bytes
        self._page_bytes = 0
        page = await self._table.outcomes(self._batch, self._partition, after=after, limit=self._ahead.rows)
        self._page.extend(page.outcomes)
        self._after = page.after
        self._page_bytes = sum(map(outcome_bytes, page.outcomes))
        self._ahead.add(len(page.outcomes), self._page_bytes)
