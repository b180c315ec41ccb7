"""Splitting: a batch's source becomes row messages (the protocol's steps 2 and 3; `opening` is step 1).

A redelivered message finds its batch and goes on where the checkpoint says. Rows are sent in windows, and a
window is checkpointed when all of it is sent; so what a crash may send twice is one window, which the next
splitter marks as `replay`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import structlog

from service.batch.completion import Completion
from service.batch.definitions import stored_definition
from service.batch.ports import Ports
from service.batch.source import reader_of, records_of, row_body
from service.csvio import Header, Record
from service.domain.errors import BatchRejectedError, MappingError, RetryableError
from service.domain.events import decode_ingest
from service.domain.jobs import Job
from service.domain.model import Batch, State, iso_time
from service.domain.ports import MESSAGE_BYTES, OutgoingMessage
from service.mapping import Definition, RowMapping
from service.runtime.delivery import Delivery
from service.runtime.sender import send_all
from service.splitter.opening import Opener, OpenLimits

log = structlog.get_logger(__name__)

ROOM_POLL_S, ROOM_POLL_MAX_S = 0.1, 1.0
"""How often a splitter that waits for room reads its batch: often at first, then less.

The pause doubles: a batch gets its next rows after at most twice the time that it had to wait, while many of
its rows are still to be worked on.
"""


@dataclass(frozen=True, slots=True)
class SplitLimits:
    """Limits of one split. Sizes in bytes.

    With `max_queued_rows` above 0 the splitter waits while so many rows of its batch are sent and not done:
    SQS takes any number and its fair queues tell batches apart, but an emulator gets slow, and serves a small
    batch behind all that a large one has sent.
    """

    send_concurrency: int = 16
    max_queued_rows: int = 0
    read_bytes: int = 2**20
    max_record_bytes: int = 8 * 2**20
    max_message_bytes: int = MESSAGE_BYTES
    incoming_prefix: str = "incoming/"
    opening: OpenLimits = field(default_factory=OpenLimits)


class _EndedError(Exception):
    """The batch is not SPLITTING any more: there is nothing left to send."""


class Splitter:
    """Handles ingest messages. `definitions` finds a mapping by name or raises MappingError."""

    def __init__(
        self,
        ports: Ports,
        completion: Completion,
        definitions: Callable[[str], Definition],
        limits: SplitLimits,
    ) -> None:
        self._ports = ports
        self._completion = completion
        self._opener = Opener(ports, definitions, limits.opening)
        self._limits = limits

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
                        definition = await stored_definition(self._ports.table, batch)
                    await self._split(batch, definition.compile(), delivery)
                except (BatchRejectedError, MappingError) as error:
                    await self._reject(batch, str(error))
                    return
                except _EndedError:
                    log.info("split_ended", rows=batch.checkpoint.rows)
            await self._completion.check(batch.batch_id)

    async def _reject(self, batch: Batch, problem: str) -> None:
        now = iso_time(self._ports.clock.now_ms())
        await self._ports.table.move(
            batch.batch_id,
            expected=State.SPLITTING,
            round=batch.round,
            to=State.FAILED,
            now=now,
            error=problem,
        )
        self._ports.metrics.count("batches_failed")
        log.warning("batch_failed", reason=problem)

    # -- splitting -------------------------------------------------------------------------------------

    async def _split(self, batch: Batch, mapping: RowMapping, delivery: Delivery) -> None:
        """Send every row and seal the batch. Raises BatchRejectedError where the source is no table."""
        # the window of the splitter before this one, whatever the setting is now
        replay_until = batch.checkpoint.rows + batch.window if batch.columns else 0
        if replay_until:
            log.info("split_resumed", rows=batch.checkpoint.rows, byte_offset=batch.checkpoint.byte_offset)
        csv = mapping.csv
        reader = reader_of(batch, csv.delimiter, csv.encoding, self._limits.max_record_bytes)
        window: list[Record] = []
        async for records in records_of(self._ports.objects, batch, reader, self._limits.read_bytes):
            if not batch.columns and reader.header:
                batch = await self._begin(batch, mapping, reader.header)
            window += records
            while len(window) >= batch.window:
                due, window = window[: batch.window], window[batch.window :]
                batch = await self._send(batch, due, replay_until, delivery)
        if window:
            batch = await self._send(batch, window, replay_until, delivery)
        total = batch.checkpoint.rows
        sealed = await self._ports.table.seal(batch.batch_id, total, iso_time(self._ports.clock.now_ms()))
        log.info("batch_sealed" if sealed else "batch_was_sealed", total=total)

    async def _begin(self, batch: Batch, mapping: RowMapping, header: Header) -> Batch:
        """The header is known: check it against the mapping and store it, before any row is sent."""
        mapping.check_columns(header.columns)
        for note in header.notes:
            log.warning("header_changed", note=note)
        batch = replace(batch, columns=header.columns, dialect=header.dialect, notes=header.notes)
        await self._checkpoint(batch)
        return batch

    async def _send(
        self, batch: Batch, records: Sequence[Record], replay_until: int, delivery: Delivery
    ) -> Batch:
        """Send a window and checkpoint it; the batch with its new checkpoint."""
        await self._wait_for_room(batch, delivery)
        delivery.check_lease()
        messages = (
            OutgoingMessage(self._body(batch, record, replay=record.number <= replay_until), batch.batch_id)
            for record in records
        )
        await send_all(self._ports.queues.rows, messages, concurrency=self._limits.send_concurrency)
        self._ports.metrics.count("rows_sent", len(records))
        batch = replace(batch, checkpoint=records[-1].end)
        await self._checkpoint(batch)
        await asyncio.sleep(0)
        return batch

    def _body(self, batch: Batch, record: Record, *, replay: bool) -> str:
        return row_body(batch, record, replay=replay, max_message_bytes=self._limits.max_message_bytes)

    async def _wait_for_room(self, batch: Batch, delivery: Delivery) -> None:
        """Wait while `max_queued_rows` of the batch's rows are sent and not done.

        Whoever has to wait gives its place away for good: otherwise a few large batches would keep all others
        from being split. Raises _EndedError where somebody else has sealed or ended the batch meanwhile.
        """
        most = self._limits.max_queued_rows
        pause_s = ROOM_POLL_S
        while most and batch.checkpoint.rows >= most:
            view = await self._ports.table.read(batch.batch_id)
            if view is None or view.batch.state is not State.SPLITTING:
                raise _EndedError
            if batch.checkpoint.rows - view.counts.done < most:
                return
            delivery.release_slot()
            delivery.check_lease()
            if delivery.is_draining:
                raise RetryableError("this process stops; the split goes on elsewhere, or later")
            await self._ports.clock.sleep(pause_s)
            pause_s = min(ROOM_POLL_MAX_S, 2 * pause_s)

    async def _checkpoint(self, batch: Batch) -> None:
        now = iso_time(self._ports.clock.now_ms())
        if not await self._ports.table.checkpoint(replace(batch, updated_at=now)):
            raise RetryableError("another splitter has taken this batch further")
