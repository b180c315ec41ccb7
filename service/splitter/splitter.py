"""Steps 2 and 3 of the protocol: a batch's source becomes row messages, and the batch is sealed.

Rows are sent in windows. The splitter checkpoints a window once all of it is sent, and a redelivered ingest
message resumes at the checkpoint. A crash can therefore send at most one window twice; the next splitter
marks the rows of that window as `replay`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import structlog

from service.batch.completion import Completion
from service.batch.definitions import stored_definition
from service.batch.ending import carry_out, fail_batch
from service.batch.large_rows import row_body
from service.batch.role_ports import Ports
from service.batch.source import reader_of, records_of
from service.csvio import Header, Record
from service.domain.errors import BatchRejectedError, MappingError, PoisonMessageError, RetryableError
from service.domain.events import Ignored, decode_ingest
from service.domain.jobs import Job
from service.domain.model import Batch, Checkpoint, State, iso_time
from service.domain.ports import MESSAGE_BYTES, OutgoingMessage
from service.domain.truncation import truncate
from service.mapping import Definition, RowMapping
from service.runtime.consumer import MAX_REASON_CHARS
from service.runtime.delivery import Delivery
from service.runtime.sender import send_all
from service.splitter.backpressure import Backpressure, SplitEndedError
from service.splitter.opening import Opener, OpenLimits

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SplitLimits:
    """Limits of one split. Sizes in bytes.

    `send_concurrency` batch calls run at the same time. `max_queued_rows` bounds the rows of a batch that are
    sent and not done (see `backpressure`); 0 means no bound.
    """

    send_concurrency: int = 16
    max_queued_rows: int = 0
    read_bytes: int = 2**20
    max_record_bytes: int = 8 * 2**20
    max_message_bytes: int = MESSAGE_BYTES
    incoming_prefix: str = "incoming/"
    opening: OpenLimits = field(default_factory=OpenLimits)


class Splitter:
    """Handles ingest messages. `definitions` returns a mapping's definition or raises MappingError.

    `rng` makes the incarnations of new batches; seeded in tests.
    """

    def __init__(
        self,
        ports: Ports,
        completion: Completion,
        definitions: Callable[[str], Definition],
        limits: SplitLimits,
        *,
        rng: random.Random,
    ) -> None:
        self._ports = ports
        self._completion = completion
        self._opener = Opener(ports, definitions, limits.opening, rng=rng)
        self._backpressure = Backpressure(ports, limits.max_queued_rows)
        self._limits = limits

    async def handle(self, delivery: Delivery) -> None:
        """Carry out every job of an ingest message. Raises the errors that `runtime.consumer` documents."""
        message = decode_ingest(delivery.message.body, incoming_prefix=self._limits.incoming_prefix)
        if message.operation is not None:
            await carry_out(self._ports, message.operation, delivery.message.id)
        for ignored in message.ignored:
            _log_ignored(ignored, delivery.message.id)
        problem: PoisonMessageError | None = None
        for job in message.jobs:
            try:
                await self._run(job, delivery)
            except PoisonMessageError as error:
                # The other jobs of the message are carried out all the same.
                problem = problem or error
        if problem is not None:
            raise problem

    async def _run(self, job: Job, delivery: Delivery) -> None:
        batch, definition = await self._opener.open(job, delivery.message.id)
        with structlog.contextvars.bound_contextvars(batch_id=batch.batch_id):
            if batch.state is State.SPLITTING:
                try:
                    if definition is None or definition.digest != batch.mapping_digest:
                        definition = await stored_definition(self._ports.table, batch)
                    await self._split(batch, definition.compile(), delivery)
                except (BatchRejectedError, MappingError) as error:
                    await fail_batch(self._ports, batch, str(error), expected=[State.SPLITTING])
                    return
                except SplitEndedError:
                    log.info("split_ended", rows=batch.checkpoint.rows)
            # A redelivered job checks a sealed batch as well: its trigger may be lost.
            await self._completion.check(batch.batch_id)

    async def _split(self, batch: Batch, mapping: RowMapping, delivery: Delivery) -> None:
        """Send every row and seal the batch. Raises BatchRejectedError if the source is no CSV table."""
        # The previous splitter may have sent one window beyond its checkpoint. The window's size is the one
        # stored with the batch; the setting may have changed since.
        replay_until = batch.checkpoint.rows + batch.window if batch.columns else 0
        if replay_until:
            log.info("split_resumed", rows=batch.checkpoint.rows, byte_offset=batch.checkpoint.byte_offset)
        csv = mapping.csv
        most = self._limits.max_record_bytes
        reader = reader_of(batch, csv.delimiter, csv.encoding, csv.layout, max_record_bytes=most)
        window: list[Record] = []
        async for records in records_of(self._ports.objects, batch, reader, self._limits.read_bytes):
            if not batch.columns and reader.header:
                batch = await self._store_header(batch, mapping, reader.header)
            window += records
            while len(window) >= batch.window:
                due, window = window[: batch.window], window[batch.window :]
                batch = await self._send(batch, due, replay_until, delivery)
        if window:
            batch = await self._send(batch, window, replay_until, delivery)
        if reader.blanks != batch.checkpoint.blanks:
            # The blank records after the last row. A resume would only skip them again.
            batch = replace(batch, checkpoint=replace(batch.checkpoint, blanks=reader.blanks))
            await self._checkpoint(batch)
        total = batch.checkpoint.rows
        sealed = await self._ports.table.seal(batch, total, iso_time(self._ports.clock.now_ms()))
        log.info("batch_sealed" if sealed else "batch_was_sealed", total=total)

    async def _store_header(self, batch: Batch, mapping: RowMapping, header: Header) -> Batch:
        """Check the header against the mapping and store it with the batch, before any row is sent."""
        mapping.check_columns(header.columns)
        for note in header.notes:
            log.warning("header_changed", note=note)
        first = Checkpoint(0, header.dialect.first_byte, header.dialect.first_line)
        batch = replace(
            batch, columns=header.columns, dialect=header.dialect, notes=header.notes, checkpoint=first
        )
        await self._checkpoint(batch)
        return batch

    async def _send(
        self, batch: Batch, records: Sequence[Record], replay_until: int, delivery: Delivery
    ) -> Batch:
        """Send a window and checkpoint it; return the batch with its new checkpoint."""
        await self._backpressure.wait(batch, delivery)
        delivery.check_lease()
        messages = (
            OutgoingMessage(self._body(batch, record, replay=record.number <= replay_until), batch.batch_id)
            for record in records
        )
        await send_all(self._ports.queues.rows, messages, concurrency=self._limits.send_concurrency)
        self._ports.metrics.count("rows_sent", len(records))
        batch = replace(batch, checkpoint=records[-1].end)
        await self._checkpoint(batch)
        await asyncio.sleep(0)  # ports in memory never suspend: other tasks get their turn here
        return batch

    def _body(self, batch: Batch, record: Record, *, replay: bool) -> str:
        return row_body(batch, record, replay=replay, max_message_bytes=self._limits.max_message_bytes)

    async def _checkpoint(self, batch: Batch) -> None:
        now = iso_time(self._ports.clock.now_ms())
        if not await self._ports.table.checkpoint(replace(batch, updated_at=now)):
            raise RetryableError("another splitter has taken this batch further")


def _log_ignored(ignored: Ignored, message_id: str) -> None:
    # A warning for a file that somebody may be waiting for.
    write = log.info if ignored.is_expected else log.warning
    write(
        "ingest_ignored",
        message_id=message_id,
        bucket=ignored.bucket,
        key=ignored.key,
        reason=truncate(ignored.reason, MAX_REASON_CHARS),
    )
