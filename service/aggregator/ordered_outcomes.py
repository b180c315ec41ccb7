"""The outcomes of a batch in file order, without a sort.

Row *i* lies in partition *i mod P*, and each partition is sorted by row number. Taking an outcome from each
partition in turn therefore yields file order. Pages of several partitions are read at a time, and each
partition reads its next page while its last one is consumed: a query's latency is then no part of the
duration. The size of a page follows the sizes of the outcomes before it, so that the pages of many partitions
stay small together.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field

from service.domain.errors import BatchRejectedError
from service.domain.item_size import outcome_bytes
from service.domain.model import Batch, Outcome, partition_of
from service.domain.ports import Table

LEAST_PAGE_ROWS = 10
"""Rows in a page of small outcomes; a smaller page would cost a read for few rows."""

AHEAD_BYTES = 16 * 2**20
"""Bytes of outcomes that are read ahead over all partitions together."""

CONCURRENT_READS = 8
"""Most pages that are read at a time. At 10 ms a page this is several times what one core can encode."""

RUN_ROWS = 128
"""Most outcomes in a run. After each the event loop has its turn: no read should wait longer than 2 ms."""

RUN_BYTES = 256 * 2**10
"""Bytes of outcomes in a run of more than one."""

FIRST_BYTES = 4 * 2**10
"""Size of an outcome that is expected before the first page."""

WEIGHT = 0.5
"""Weight of the latest page in the moving average of sizes."""


async def outcomes_in_order(
    table: Table, batch: Batch, page_rows: int, *, after: int = 0
) -> AsyncGenerator[Sequence[Outcome], None]:
    """The outcomes of a sealed batch above row `after`, in runs.

    About `page_rows` are read ahead over all partitions, fewer if they are large: at most `AHEAD_BYTES`, and
    one page (DynamoDB: 1 MB) for each of the `CONCURRENT_READS`. Close the generator (`aclosing`): that ends
    the reads in progress. Raises BatchRejectedError if a row has no outcome, RetryableError and AccessError.
    """
    ahead = _ReadAhead(table, batch, page_rows, after)
    number, total = after + 1, batch.total or 0
    try:
        while number <= total:
            run = ahead.take(number)
            if not run:
                await ahead.wait_for(number)
                continue
            yield run
            number += len(run)
            await asyncio.sleep(0)
    finally:
        await ahead.close()


@dataclass(slots=True)
class _Partition:
    """The outcomes of one partition that were read and not taken yet, with their sizes in bytes.

    `after` is the last row read, None at the end. `asked_rows` is the size of the last page that was asked
    for. `reading` is the read in progress, or one that has failed.
    """

    number: int
    after: int | None
    outcomes: deque[tuple[Outcome, int]] = field(default_factory=deque)
    asked_rows: int = 0
    reading: asyncio.Task[None] | None = None
    is_waiting: bool = False


class _ReadAhead:
    """Reads pages in the order in which they are needed, within `AHEAD_BYTES`."""

    def __init__(self, table: Table, batch: Batch, page_rows: int, after: int) -> None:
        self._table = table
        self._batch = batch
        # A partition holds up to two pages: one that is consumed, and the next one.
        pages = 2 * batch.partitions
        self._most_rows = max(LEAST_PAGE_ROWS, page_rows // pages)
        self._share_bytes = AHEAD_BYTES // pages
        self._mean_bytes = float(FIRST_BYTES)
        self._held_bytes = 0
        self._expected_bytes = 0
        self._reads = 0
        self._partitions = [_Partition(number, after) for number in range(batch.partitions)]
        self._waiting: deque[_Partition] = deque()
        self._total = batch.total or 0
        for number in range(after + 1, min(self._total, after + batch.partitions) + 1):
            self._want_more(self._partition_of(number))
        self._start_reads()

    def take(self, first: int) -> list[Outcome]:
        """The outcomes from row `first` on that are read, up to the end of a run.

        Raises BatchRejectedError if a row has none.
        """
        run: list[Outcome] = []
        taken_bytes = 0
        for number in range(first, min(self._total + 1, first + RUN_ROWS)):
            partition = self._partition_of(number)
            if not partition.outcomes:
                break
            outcome, size = partition.outcomes[0]
            if run and (taken_bytes + size > RUN_BYTES or outcome.number != number):
                break
            self._check_number(outcome.number, number)
            partition.outcomes.popleft()
            taken_bytes += size
            run.append(outcome)
            if len(partition.outcomes) <= partition.asked_rows:
                self._want_more(partition)
        self._held_bytes -= taken_bytes
        self._start_reads()
        return run

    async def wait_for(self, number: int) -> None:
        """Return once the next outcome of this row's partition is read; BatchRejectedError at its end."""
        partition = self._partition_of(number)
        while not partition.outcomes:
            if partition.after is None:
                self._check_number(0, number)
            elif partition.reading is None:
                # Not for want of room: without this page nothing that is held can be taken.
                self._waiting.remove(partition)
                self._start(partition, partition.after)
            assert partition.reading is not None
            await partition.reading

    def _check_number(self, found: int, number: int) -> None:
        """Raise BatchRejectedError unless the outcome that was found is that of row `number`."""
        if found != number:
            raise BatchRejectedError(
                f"row {number} of {self._total} is counted but has no outcome in the table; was "
                "the table restored, or its ttl shorter than the run?"
            )

    async def close(self) -> None:
        """End the reads in progress."""
        readings = [partition.reading for partition in self._partitions if partition.reading]
        for reading in readings:
            reading.cancel()
        await asyncio.gather(*readings, return_exceptions=True)

    def _partition_of(self, number: int) -> _Partition:
        return self._partitions[partition_of(number, len(self._partitions))]

    def _last_row_of(self, partition: _Partition) -> int:
        return self._total - partition_of(self._total - partition.number, len(self._partitions))

    def _want_more(self, partition: _Partition) -> None:
        """Put the partition into the queue for its next page, unless it is there, is read or has ended."""
        if partition.after is None or partition.reading is not None or partition.is_waiting:
            return
        partition.is_waiting = True
        self._waiting.append(partition)

    def _start_reads(self) -> None:
        """Start as many of the reads that wait as there is room for."""
        while self._waiting and self._reads < CONCURRENT_READS and self._room_bytes >= self._mean_bytes:
            partition = self._waiting.popleft()
            assert partition.after is not None
            self._start(partition, partition.after)

    @property
    def _room_bytes(self) -> int:
        return AHEAD_BYTES - self._held_bytes - self._expected_bytes

    def _start(self, partition: _Partition, after: int) -> None:
        partition.is_waiting = False
        room_bytes = min(self._share_bytes, self._room_bytes)
        rows = max(1, min(self._most_rows, int(room_bytes / self._mean_bytes)))
        expected_bytes = int(rows * self._mean_bytes)
        self._reads += 1
        self._expected_bytes += expected_bytes
        partition.asked_rows = rows
        partition.reading = asyncio.ensure_future(self._read(partition, after, rows, expected_bytes))

    async def _read(self, partition: _Partition, after: int, rows: int, expected_bytes: int) -> None:
        try:
            page = await self._table.outcomes(self._batch, partition.number, after=after, limit=rows)
        finally:
            self._reads -= 1
            self._expected_bytes -= expected_bytes
        sizes = [outcome_bytes(outcome) for outcome in page.outcomes]
        partition.outcomes.extend(zip(page.outcomes, sizes, strict=True))
        self._held_bytes += sum(sizes)
        if sizes:
            self._mean_bytes += WEIGHT * (sum(sizes) / len(sizes) - self._mean_bytes)
        # Not after an error: whoever needs the page has it raised.
        partition.reading = None
        # A full page names its last item even if that is the partition's last one. It may be a leftover of an
        # earlier batch with this id, whose number is none of this partition.
        is_last = page.after is None or page.after >= self._last_row_of(partition)
        partition.after = None if is_last else page.after
        if len(partition.outcomes) <= partition.asked_rows:
            self._want_more(partition)
        self._start_reads()
