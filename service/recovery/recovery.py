"""Rows without an outcome: their messages are lost, so they are sent again or committed as FAILED.

Sweeper and dead-letter drain share this. Rows are finished only by committing an outcome. The commit is
conditional, so a slow worker's outcome and ours cannot both be counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

import structlog

from service.batch.group_commit import GroupCommitter
from service.batch.large_rows import ClaimCheck, row_body, row_message
from service.batch.outcomes import LastAttempt
from service.batch.role_ports import Ports
from service.batch.row_checks import REPEAT_DELAY_S
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
from service.recovery.missing_rows import chunks_of, missing_rows
from service.runtime.byte_budget import ByteBudget
from service.runtime.sender import send_all

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RecoveryLimits:
    """`worker` names this process in outcomes.

    At most `max_rows` rows, and records of `max_bytes` and one more read, are held, sent or committed at a
    time, for each batch. All batches share `send_bytes`, the bytes of messages that are being sent.
    `page_rows` numbers are read at a time, from each partition; the other limits are the splitter's.
    """

    worker: str
    max_rows: int = 500
    max_bytes: int = 4 * 2**20
    send_bytes: int = 8 * MESSAGE_BYTES
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
        """Count rows, whose numbers ascend."""
        self.rows += len(numbers)
        self.first = min(self.first or numbers[0], numbers[0])
        self.last = max(self.last, numbers[-1])


@dataclass(frozen=True, slots=True)
class _LostRows:
    """Rows without an outcome: records, or the numbers of rows that are `gone` because of `problem`."""

    records: Sequence[Record]
    gone: Sequence[int] = ()
    problem: str = ""

    @property
    def numbers(self) -> Sequence[int]:
        """The numbers of all of them."""
        return [*(record.number for record in self.records), *self.gone]


Done = Callable[[int], Awaitable[None]]
"""Is called with the highest number of the rows that are done."""


async def _nothing(_number: int) -> None:
    return None


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
        self._send_budget = ByteBudget(limits.send_bytes)

    async def resend(
        self, batch: Batch, check_lease: Callable[[], None], *, after: int = 0, done: Done = _nothing
    ) -> Recovered:
        """Send every row that has no outcome again, marked as a replay; `missing_rows` says which those are.

        Those that cannot be read any more are committed as FAILED. Table and source are read once, side by
        side, whatever the number of rows. `done` is called with the highest number of each part. The caller
        has become the batch's sender. Raises RetryableError, AccessError, and the LeaseLostError of
        `check_lease`, which is called before rows are sent or failed.
        """
        recovered = Recovered()
        async with aclosing(self._lost_rows(batch, after)) as lost_rows:
            async for lost in lost_rows:
                check_lease()
                await self._send(batch, lost.records, check_lease)
                error = SourceError(
                    f"the row's message was lost, and it cannot be read again: {lost.problem}"
                )
                await self._fail_rows(batch, _bare_rows(batch, lost.gone), error)
                recovered.add(lost.numbers)
                await done(recovered.last)
        return recovered

    async def fail(
        self,
        batch: Batch,
        error: RowRejectedError,
        check_lease: Callable[[], None],
        *,
        after: int = 0,
        done: Done = _nothing,
    ) -> Recovered:
        """Commit every row of a sealed batch that has no outcome as FAILED, with its cells if it can be read.

        Reads and raises as `resend` does.
        """
        recovered = Recovered()
        async with aclosing(self._lost_rows(batch, after)) as lost_rows:
            async for lost in lost_rows:
                check_lease()
                rows = [row_message(batch, record) for record in lost.records]
                await self._fail_rows(batch, rows + _bare_rows(batch, lost.gone), error)
                recovered.add(lost.numbers)
                await done(recovered.last)
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
        bare = replace(attempt, row=replace(row, cells=()))
        # If the cells cannot be stored, the outcome counts without them as well.
        await self._committer.commit_first(batch, [attempt.failed(error), bare.failed(error)])
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

    async def _lost_rows(self, batch: Batch, after: int) -> AsyncGenerator[_LostRows, None]:
        """All rows after this one that have no outcome, some at a time."""
        limits = self._limits
        lacking = missing_rows(self._ports.table, batch, limits.page_rows, after=after)
        chunks = chunks_of(lacking, limits.max_rows)
        records = records_again(
            self._ports.objects, batch,
            read_bytes=limits.read_bytes, max_record_bytes=limits.max_record_bytes,
        )  # fmt: skip
        source = _Rereader(batch, records, limits.max_bytes)
        async with aclosing(chunks), aclosing(records):
            async for numbers in chunks:
                missing = set(numbers)
                while found := await source.find(missing, numbers[-1]):
                    yield _LostRows(found)
                if missing:
                    yield _LostRows((), sorted(missing), source.problem)

    async def _send(self, batch: Batch, records: Sequence[Record], check_lease: Callable[[], None]) -> None:
        most = self._limits.max_message_bytes
        bodies = (row_body(batch, record, replay=True, max_message_bytes=most) for record in records)
        messages = (OutgoingMessage(body, batch.batch_id, REPEAT_DELAY_S) for body in bodies)
        await send_all(
            self._ports.queues.rows,
            messages,
            concurrency=self._limits.send_concurrency,
            before_call=check_lease,
            budget=self._send_budget,
        )
        if records:
            self._ports.metrics.count("rows_resent", len(records))

    async def _fail_rows(self, batch: Batch, rows: Iterable[RowMessage], error: RowfleetError) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for row in rows:
                    group.create_task(self.fail_row(batch, row, error))
        except* (RetryableError, AccessError) as errors:
            raise first_of(errors) from None


class _Rereader:
    """Finds records of ascending numbers in one pass over `chunks`, the records of the source.

    `problem` says why the records that were not found could not be read.
    """

    def __init__(self, batch: Batch, chunks: AsyncIterator[Sequence[Record]], max_bytes: int) -> None:
        self._batch = batch
        self._chunks = chunks
        self._max_bytes = max_bytes
        self._ahead: Sequence[Record] = ()
        self._has_ended = False
        self.problem = f"{batch.source.url} has no such row"

    async def find(self, wanted: set[int], last: int) -> list[Record]:
        """The next records with these numbers, which are removed from `wanted`; none once `last` is passed.

        At most `max_bytes` and the records of one more read.
        """
        found: list[Record] = []
        found_bytes = 0
        while not self._has_ended:
            fitting = [record for record in self._ahead if record.number in wanted]
            wanted.difference_update(record.number for record in fitting)
            found += fitting
            found_bytes += sum(record.length for record in fitting)
            is_passed = self._ahead and self._ahead[-1].number >= last
            if is_passed or found_bytes >= self._max_bytes:
                break
            await self._read_on()
        return found

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


def _bare_rows(batch: Batch, numbers: Iterable[int]) -> list[RowMessage]:
    """Rows without their cells."""
    return [
        RowMessage(batch.batch_id, batch.round, number, (), incarnation=batch.incarnation)
        for number in numbers
    ]
