"""The outcomes of a batch in file order, without a sort.

Row *i* lies in partition *i mod P*, and each partition is sorted by row number. Reading the partitions
round-robin therefore yields file order; memory holds one page of each.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator

from service.domain.errors import BatchRejectedError
from service.domain.model import Batch, Outcome, partition_of
from service.domain.ports import Table

LEAST_PAGE_ROWS = 10
"""Rows in a page of a batch with many partitions; a smaller page would cost a read for few rows."""


async def outcomes_in_order(table: Table, batch: Batch, page_rows: int) -> AsyncIterator[Outcome]:
    """Every outcome of a sealed batch; about `page_rows` are read ahead over all partitions together.

    Raises BatchRejectedError if a row has no outcome, RetryableError and AccessError.
    """
    rows = max(LEAST_PAGE_ROWS, page_rows // batch.partitions)
    partitions = [_Partition(table, batch, partition, rows) for partition in range(batch.partitions)]
    for number in range(1, (batch.total or 0) + 1):
        outcome = await partitions[partition_of(number, batch.partitions)].next()
        if outcome is None or outcome.number != number:
            raise BatchRejectedError(
                f"row {number} of {batch.total} is counted but has no outcome in the table; was "
                "the table restored, or its ttl shorter than the run?"
            )
        yield outcome


class _Partition:
    """The outcomes of one partition, read a page at a time."""

    def __init__(self, table: Table, batch: Batch, partition: int, page_rows: int) -> None:
        self._table = table
        self._batch = batch
        self._partition = partition
        self._page_rows = page_rows
        self._page: deque[Outcome] = deque()
        self._after: int | None = 0

    async def next(self) -> Outcome | None:
        """The next outcome; None at the end."""
        while not self._page and self._after is not None:
            page = await self._table.outcomes(
                self._batch, self._partition, after=self._after, limit=self._page_rows
            )
            self._page.extend(page.outcomes)
            self._after = page.after
        return self._page.popleft() if self._page else None
