"""The rows of a batch that lack an outcome, or are due in a later round, in file order.

Those that lack an outcome are found in one pass over the table.

Row *i* lies in partition *i mod P*, and each partition is sorted by row number. Reading the partitions in
turn merges their numbers; memory holds one page of each, however many rows there are.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence

from service.domain.model import Batch, partition_of
from service.domain.ports import Table
from service.recovery.kept import KeptRows

PAUSE_ROWS = 10_000
"""After so many rows without a read, other tasks get their turn."""


async def missing_rows(
    table: Table, batch: Batch, page_rows: int, *, after: int = 0
) -> AsyncGenerator[int, None]:
    """The numbers above `after` of the rows that still need an outcome of the batch's round, ascending.

    While the batch is SPLITTING, these are the rows up to its checkpoint. Raises RetryableError and
    AccessError.
    """
    last = last_sent_row(batch)
    partitions = [
        _Numbers(table, batch, partition, page_rows, after) for partition in range(batch.partitions)
    ]
    for number in range(after + 1, last + 1):
        if number % PAUSE_ROWS == 0:
            await asyncio.sleep(0)
        numbers = partitions[partition_of(number, batch.partitions)]
        if not numbers.page:
            await numbers.read_on()
        if numbers.page and numbers.page[0] == number:
            numbers.page.popleft()
        else:
            yield number


async def due_rows(kept: KeptRows, batch: Batch, *, after: int = 0) -> AsyncGenerator[int, None]:
    """The numbers above `after` of the rows that are due in the batch's round, done or not, ascending.

    While the batch is SPLITTING, these are the rows up to its checkpoint; while its gate is closed, those of
    its sample.
    """
    numbers: Iterable[int] = kept.due(after, last_sent_row(batch))
    if batch.sample:
        numbers = (number for number in batch.sample if number > after and kept.is_due(number))
    for count, number in enumerate(numbers, 1):
        if count % PAUSE_ROWS == 0:
            await asyncio.sleep(0)
        yield number


def last_sent_row(batch: Batch) -> int:
    """The last row that is sent for certain."""
    return batch.checkpoint.rows if batch.total is None else batch.total


def sent_rows(batch: Batch) -> int:
    """The number of rows that are sent for certain."""
    return len(batch.sample) or last_sent_row(batch)


async def chunks_of(numbers: AsyncIterator[int], size: int) -> AsyncGenerator[Sequence[int], None]:
    """The numbers in lists of `size`; the last one may be shorter."""
    chunk: list[int] = []
    async for number in numbers:
        chunk.append(number)
        if len(chunk) >= size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


class _Numbers:
    """The numbers of one partition's rows that are done, read a page at a time."""

    def __init__(self, table: Table, batch: Batch, partition: int, page_rows: int, after: int) -> None:
        self._table = table
        self._batch = batch
        self._partition = partition
        self._page_rows = page_rows
        self._after: int | None = after
        self.page: deque[int] = deque()

    async def read_on(self) -> None:
        """Read pages until one holds a number, or to the end."""
        while not self.page and self._after is not None:
            page = await self._table.done_numbers(
                self._batch, self._partition, after=self._after, limit=self._page_rows
            )
            self.page.extend(page.numbers)
            self._after = page.after
