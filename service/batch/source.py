"""The source of a batch, read in ranges and parsed into records, and the definition it was opened with.

The splitter reads a source from its checkpoint on. The sweeper reads it again from the beginning, to find the
rows whose messages were lost. Both read the very object that the batch was opened with (If-Match), or fail.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace

from service import __version__
from service.csvio import CsvReader, Layout, Record
from service.csvio.compression import Decompressor, decompressor_of, is_compressed_name
from service.domain.errors import (
    ConfigError,
    MappingError,
    MappingTooNewError,
    RetryableError,
    SourceError,
)
from service.domain.model import MAX_ROWS, Batch, Checkpoint, Source
from service.domain.ports import Objects, Table
from service.mapping import Definition, RowMapping
from service.runtime.port_retries import retry_for

READ_TIMEOUT_S = 120.0
"""Longest time that one read is retried. After that the ingest message is released and redelivered."""

_MAGIC_BYTES = 4

_retry_read = retry_for(READ_TIMEOUT_S, first_s=0.1, longest_s=10.0)


def reader_of(
    batch: Batch, delimiter: str, encoding: str, layout: Layout, *, max_record_bytes: int
) -> CsvReader:
    """A reader that resumes at the batch's checkpoint.

    The settings of mapping and job count only until the header is read: from then on the batch has a dialect.
    Raises CsvError if those of the job are invalid.
    """
    if batch.dialect and batch.columns:
        return CsvReader.resume(
            batch.columns, batch.dialect, batch.checkpoint, max_record_bytes=max_record_bytes
        )
    return CsvReader(
        delimiter=batch.delimiter or delimiter,
        encoding=batch.encoding or encoding,
        layout=layout,
        max_record_bytes=max_record_bytes,
    )


async def records_of(
    objects: Objects, batch: Batch, reader: CsvReader, read_bytes: int
) -> AsyncGenerator[Sequence[Record], None]:
    """The records after the checkpoint, chunk by chunk, up to the batch's limit.

    Raises SourceError, CsvError, and RetryableError after `READ_TIMEOUT_S` of trying.
    """
    most = batch.limit if batch.limit is not None else MAX_ROWS
    async with aclosing(
        table_bytes(objects, batch.source, batch.checkpoint.byte_offset, read_bytes)
    ) as chunks:
        async for chunk in chunks:
            records = reader.feed(chunk)
            if records and records[-1].number >= most:
                yield [record for record in records if record.number <= most]
                return
            yield records
    yield [record for record in reader.close() if record.number <= most]


async def table_bytes(
    objects: Objects, source: Source, start: int, read_bytes: int
) -> AsyncGenerator[bytes, None]:
    """The bytes of a table from `start` on, which counts decompressed bytes. Raises as `records_of` does."""
    if is_compressed_name(source.key):
        first = await _retry_read(objects.read, source, 0, _MAGIC_BYTES)
        if (decompressor := decompressor_of(first)) is not None:
            chunks = _decompressed(_ranges(objects, source, 0, read_bytes), decompressor, start)
            async with aclosing(chunks):
                async for chunk in chunks:
                    yield chunk
            return
    async for chunk in _ranges(objects, source, start, read_bytes):
        yield chunk


async def _ranges(
    objects: Objects, source: Source, offset: int, read_bytes: int
) -> AsyncGenerator[bytes, None]:
    while offset < source.size:
        chunk = await _retry_read(objects.read, source, offset, read_bytes)
        if not chunk:
            raise SourceError(f"{source.url} ended after {offset} of {source.size} bytes")
        offset += len(chunk)
        yield chunk


async def _decompressed(
    chunks: AsyncGenerator[bytes, None], decompressor: Decompressor, start: int
) -> AsyncGenerator[bytes, None]:
    """The decompressed bytes from `start` on: a compressed file can only be read from its beginning."""
    position = 0
    async with aclosing(chunks):
        async for chunk in chunks:
            for piece in decompressor.feed(chunk):
                if position + len(piece) > start:
                    yield piece[max(0, start - position) :]
                position += len(piece)
                await asyncio.sleep(0)  # a piece may take milliseconds: other tasks get their turn here
    decompressor.close()


async def records_again(
    objects: Objects, batch: Batch, *, read_bytes: int, max_record_bytes: int
) -> AsyncGenerator[Sequence[Record], None]:
    """Every record of a sealed batch, from the first on. Raises as `records_of` does."""
    assert batch.dialect is not None  # a batch without a header has no rows
    first = Checkpoint(0, batch.dialect.first_byte, batch.dialect.first_line or 1)
    start = replace(batch, checkpoint=first)
    reader = CsvReader.resume(
        batch.columns, batch.dialect, start.checkpoint, max_record_bytes=max_record_bytes
    )
    async for records in records_of(objects, start, reader, read_bytes):
        yield records


async def stored_definition(table: Table, batch: Batch) -> Definition:
    """The definition that the batch was opened with; the mapping files may have changed since."""
    text = await table.definition(batch.batch_id, batch.mapping_digest)
    if text is None:
        raise RetryableError(f"the definition of {batch.batch_id} is not in the table")
    return Definition(batch.tool_name, text)


def compile_stored(definition: Definition, batch: Batch) -> RowMapping:
    """The compiled definition of the batch.

    Raises MappingError if no version can compile it, and MappingTooNewError if a newer one could.
    """
    try:
        return definition.compile()
    except MappingError as error:
        if is_older(__version__, batch.compiled_by):
            raise MappingTooNewError(too_old_text(batch, error)) from error
        raise


def too_old_text(batch: Batch, error: ConfigError) -> str:
    """The reason why this process cannot serve a mapping that a newer version has opened."""
    return (
        f"this process runs rowfleet {__version__}, and the mapping was opened by {batch.compiled_by}: "
        f"update it ({error})"
    )


def is_older(version: str, other: str) -> bool:
    """True if a version of rowfleet is older than `other`; False if that is unknown ("").

    Versions are compared by their numbers: a version before a release (`1.2.0rc1`) is as old as the release.
    """
    return bool(other) and _numbers(version) < _numbers(other)


def _numbers(version: str) -> tuple[int, ...]:
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, found.group().split("."))) if found else ()
