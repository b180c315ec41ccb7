"""One split of a batch, steps 2 and 3 of the protocol: its source becomes row messages, and it is sealed.

Rows are sent in windows, which end by rows or by bytes. The split checkpoints a window once all of it is
sent, and the next split of the batch resumes at the checkpoint. A split that ends early has therefore sent at
most one window beyond it; the next one marks the rows of that window as `replay`.

A call of the queue without an answer may have sent its rows. They are sent again as `replay`, after the split
has become another sender of the batch: workers look up the rows of the former one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import structlog

from service.batch.large_rows import RowBodies, row_body
from service.batch.lease import BatchLease
from service.batch.role_ports import Ports
from service.batch.row_checks import REPEAT_DELAY_S
from service.batch.source import reader_of, records_of
from service.csvio import Header, Record
from service.domain.errors import LeaseLostError, UsageError
from service.domain.messages import RowMessage
from service.domain.model import Batch, Checkpoint, PastOutcome, SampleGate, State, iso_time
from service.domain.ports import MESSAGE_BYTES, OutgoingMessage
from service.mapping import RowMapping
from service.recovery.earlier_outcomes import history_of, outcomes_of
from service.recovery.kept import NONE_KEPT, KeptRows
from service.runtime.byte_budget import ByteBudget
from service.runtime.delivery import Delivery
from service.runtime.port_retries import retry_for
from service.runtime.sender import send_all
from service.splitter.backpressure import Backpressure, SplitEndedError
from service.splitter.opening import OpenLimits
from service.splitter.sampling import closed_gate, reach_gate, sent_first
from service.splitter.windows import Windows

log = structlog.get_logger(__name__)

WRITE_TIMEOUT_S = 20.0
"""Longest time that a checkpoint or the seal is retried. After that the job's message is released."""

_retry_write = retry_for(WRITE_TIMEOUT_S, first_s=0.05, longest_s=2.0)


@dataclass(frozen=True, slots=True)
class SplitLimits:
    """Limits of one split. Sizes in bytes.

    `send_concurrency` batch calls run at the same time. A window ends at `checkpoint_bytes` of the source, if
    not by its rows. `max_queued_rows` bounds the rows of a batch that are sent and not done (see
    `backpressure`); 0 means no bound. A batch is leased for `lease_s` at a time, and waits that long if its
    splitter dies. `is_alone`: no other process works on the batches.
    """

    send_concurrency: int = 16
    checkpoint_bytes: int = 4 * 2**20
    max_queued_rows: int = 0
    lease_s: float = 40.0
    read_bytes: int = 2**20
    max_record_bytes: int = 8 * 2**20
    max_message_bytes: int = MESSAGE_BYTES
    incoming_prefix: str = "incoming/"
    is_alone: bool = False
    opening: OpenLimits = field(default_factory=OpenLimits)


