"""Splitting: a batch's source becomes row messages (the protocol's steps 2 and 3; `opening` is step 1).

A redelivered message finds its batch and goes on where the checkpoint says. Rows are sent in windows, and a
window is checkpointed when all of it is sent; so what a crash may send twice is one window, which the next
splitter marks as `replay`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace

import stamina
import structlog

from service.consume import Delivery
from service.csvio import CsvReader, Header, Record
from service.errors import (
    BatchRejectedError,
    MappingError,
    RetryableError,
    SourceError,
)
from service.mapping import Definition, RowMapping
from service.messages import Job, RowMessage, decode_ingest
from service.model import Batch, State, iso_time
from service.opening import Opener, OpenLimits, stored_definition
from service.outbox import send_all
from service.ports import MESSAGE_BYTES, Clock, Objects, Outgoing, Queue, Table
from service.settle import Completion
from service.telemetry import Metrics

log = structlog.get_logger(__name__)

MAX_CUT_CELLS = MESSAGE_BYTES // 64
"""Cells of a row too large for a message: with more, their quotes and commas alone would fill it."""

READ_TIMEOUT_S = 120.0
"""A source that cannot be read for this long sends its ingest message back to the queue."""

READING = stamina.AsyncRetryingCaller(
    attempts=None, timeout=READ_TIMEOUT_S, wait_initial=0.1, wait_max=10.0
).on(RetryableError)

ROOM_POLL_S = 0.25
"""How often a splitter that waits for room in the rows queue looks."""


@dataclass(frozen=True, slots=True)
class SplitLimits:
    """Limits of one split. Sizes in bytes.

    With `max_queued_rows` above 0 the splitter waits while more messages than that are in the rows queue:
    SQS takes any number, but an emulator gets slow.
    """

    checkpoint_rows: int = 2_000
    send_concurrency: int = 16
    max_queued_rows: int = 0
    read_bytes: int = 2**20
    max_record_bytes: int = 8 * 2**20
    incoming_prefix: str = "incoming/"
    opening: OpenLimits = field(default_factory=OpenLimits)


class Splitter:
    """Handles ingest messages. `definitions` finds a mapping by name or raises MappingError."""

    def __init__(
        self,
        table: Table,
        rows_queue: Queue,
        objects: Objects,
        completion: Completion,
        definitions: Callable[[str], Definition],
        limits: SplitLimits,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._table = table
        self._rows_queue = rows_queue
        self._objects = objects
        self._completion = completion
        self._opener = Opener(table, objects, definitions, limits.opening, clock)
        self._limits = limits
        self._clock = clock
        self._metrics = metrics

    async def handle(self, delivery: Delivery) -> None:
        """Carry out every job of an ingest message. Raises what `consume` understands."""
        jobs = decode_ingest(delivery.message.body, incoming_prefix=self._limits.incoming_prefix)
        if not jobs:
            log.info("ingest_ignored", message_id=delivery.message.id, reason="asks for no run")
        for job in jobs:
            await self._run(job, delivery)

    async def _run(self, job: Job, delivery: Delivery) -> None:
        batch, definition = await self._opener.open(job, delivery.message.id)
        with structlog.contextvars.bound_contextvars(batch_id=batch.batch_id):
            if batch.state is State.SPLITTING:
                try:
                    if definition is None or definition.digest != batch.mapping_digest:
                        definition = await stored_definition(self._table, batch)
                    await self._split(batch, definition.compile(), delivery)
                except (BatchRejectedError, MappingError) as error:
                    await self._reject(batch, str(error))
                    return
            await self._completion.check(batch.batch_id)

    async def _reject(self, batch: Batch, problem: str) -> None:
        now = iso_time(self._clock.now_ms())
        await self._table.move(
            batch.batch_id,
            expected=State.SPLITTING,
            round=batch.round,
            to=State.FAILED,
            now=now,
            error=problem,
        )
        self._metrics.count("batches_failed")
        log.warning("batch_failed", reason=problem)

    # -- splitting -------------------------------------------------------------------------------------

    async def _split(self, batch: Batch, mapping: RowMapping, delivery: Delivery) -> None:
        """Send every row and seal the batch. Raises BatchRejectedError where the source is no table."""
        replay_until = batch.checkpoint.rows + self._limits.checkpoint_rows if batch.columns else 0
        if replay_until:
            log.info("split_resumed", rows=batch.checkpoint.rows, byte_offset=batch.checkpoint.byte_offset)
        reader = self._reader(batch, mapping)
        window: list[Record] = []
        async for records in self._records(reader, batch):
            if not batch.columns and reader.header:
                batch = await self._begin(batch, mapping, reader.header)
            window += records
            while len(window) >= self._limits.checkpoint_rows:
                due, window = window[: self._limits.checkpoint_rows], window[self._limits.checkpoint_rows :]
                batch = await self._send(batch, due, replay_until, delivery)
        if window:
            batch = await self._send(batch, window, replay_until, delivery)
        total = batch.checkpoint.rows
        sealed = await self._table.seal(batch.batch_id, total, iso_time(self._clock.now_ms()))
        log.info("batch_sealed" if sealed else "batch_was_sealed", total=total)

    def _reader(self, batch: Batch, mapping: RowMapping) -> CsvReader:
        most = self._limits.max_record_bytes
        if batch.dialect and batch.columns:
            return CsvReader.resume(batch.columns, batch.dialect, batch.checkpoint, max_record_bytes=most)
        csv = mapping.csv
        return CsvReader(delimiter=csv.delimiter, encoding=csv.encoding, max_record_bytes=most)

    async def _begin(self, batch: Batch, mapping: RowMapping, header: Header) -> Batch:
        """The header is known: check it against the mapping and store it, before any row is sent."""
        mapping.check_columns(header.columns)
        for note in header.notes:
            log.warning("header_changed", note=note)
        batch = replace(batch, columns=header.columns, dialect=header.dialect, notes=header.notes)
        await self._checkpoint(batch)
        return batch

    async def _records(self, reader: CsvReader, batch: Batch) -> AsyncIterator[Sequence[Record]]:
        """The records behind the checkpoint, as they are read, up to the batch's limit."""
        offset, size = batch.checkpoint.byte_offset, batch.source.size
        most = batch.limit if batch.limit is not None else size + 1
        while offset < size:
            chunk = await READING(self._objects.read, batch.source, offset, self._limits.read_bytes)
            if not chunk:
                raise SourceError(f"{batch.source.url} ended after {offset} of {size} bytes")
            offset += len(chunk)
            records = reader.feed(chunk)
            if records and records[-1].number >= most:
                yield [record for record in records if record.number <= most]
                return
            yield records
        yield [record for record in reader.close() if record.number <= most]

    async def _send(
        self, batch: Batch, records: Sequence[Record], replay_until: int, delivery: Delivery
    ) -> Batch:
        """Send a window and checkpoint it; the batch with its new checkpoint."""
        await self._wait_for_room(delivery)
        delivery.check_lease()
        messages = (
            Outgoing(row_body(batch, record, replay=record.number <= replay_until), batch.batch_id)
            for record in records
        )
        await send_all(self._rows_queue, messages, concurrency=self._limits.send_concurrency)
        self._metrics.count("rows_sent", len(records))
        batch = replace(batch, checkpoint=records[-1].end)
        await self._checkpoint(batch)
        await asyncio.sleep(0)
        return batch

    async def _wait_for_room(self, delivery: Delivery) -> None:
        most = self._limits.max_queued_rows
        while most and await self._rows_queue.depth() >= most:
            delivery.check_lease()
            await self._clock.sleep(ROOM_POLL_S)

    async def _checkpoint(self, batch: Batch) -> None:
        now = iso_time(self._clock.now_ms())
        if not await self._table.checkpoint(replace(batch, updated_at=now)):
            raise RetryableError("another splitter has taken this batch further")


def row_body(batch: Batch, record: Record, *, replay: bool = False) -> str:
    """A record's message; one too large for SQS carries a defect and the start of its cells instead."""
    message = RowMessage(
        batch.batch_id, batch.round, record.number, record.cells, replay=replay, defect=record.defect
    )
    body = message.encode()
    if len(body) <= MESSAGE_BYTES:
        return body
    cells = record.cells[:MAX_CUT_CELLS]
    keep = MESSAGE_BYTES // 16 // max(1, len(cells))
    defect = (
        f"the row takes {len(body)} bytes as a message (line {record.line}), SQS takes {MESSAGE_BYTES}; "
        f"its cells are cut to {keep} characters here"
    )
    if len(cells) < len(record.cells):
        defect += f", and to the first {len(cells)} of {len(record.cells)}"
    return replace(message, cells=tuple(cell[:keep] for cell in cells), defect=defect).encode()
