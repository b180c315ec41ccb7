"""Claim check for rows: a row too large for a message travels as a `Span` of its source.

The splitter issues the message (`row_body`), and the row's worker reads the record (`ClaimCheck.redeem`).
Both read the very bytes that the batch was opened with (etag, version), so both see the same record.
"""

from __future__ import annotations

import base64
from contextlib import aclosing
from dataclasses import replace

from service.batch.source import table_bytes
from service.csvio import CsvReader, Record
from service.csvio.compression import is_compressed_name
from service.domain.errors import CsvError, PoisonMessageError, RowTooLargeError, SourceError
from service.domain.messages import RowFrame, RowMessage, Span
from service.domain.model import Batch, Checkpoint, PastOutcome, Source
from service.domain.ports import MESSAGE_BYTES, Objects
from service.runtime.port_retries import retry_for

LINE_END_BYTES = 4
r"""Longest line end: `\r\n` in UTF-16. A span has it beyond the bytes of its record."""

RESEND_BYTES = 600
"""Bytes kept free in a row's message for the keys that it gets when it is requeued or resent."""

DECOMPRESS_BYTES = 2**20
"""Bytes of a compressed source that are read at a time."""

READ_TIMEOUT_S = 30.0
"""Longest time that the read of a span is retried. After that the row's message is released."""

_retry_read = retry_for(READ_TIMEOUT_S, first_s=0.1, longest_s=5.0)


def row_message(batch: Batch, record: Record) -> RowMessage:
    """The row of a record, with the bytes of a defective one."""
    raw = base64.b64encode(record.raw).decode("ascii")
    return RowMessage(
        batch.batch_id,
        batch.round,
        record.number,
        record.cells,
        defect=record.defect,
        record=raw,
        incarnation=batch.incarnation,
        sender=batch.sender,
        generation=batch.generation,
    )


def row_body(
    batch: Batch,
    record: Record,
    *,
    replay: bool = False,
    history: tuple[PastOutcome, ...] = (),
    max_message_bytes: int = MESSAGE_BYTES,
) -> str:
    """The message of a record. It carries the record's `Span` instead of the cells if those are too large."""
    message = replace(row_message(batch, record), replay=replay, history=history)
    room = max_message_bytes - RESEND_BYTES
    # A character takes a byte at least. Encoding takes much memory, so what cannot fit is not encoded.
    if len(message.record) + sum(map(len, message.cells)) <= room:
        body = message.encode()
        if len(body) <= room:
            return body
    span = Span(record.start, record.length, record.line)
    return replace(message, cells=(), defect="", record="", span=span).encode()


class RowBodies:
    """Makes the first messages of a batch's records, as `row_body` does; what they share is encoded once."""

    def __init__(self, batch: Batch, max_message_bytes: int = MESSAGE_BYTES) -> None:
        self.group, self.sender = batch.batch_id, batch.sender
        self._batch = batch
        self._max_message_bytes = max_message_bytes
        self._room = max_message_bytes - RESEND_BYTES
        first = RowMessage(
            batch.batch_id, batch.round, 1, (),
            incarnation=batch.incarnation, sender=batch.sender, generation=batch.generation,
        )  # fmt: skip
        self._frame = RowFrame(first)

    def body(self, record: Record) -> str:
        """The message of a record."""
        if not record.defect and record.length <= self._room:
            body = self._frame.encode(record.number, record.cells)
            if len(body) <= self._room:
                return body
        return row_body(self._batch, record, max_message_bytes=self._max_message_bytes)


class ClaimCheck:
    """Reads large rows from their sources. The splitter accepts records up to `max_record_bytes`."""

    def __init__(self, objects: Objects, *, max_record_bytes: int = 8 * 2**20) -> None:
        self._objects = objects
        self._max_record_bytes = max_record_bytes

    async def redeem(self, batch: Batch, row: RowMessage) -> RowMessage:
        """The row with its cells and its defect; a row that carries its cells is returned as it is.

        Raises SourceError if the source is gone or was changed, RowTooLargeError if the span is larger than
        this setting allows, PoisonMessageError if the span is not exactly one record, and RetryableError or
        AccessError if the source cannot be read now.
        """
        span = row.span
        if span is None:
            return row
        if span.length > self._max_record_bytes + LINE_END_BYTES:
            raise RowTooLargeError(
                f"the record on line {span.line} takes {span.length:,} bytes, {self._max_record_bytes:,} are "
                "allowed (ROWFLEET_SPLIT__MAX_RECORD_BYTES)"
            )
        is_compressed = is_compressed_name(batch.source.key)
        is_inside = is_compressed or span.offset + span.length <= batch.source.size
        if batch.dialect is None or not is_inside:
            raise PoisonMessageError(f"a span that does not lie in {batch.source.url}: {span}")
        read = self._decompress if is_compressed else self._objects.read
        body = await _retry_read(read, batch.source, span.offset, span.length)
        if len(body) < span.length:
            raise SourceError(f"{batch.source.url} ended within row {row.number}")
        found = row_message(batch, self._record(batch, row.number, span, body))
        return replace(row, cells=found.cells, defect=found.defect, record=found.record, span=None)

    async def _decompress(self, source: Source, offset: int, length: int) -> bytes:
        """Bytes of a compressed source, which has to be read from its beginning."""
        body = bytearray()
        async with aclosing(table_bytes(self._objects, source, offset, DECOMPRESS_BYTES)) as chunks:
            async for chunk in chunks:
                body += chunk
                if len(body) >= length:
                    break
        return bytes(body[:length])

    def _record(self, batch: Batch, number: int, span: Span, body: bytes) -> Record:
        assert batch.dialect is not None
        # Resume as if every record before the span had been read.
        start = Checkpoint(number - 1, span.offset, span.line)
        dialect = replace(batch.dialect, first_line=batch.dialect.first_line or 1)
        reader = CsvReader.resume(batch.columns, dialect, start, max_record_bytes=self._max_record_bytes)
        try:
            records = reader.feed(body) + reader.close()
        except CsvError as error:
            raise PoisonMessageError(f"the span of row {number} is no record: {error}") from None
        if len(records) != 1 or records[0].length != span.length:
            raise PoisonMessageError(f"the span of row {number} is not exactly one record: {span}")
        return records[0]
