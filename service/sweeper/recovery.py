"""Rows without an outcome: their messages are lost, so they are sent again or committed as FAILED.

Sweeper and dead-letter drain share this. Rows are finished only by committing an outcome. The commit is
conditional, so a slow worker's outcome and ours cannot both be counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

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
from service.sweeper.missing_rows import chunks_of, missing_rows

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RecoveryLimits:
    """`worker` names this process in outcomes. `max_rows` rows are sent or committed at a time.

    `page_rows` numbers are read at a time, from each partition; the other limits are the splitter's.
    """

    worker: str
    max_rows: int = 500
    page_rows: int = 1_000
    send_concurrency: int = 16
    read_bytes: int = 2**20
    max_record_bytes: int = 8 * 2**20
    max_message_bytes: int = MESSAGE_BYTES


@dataclass(slots=True)
class Recovered:
    """The rows of one pass over a batch: their number, the first and the last of them (0 for none)."""

    rows: int = 0
    first: int = 0
    last: int = 0

    def add(self, numbers: Sequence[int]) -> None:
        """Count rows that follow those counted so far."""
        self.rows += len(numbers)
        self.first = self.first or numbers[0]
        self.last = numbers[-1]


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

    async def resend(self, batch: Batch) -> Recovered:
        """Send every row of a sealed batch that has no outcome again, marked as a replay.

        Those that cannot be read any more are committed as FAILED. Table and source are read once, side by
        side, whatever the number of rows. Raises RetryableError and AccessError.
        """
        recovered = Recovered()
        async with aclosing(self._chunks(batch)) as chunks, aclosing(_Rereader(self, batch)) as source:
            async for numbers in chunks:
                records = await source.find(numbers)
                await self._send(batch, records)
                if gone := _without(numbers, records):
                    lost = SourceError(
                        f"the row's message was lost, and it cannot be read again: {source.problem}"
                    )
                    await self._fail_rows(batch, _bare_rows(batch, gone), lost)
                recovered.add(numbers)
        return recovered

    async def fail(self, batch: Batch, error: RowRejectedError) -> Recovered:
        """Commit every row of a sealed batch that has no outcome as FAILED, with its cells if it can be read.

        Reads as `resend` does. Raises RetryableError and AccessError.
        """
        recovered = Recovered()
        async with aclosing(self._chunks(batch)) as chunks, aclosing(_Rereader(self, batch)) as source:
            async for numbers in chunks:
                records = await source.find(numbers)
                rows = [row_message(batch, record) for record in records]
                await self._fail_rows(batch, [*rows, *_bare_rows(batch, _without(numbers, records))], error)
                recovered.add(numbers)
        return recovered

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

    def _chunks(self, batch: Batch) -> AsyncGenerator[Sequence[int], None]:
        limits = self._limits
        return chunks_of(missing_rows(self._ports.table, batch, limits.page_rows), limits.max_rows)

    def records(self, batch: Batch) -> AsyncGenerator[Sequence[Record], None]:
        """Every record of the batch's source, from the first on. Raises as `records_again` does."""
        return records_again(
            self._ports.objects,
            batch,
            read_bytes=self._limits.read_bytes,
            max_record_bytes=self._limits.max_record_bytes,
        )

    async def _send(self, batch: Batch, records: Sequence[Record]) -> None:
        most = self._limits.max_message_bytes
        bodies = (row_body(batch, record, replay=True, max_message_bytes=most) for record in records)
        messages = (OutgoingMessage(body, batch.batch_id) for body in bodies)
        await send_all(self._ports.queues.rows, messages, concurrency=self._limits.send_concurrency)
        self._ports.metrics.count("rows_resent", len(records))

    async def _fail_rows(self, batch: Batch, rows: Iterable[RowMessage], error: RowfleetError) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for row in rows:
                    group.create_task(self.fail_row(batch, row, error))
        except* (RetryableError, AccessError) as errors:
            raise first_of(errors) from None


class _Rereader:
    """Reads the records of ascending numbers again, in one pass over the source.

    `problem` says why the records that were not found could not be read.
    """

    def __init__(self, recovery: Recovery, batch: Batch) -> None:
        self._batch = batch
        self._chunks = recovery.records(batch)
        self._ahead: Sequence[Record] = ()
        self._has_ended = False
        self.problem = f"{batch.source.url} has no such row"

    async def find(self, numbers: Sequence[int]) -> list[Record]:
        """The records with these numbers, as far as the source has them; each call asks for later ones."""
        wanted, last = set(numbers), numbers[-1]
        found: list[Record] = []
        while not self._has_ended:
            found += [record for record in self._ahead if record.number in wanted]
            if self._ahead and self._ahead[-1].number >= last:
                break
            await self._read_on()
        return found

    async def aclose(self) -> None:
        """Stop reading."""
        await self._chunks.aclose()

    async def _read_on(self) -> None:
        self._ahead = ()
        try:
            self._ahead = await anext(self._chunks)
        except StopAsyncIteration:
            self._has_ended = True
        except (SourceError, CsvError) as error:
            self._has_ended = True
            self.problem = str(error)
            log.warning("source_not_readable", batch_id=self._batch.batch_id, reason=self.problem)


def _without(numbers: Sequence[int], records: Iterable[Record]) -> list[int]:
    """The numbers that have no record."""
    found = {record.number for record in records}
    return [number for number in numbers if number not in found]


def _bare_rows(batch: Batch, numbers: Iterable[int]) -> list[RowMessage]:
    """Rows without their cells."""
    return [
        RowMessage(batch.batch_id, batch.round, number, (), incarnation=batch.incarnation)
        for number in numbers
    ]
