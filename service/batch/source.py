"""A batch's source, read in ranges and parsed into records.

The splitter reads a source from its checkpoint on. The sweeper reads it again from the beginning, to find the
rows whose messages were lost. Both read the very object that the batch was opened with (If-Match), or fail.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace

from service.csvio import CsvReader, Record
from service.domain.errors import SourceError
from service.domain.model import Batch, Checkpoint
from service.domain.ports import Objects
from service.runtime.port_retries import retry_for

READ_TIMEOUT_S = 120.0
"""Longest time that one read is retried. After that the ingest message is released and redelivered."""

_retry_read = retry_for(READ_TIMEOUT_S, first_s=0.1, longest_s=10.0)


def reader_of(batch: Batch, delimiter: str, encoding: str, max_record_bytes: int) -> CsvReader:
    """A reader that resumes at the batch's checkpoint.

    `delimiter` and `encoding`, the mapping's, count only until the header is read: from then on the batch
    has a dialect.
    """
    if batch.dialect and batch.columns:
        return CsvReader.resume(
            batch.columns, batch.dialect, batch.checkpoint, max_record_bytes=max_record_bytes
        )
    return CsvReader(delimiter=delimiter, encoding=encoding, max_record_bytes=max_record_bytes)


async def records_of(
    objects: Objects, batch: Batch, reader: CsvReader, read_bytes: int
) -> AsyncGenerator[Sequence[Record], None]:
    """The records after the checkpoint, chunk by chunk, up to the batch's limit.

    Raises SourceError, CsvError, and RetryableError after `READ_TIMEOUT_S` of trying.
    """
    offset, size = batch.checkpoint.byte_offset, batch.source.size
    most = batch.limit if batch.limit is not None else size + 1
    while offset < size:
        chunk = await _retry_read(objects.read, batch.source, offset, read_bytes)
        if not chunk:
            raise SourceError(f"{batch.source.url} ended after {offset} of {size} bytes")
        offset += len(chunk)
        records = reader.feed(chunk)
        if records and records[-1].number >= most:
            yield [record for record in records if record.number <= most]
            return
        yield records
    yield [record for record in reader.close() if record.number <= most]


async def records_again(
    objects: Objects, batch: Batch, *, read_bytes: int, max_record_bytes: int
) -> AsyncGenerator[Sequence[Record], None]:
    """Every record of a sealed batch, from the first on. Raises as `records_of` does."""
    assert batch.dialect is not None  # a batch without a header has no rows
    start = replace(batch, checkpoint=Checkpoint())
    reader = CsvReader.resume(
        batch.columns, batch.dialect, start.checkpoint, max_record_bytes=max_record_bytes
    )
    async for records in records_of(objects, start, reader, read_bytes):
        yield records