class Split:
    """Splits `batch`, as read under `lease`, from its checkpoint to its end.

    All splits of a process share `send_budget`, the bytes of messages that are being sent. Rows that an
    earlier split may have sent are delivered after `repeat_delay_s`. `has_progressed`: it has stored that a
    window is sent.
    """

    def __init__(
        self,
        ports: Ports,
        batch: Batch,
        lease: BatchLease,
        delivery: Delivery,
        limits: SplitLimits,
        send_budget: ByteBudget,
        *,
        repeat_delay_s: int = REPEAT_DELAY_S,
    ) -> None:
        self.batch = batch
        self._repeat_delay_s = repeat_delay_s
        self._send_budget = send_budget
        self._ports = ports
        self._lease = lease
        self._delivery = delivery
        self._limits = limits
        self._backpressure = Backpressure(ports, limits.max_queued_rows)
        self._renaming = asyncio.Lock()
        self._first: Checkpoint | None = None
        self._kept = NONE_KEPT
        self._bodies: RowBodies | None = None
        self._histories: dict[int, tuple[PastOutcome, ...]] = {}
        self.has_progressed = False
        # The previous splitter may have sent one window beyond its checkpoint. The window's size is the one
        # stored with the batch; the setting may have changed since.
        self._replay_until = batch.checkpoint.rows + batch.window if batch.columns else 0
        # Rows of a random sample have their outcomes before their turn in the file comes.
        gate = batch.gate
        self._sampled = frozenset(gate.numbers) if gate is not None and gate.is_open else frozenset[int]()

    async def run(self, mapping: RowMapping) -> None:
        """Send every row and seal the batch; or send its sample, and seal it at its gate.

        Raises BatchRejectedError if the source is no CSV table, MappingError if the mapping does not fit it,
        LeaseLostError, SplitEndedError if the batch has ended meanwhile, RetryableError and AccessError.
        """
        batch = self.batch
        if self._replay_until:
            log.info("split_resumed", rows=batch.checkpoint.rows, byte_offset=batch.checkpoint.byte_offset)
        gate = closed_gate(batch)
        end = await self._split(mapping, gate)
        if end is None or gate is None or end.rows <= gate.size:
            if end is not None and gate is not None and gate.is_random:
                # The file has no more rows than the sample: all of them are sent.
                end = await self._split(mapping, None)
            await self._seal_at(end)
        elif not await self._reach_gate(gate, end):
            self.batch = replace(self.batch, unread_from=self.batch.checkpoint.rows + 1)
            await self._seal()

    async def _split(self, mapping: RowMapping, gate: SampleGate | None) -> Checkpoint | None:
        """Send every row up to the gate, and read to the end of the file; return its end.

        None if the batch was cancelled, and its rows are not read to the end.
        """
        batch, csv = self.batch, mapping.csv
        most = self._limits.max_record_bytes
        reader = reader_of(batch, csv.delimiter, csv.encoding, csv.layout, max_record_bytes=most)
        # A window that ends by its bytes has fewer rows than `batch.window`, which bounds the replays.
        windows = Windows(batch.window, self._limits.checkpoint_bytes)
        end = batch.checkpoint
        async for records in records_of(self._ports.objects, batch, reader, self._limits.read_bytes):
            if not self.batch.columns and reader.header:
                self._take_header(mapping, reader.header)
            sent = sent_first(records, gate)
            for window in windows.add(sent):
                if not await self._send(window):
                    return None
            if records:
                end = records[-1].end
            if len(sent) < len(records):
                # Rows behind the gate: they are counted.
                if (rest := windows.rest()) and not await self._send(rest):
                    return None
                self._delivery.release_slot()
                self._check_leases()
        if (rest := windows.rest()) and not await self._send(rest):
            return None
        await self._store_header()
        return replace(end if end.rows else self.batch.checkpoint, blanks=reader.blanks)

    async def _seal_at(self, end: Checkpoint | None) -> None:
        """Seal the batch at the end of the file, or where it was cancelled."""
        if end is not None and end.blanks != self.batch.checkpoint.blanks:
            # The blank records after the last row. A resume would only skip them again.
            await self._checkpoint(replace(self.batch.checkpoint, blanks=end.blanks))
        await self._seal()

    async def _reach_gate(self, gate: SampleGate, end: Checkpoint) -> bool:
        """Seal the batch for its sample. False if it was cancelled before. Raises SplitEndedError."""
        self._check_leases()
        try:
            if await reach_gate(self._ports, self.batch, gate, end):
                self._lease.given_up()
                return True
        except UsageError:
            raise SplitEndedError from None  # the batch has expired
        if await self._is_cancelled():
            return False
        raise SplitEndedError

    async def exclude(self, kept: KeptRows) -> None:
        """Before `run`: send no row that keeps its outcome in a later round.

        Rows after the checkpoint can have outcomes, if the batch was paused while it was split.
        """
        self._kept = kept
        if self.batch.round > 1 and self._replay_until:
            numbers = list(kept.due(self.batch.checkpoint.rows, self._replay_until))
            numbers += sorted(
                each for each in self._sampled if each > self._replay_until and kept.is_due(each)
            )
            async for outcomes in outcomes_of(self._ports.table, self.batch, numbers):
                earlier = (outcome for outcome in outcomes if outcome.round < self.batch.round)
                self._histories |= {outcome.number: history_of(outcome) for outcome in earlier}

    def _take_header(self, mapping: RowMapping, header: Header) -> None:
        """Check the header against the mapping. It is stored with the batch when the first row is sent."""
        mapping.check_columns(header.columns)
        for note in header.notes:
            log.warning("header_changed", note=note)
        self.batch = replace(self.batch, columns=header.columns, dialect=header.dialect, notes=header.notes)
        self._first = Checkpoint(0, header.dialect.first_byte, header.dialect.first_line)

    async def _store_header(self) -> None:
        """Store a new header with the batch: from then on rows may be sent, and the id is not opened anew."""
        if self._first is not None:
            first, self._first = self._first, None
            await self._checkpoint(first)

    async def _send(self, records: Sequence[Record]) -> bool:
        """Send a window and checkpoint it. False if the batch was cancelled, and rows of it are not sent."""
        await self._store_header()
        await self._backpressure.wait(self.batch, self._check_leases, self._delivery)
        if await self._is_cancelled():
            return await self._send_repeats(records)
        await self._send_rows(records)
        await self._checkpoint(records[-1].end)
        self.has_progressed = True
        await asyncio.sleep(0)  # ports in memory never suspend: other tasks get their turn here
        return True

    async def _is_cancelled(self) -> bool:
        """True if the batch was cancelled. Raises SplitEndedError if it is not SPLITTING any more."""
        view = await self._ports.table.read(self.batch.batch_id)
        if view is None or view.batch.state is not State.SPLITTING:
            raise SplitEndedError
        return bool(view.batch.cancelled_at)

    async def _send_repeats(self, records: Sequence[Record]) -> bool:
        """Send the rows of a cancelled batch that an earlier splitter may have sent: they may have outcomes.

        False if the window has others, which are not read. The seal stores the checkpoint behind these rows.
        If it were stored before, and this splitter died, the next one would take a further window for sent.
        """
        repeats = [record for record in records if record.number <= self._replay_until]
        if repeats:
            await self._send_rows(repeats)
            self.batch = replace(self.batch, checkpoint=repeats[-1].end)
        if len(repeats) == len(records):
            return True
        self.batch = replace(self.batch, unread_from=self.batch.checkpoint.rows + 1)
        log.info("split_cancelled", rows=self.batch.checkpoint.rows)
        return False

    async def _send_rows(self, records: Sequence[Record]) -> None:
        due = [record for record in records if self._kept.is_due(record.number)]
        messages = (self._message(record) for record in due)
        await send_all(
            self._ports.queues.rows,
            messages,
            concurrency=self._limits.send_concurrency,
            before_call=self._check_leases,
            remake=self._marked,
            budget=self._send_budget,
        )
        self._ports.metrics.count("rows_sent", len(due))

    def _check_leases(self) -> None:
        self._delivery.check_lease()
        self._lease.check()

    def _message(self, record: Record) -> OutgoingMessage:
        most = self._limits.max_message_bytes
        if record.number <= self._replay_until or record.number in self._sampled:
            history = self._histories.get(record.number, ())
            body = row_body(self.batch, record, replay=True, history=history, max_message_bytes=most)
            return OutgoingMessage(body, self.batch.batch_id, self._repeat_delay_s)
        # A call without an answer changes the sender between two messages.
        if self._bodies is None or self._bodies.sender != self.batch.sender:
            self._bodies = RowBodies(self.batch, most)
        return OutgoingMessage(self._bodies.body(record), self._bodies.group)

    async def _marked(self, messages: Sequence[OutgoingMessage]) -> Sequence[OutgoingMessage]:
        """Messages that may have been accepted, as repeats; the first ones are known by their sender."""
        rows = [RowMessage.decode(message.body) for message in messages]
        async with self._renaming:
            # Another call may have changed the sender since these rows were first sent.
            if any(row.sender == self.batch.sender for row in rows):
                await self._lease.rename()
                self.batch = replace(self.batch, sender=self._lease.owner)
        self._ports.metrics.count("rows_sent_twice", len(rows))
        log.warning("rows_may_be_sent_twice", rows=len(rows), first=rows[0].number)
        bodies = (replace(row, replay=True).encode() for row in rows)
        return [OutgoingMessage(body, self.batch.batch_id, REPEAT_DELAY_S) for body in bodies]

    async def _checkpoint(self, checkpoint: Checkpoint) -> None:
        now = iso_time(self._ports.clock.now_ms())
        batch = replace(self.batch, checkpoint=checkpoint, updated_at=now)
        # Repeated without a look at the lease: whoever has it, the table knows.
        if not await _retry_write(self._ports.table.checkpoint, batch, owner=self._lease.owner):
            await self._explain_refusal()
            raise SplitEndedError
        self.batch = batch

    async def _seal(self) -> None:
        total = self.batch.checkpoint.rows
        now = iso_time(self._ports.clock.now_ms())
        seal = self._ports.table.seal
        sealed = await _retry_write(seal, self.batch, total, now, owner=self._lease.owner)
        if sealed:
            self._lease.given_up()
        else:
            # The reply to a successful seal may have been lost; the call is then repeated in vain.
            await self._explain_refusal()
        log.info("batch_sealed" if sealed else "batch_was_sealed", total=total)

    async def _explain_refusal(self) -> None:
        """Raise LeaseLostError if the batch refused a write because another splitter has its lease."""
        view = await self._ports.table.read(self.batch.batch_id)
        wanted = (self.batch.identity, State.SPLITTING)
        if view is not None and (view.batch.identity, view.batch.state) == wanted:
            raise LeaseLostError(f"another splitter has taken batch {self.batch.batch_id}")
