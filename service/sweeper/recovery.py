"""Rows whose messages are lost: found by comparing numbers, sent again, or committed as FAILED.

Sweeper and dead-letter drain share this. Rows are finished only by committing an outcome. The commit is
conditional, so a slow worker's outcome and ours cannot both be counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Collection, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from itertools import islice

import structlog

from service.batch.group_commit import GroupCommitter
from service.batch.large_rows import ClaimCheck, row_body, row_message
from service.batch.outcomes import LastAttempt
from service.batch.role_ports import Ports
from service.batch.source import records_again
from service.csvio import Record
from service.domain.errors import (
    AccessError,
    BatchRejectedError,
    CsvError,
    PoisonMessageError,
    RetryableError,
    RowfleetError,
    RowRejectedError,
    SourceError,
    first_of,
)
from service.domain.messages import RowMessage
from service.domain.model import Batch, iso_time, row_id
from service.domain.ports import MESSAGE_BYTES, OutgoingMessage
from service.runtime.sender import send_all

log = structlog.get_logger(__name__)

CONCURRENT_COMMITS = 500
"""Rows that are committed at the same time: enough to fill a few transactions."""


@dataclass(frozen=True, slots=True)
class RecoveryLimits:
    """`worker` names this process in outcomes. At most `max_rows` numbers are held at a time.

    `page_rows` numbers are read at a time; the other sizes are the splitter's.
    """

    worker: str
    max_rows: int = 100_000
    page_rows: int = 1_000
    read_bytes: int = 2**20
    max_record_bytes: int = 8 * 2**20
    max_message_bytes: int = MESSAGE_BYTES


class Recovery:
    """Finds rows without an outcome and makes sure that they get one."""

    def __init__(
        self,
        ports: Ports,
        committer: GroupCommitter,
        limits: RecoveryLimits,
    ) -> None:
        self._ports = ports
        self._claim_check = ClaimCheck(ports.objects, max_record_bytes=limits.max_record_bytes)
        self._committer = committer
        self._limits = limits

    async def missing(self, batch: Batch) -> list[int]:
        """The numbers of rows of a sealed batch that have no outcome, ascending, `max_rows` at most."""
        lost: list[int] = []
        for partition in range(batch.partitions):
            await self._missing_of(batch, partition, lost)
        return sorted(lost)

    async def resend(self, batch: Batch, numbers: Collection[int]) -> None:
        """Send these rows again, marked as replays; commit as FAILED those that cannot be read any more."""
        wanted = set(numbers)
        problem = f"{batch.source.url} has no such row"
        try:
            async with aclosing(self._records(batch, wanted)) as found:
                async for records in found:
                    await self._send(batch, records)
                    wanted.difference_update(record.number for record in records)
        except (SourceError, CsvError) as error:
            problem = str(error)
        if wanted:
            lost = SourceError(f"the row's message was lost, and it cannot be read again: {problem}")
            await self._fail_rows(batch, _without_cells(batch, wanted), lost)

    async def fail(self, batch: Batch, numbers: Collection[int], error: RowRejectedError) -> None:
        """Commit these rows as FAILED, with their cells if the source can still be read."""
        wanted = set(numbers)
        try:
            async with aclosing(self._records(batch, wanted)) as found:
                async for records in found:
                    await self._fail_rows(batch, _with_cells(batch, records), error)
                    wanted.difference_update(record.number for record in records)
        except (SourceError, CsvError) as problem:
            log.warning("source_not_readable", batch_id=batch.batch_id, reason=str(problem))
        await self._fail_rows(batch, _without_cells(batch, wanted), error)

    async def resend_row(self, row: RowMessage, delay_s: float) -> None:
        """Send one row message as it is. Raises RetryableError and AccessError."""
        await send_all(self._ports.queues.rows, [OutgoingMessage(row.encode(), row.batch_id, round(delay_s))])
        self._ports.metrics.count("rows_resent")

    async def fail_row(self, batch: Batch, row: RowMessage, error: RowfleetError) -> None:
        """Commit one row as FAILED and check its batch. Raises RetryableError and AccessError."""
        row = await self._with_cells_if_possible(batch, row)
        attempt = LastAttempt(
            row=row,
            columns=batch.columns,
            number=row.attempt,
            elapsed_ms=0,
            timestamp=iso_time(self._ports.clock.now_ms()),
            worker=self._limits.worker,
        )
        try:
            await self._committer.commit(batch, row.number, attempt.failed(error))
        except RowRejectedError:  # the cells fit into no item; the outcome counts without them as well
            bare = replace(attempt, row=replace(row, cells=()))
            await self._committer.commit(batch, row.number, bare.failed(error))
        log.info(
            "row_settled", batch_id=batch.batch_id, row_id=row_id(row.number), status="FAILED",
            **{"error": error.kind, "class": error.failure_class}, reason=str(error),
        )  # fmt: skip

    async def _with_cells_if_possible(self, batch: Batch, row: RowMessage) -> RowMessage:
        """The row with its cells, or without any if its source cannot be read."""
        try:
            return await self._claim_check.redeem(batch, row)
        except (BatchRejectedError, RowRejectedError, PoisonMessageError) as error:
            log.info("row_without_cells", reason=str(error))
            return replace(row, cells=(), span=None)

    async def _missing_of(self, batch: Batch, partition: int, lost: list[int]) -> None:
        """Add the gaps in a partition's numbers to `lost`, until that is full."""
        step, total = batch.partitions, batch.total or 0
        expected = partition or step
        after: int | None = 0
        while after is not None and len(lost) < self._limits.max_rows:
            page = await self._ports.table.done_numbers(
                batch, partition, after=after, limit=self._limits.page_rows
            )
            for number in page.numbers:
                self._add(lost, range(expected, number, step))
                expected = number + step
            after = page.after
        if after is None:
            self._add(lost, range(expected, total + 1, step))

    def _add(self, lost: list[int], gap: range) -> None:
        lost.extend(islice(gap, max(0, self._limits.max_rows - len(lost))))

    async def _records(self, batch: Batch, wanted: Collection[int]) -> AsyncGenerator[list[Record], None]:
        """The records with these numbers as the source gives them; ends with the last of them."""
        last = max(wanted, default=0)
        limits = self._limits
        async with aclosing(
            records_again(
                self._ports.objects,
                batch,
                read_bytes=limits.read_bytes,
                max_record_bytes=limits.max_record_bytes,
            )
        ) as chunks:
            async for chunk in chunks:
                if found := [record for record in chunk if record.number in wanted]:
                    yield found
                if chunk and chunk[-1].number >= last:
                    return

    async def _send(self, batch: Batch, records: Sequence[Record]) -> None:
        most = self._limits.max_message_bytes
        bodies = (row_body(batch, record, replay=True, max_message_bytes=most) for record in records)
        await send_all(self._ports.queues.rows, (OutgoingMessage(body, batch.batch_id) for body in bodies))
        self._ports.metrics.count("rows_resent", len(records))

    async def _fail_rows(self, batch: Batch, rows: Iterable[RowMessage], error: RowfleetError) -> None:
        rows = iter(rows)
        while chunk := list(islice(rows, CONCURRENT_COMMITS)):
            try:
                async with asyncio.TaskGroup() as group:
                    for row in chunk:
                        group.create_task(self.fail_row(batch, row, error))
            except* (RetryableError, AccessError) as errors:
                raise first_of(errors) from None


def _with_cells(batch: Batch, records: Iterable[Record]) -> Iterable[RowMessage]:
    return (row_message(batch, record) for record in records)


def _without_cells(batch: Batch, numbers: Iterable[int]) -> Iterable[RowMessage]:
    return (RowMessage(batch.batch_id, batch.round, number, ()) for number in sorted(numbers))
