"""Rows without an outcome of their round, with what is needed to send or fail them, in one pass.

In the first round the rows that lack an outcome are found by the table, and their cells in the source. In a
later round the rows that are due are known by its selection, as those of a sample are by the batch; their
cells come from the outcomes that they replace, and from the source if there are none.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

import structlog

from service.batch.large_rows import RESEND_BYTES
from service.batch.role_ports import Ports
from service.batch.source import records_again
from service.csvio import Record
from service.domain.errors import BatchRejectedError, CsvError, SourceError
from service.domain.messages import RowMessage
from service.domain.model import Batch, Outcome, PastOutcome
from service.domain.ports import MESSAGE_BYTES
from service.recovery.earlier_outcomes import has_all_cells, outcomes_of, row_again
from service.recovery.kept import KeptSelections
from service.recovery.missing_rows import chunks_of, due_rows, missing_rows

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


@dataclass(frozen=True, slots=True)
class LostRows:
    """Some rows without an outcome of their round.

    `records` are from the source, with the `histories` of those that have one. `rows` are made from earlier
    outcomes. `gone` are rows without all of their cells, because of `problem`. `done` is the number up to
    which no row follows that is not in this part or an earlier one; 0 in the middle of a chunk.
    """

    records: Sequence[Record] = ()
    histories: Mapping[int, tuple[PastOutcome, ...]] = field(default_factory=dict)
    rows: Sequence[RowMessage] = ()
    gone: Sequence[RowMessage] = ()
    problem: str = ""
    done: int = 0

    @property
    def numbers(self) -> list[int]:
        """The numbers of all of them, ascending."""
        rows = (row.number for row in (*self.rows, *self.gone))
        return sorted([*(record.number for record in self.records), *rows])


class LostRowsFinder:
    """Finds the rows of batches that have no outcome of their round."""

    def __init__(self, ports: Ports, limits: RecoveryLimits) -> None:
        self._ports = ports
        self._limits = limits
        self._selections = KeptSelections(ports.objects)

    async def find(self, batch: Batch, after: int) -> AsyncGenerator[LostRows, None]:
        """All rows after this one that have no outcome, some at a time.

        Raises RetryableError, AccessError, and BatchRejectedError if the selection of the round is gone.
        """
        limits = self._limits
        if batch.round == 1 and not batch.sample:
            lacking = missing_rows(self._ports.table, batch, limits.page_rows, after=after)
        else:
            lacking = due_rows(await self._selections.load(batch), batch, after=after)
        chunks = chunks_of(lacking, limits.max_rows)
        records = records_again(
            self._ports.objects, batch,
            read_bytes=limits.read_bytes, max_record_bytes=limits.max_record_bytes,
        )  # fmt: skip
        source = _Rereader(batch, records, limits.max_bytes)
        async with aclosing(chunks), aclosing(records):
            async for numbers in chunks:
                async with aclosing(self._chunk(batch, numbers, source)) as parts:
                    async for part in parts:
                        yield part

    async def _chunk(
        self, batch: Batch, numbers: Sequence[int], source: _Rereader
    ) -> AsyncGenerator[LostRows, None]:
        """The lost rows among those with these numbers."""
        missing = set(numbers)
        incomplete: dict[int, RowMessage] = {}
        if batch.round > 1 or batch.sample:
            rows: list[RowMessage] = []
            size = 0
            async with aclosing(outcomes_of(self._ports.table, batch, numbers)) as pages:
                async for outcomes in pages:
                    missing -= {outcome.number for outcome in outcomes if outcome.round >= batch.round}
                    earlier = [outcome for outcome in outcomes if outcome.round < batch.round]
                    # Rows that are due lie far apart, one in a page: they are sent together.
                    again = await self._rows_again(batch, earlier, incomplete)
                    missing -= {row.number for row in again}
                    rows += again
                    size += sum(map(_cell_bytes, again))
                    if size >= self._limits.max_bytes:
                        yield LostRows(rows=rows)
                        rows, size = [], 0
            if rows:
                yield LostRows(rows=rows)
        histories = {number: row.history for number, row in incomplete.items()}
        while found := await source.find(missing, numbers[-1]):
            yield LostRows(found, histories)
        gone = [incomplete.get(number) or bare_row(batch, number) for number in sorted(missing)]
        yield LostRows(gone=gone, problem=source.problem, done=numbers[-1])

    async def _rows_again(
        self, batch: Batch, outcomes: Sequence[Outcome], incomplete: dict[int, RowMessage]
    ) -> list[RowMessage]:
        """The rows that can run again from these outcomes; the others are put into `incomplete`."""
        rows = []
        for outcome in outcomes:
            loaded = await self._load(outcome)
            row = row_again(batch, loaded)
            if has_all_cells(loaded) and _fits(row, self._limits.max_message_bytes):
                rows.append(row)
            else:
                incomplete[row.number] = row
        return rows

    async def _load(self, outcome: Outcome) -> Outcome:
        """The outcome with its data, or without any if that is gone."""
        try:
            return await self._ports.large_outcomes.load(outcome)
        except BatchRejectedError as error:
            log.info("row_without_cells", reason=str(error))
            return outcome


def bare_row(batch: Batch, number: int) -> RowMessage:
    """A row without its cells."""
    return RowMessage(batch.batch_id, batch.round, number, (), incarnation=batch.incarnation)


def _cell_bytes(row: RowMessage) -> int:
    """The characters of the row's cells, which a message has at least as many bytes as."""
    return len(row.record) + sum(map(len, row.cells))


def _fits(row: RowMessage, max_message_bytes: int) -> bool:
    """True if a message can carry the row; a larger one refers to its record in the source."""
    room = max_message_bytes - RESEND_BYTES
    return _cell_bytes(row) <= room and len(row.encode()) <= room


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

        At most `max_bytes` and the records of one more read. Nothing is read if no row is wanted.
        """
        found: list[Record] = []
        found_bytes = 0
        while wanted and not self._has_ended:
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
