"""The result files of a batch.

CSVs are streamed into multipart uploads: memory holds one part per file, and a file becomes visible only when
it is whole.
"""

from __future__ import annotations

import codecs
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from service import csvio
from service.domain.model import Batch, Counts, Dialect, Outcome, Status
from service.domain.ports import Objects, StoredFile, Upload

CSV_TYPE = "text/csv; charset=utf-8"
FLUSH_BYTES = 256 * 1024
"""Encoded rows are handed to the upload in pieces of this size."""

OUTPUT, FAILURES, LONG_CELLS = "output.csv", "failures.csv", "long_cells.csv"


@dataclass(slots=True)
class _File:
    """A CSV being uploaded, in pieces."""

    upload: Upload
    rows: int = 0
    pending: bytearray = field(default_factory=bytearray)

    async def add(self, line: bytes) -> None:
        self.pending += line
        if len(self.pending) >= FLUSH_BYTES:
            await self.flush()

    async def flush(self) -> None:
        await self.upload.write(bytes(self.pending))
        self.pending.clear()


class ResultFiles:
    """The result files of a batch: `output.csv`, and `failures.csv` once there is a failure.

    For Excel also `long_cells.csv`, once there is a cell that Excel would cut.
    """

    def __init__(self, objects: Objects, batch: Batch) -> None:
        self._objects = objects
        self._batch = batch
        self._dialect = batch.dialect or Dialect("utf-8", ",")
        self._stack = AsyncExitStack()
        self._output: _File | None = None
        self._failures: _File | None = None
        self._long_cells: _File | None = None
        self._header: list[str] = []
        self.tally = Counts()
        self.last_outcome_at = ""

    async def __aenter__(self) -> Self:
        await self._stack.__aenter__()
        batch = self._batch
        self._header = csvio.output_header(batch.columns, batch.output_fields, provenance=batch.provenance)
        self._output = await self._open(OUTPUT, self._mark + csvio.encode_row(self._header))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)

    async def add(self, outcome: Outcome) -> None:
        """Write one row to the output, and to the failures if it FAILED."""
        batch = self._batch
        assert self._output is not None
        cells = csvio.output_cells(
            outcome,
            batch.columns,
            batch.output_fields,
            escape_formulas=batch.escape_formulas,
            provenance=batch.provenance,
        )
        if batch.excel:
            cells = await self._without_long_cells(outcome.number, cells)
        await self._output.add(csvio.encode_row(cells))
        self._output.rows += 1
        if outcome.status is Status.FAILED:
            if self._failures is None:
                self._failures = await self._open(FAILURES, self._failures_start())
            await self._failures.add(csvio.failure_line(outcome, batch.columns, self._dialect))
            self._failures.rows += 1
        self.tally += outcome.counts
        self.last_outcome_at = max(self.last_outcome_at, outcome.timestamp)

    async def complete(self) -> list[tuple[StoredFile, int]]:
        """Make the files visible, failures first; return each with its number of rows."""
        files = []
        for file in (self._failures, self._long_cells, self._output):
            if file is not None:
                await file.flush()
                files.append((await file.upload.complete(), file.rows))
        return files

    @property
    def _mark(self) -> bytes:
        return codecs.BOM_UTF8 if self._batch.bom else b""

    async def _without_long_cells(self, row: int, cells: list[str]) -> list[str]:
        """The row with notes in place of the cells that it has moved to the file of long cells."""
        kept, moved = csvio.move_long_cells(row, self._header, cells)
        for line in moved:
            if self._long_cells is None:
                start = self._mark + csvio.encode_row(csvio.LONG_CELLS_HEADER)
                self._long_cells = await self._open(LONG_CELLS, start)
            await self._long_cells.add(csvio.encode_row(line))
            self._long_cells.rows += 1
        return kept

    def _failures_start(self) -> bytes:
        """The beginning of failures.csv, in the encoding of the source."""
        header = csvio.failure_header(self._batch.columns)
        return csvio.byte_order_mark(self._dialect) + csvio.encode_row(header, self._dialect)

    async def _open(self, name: str, start: bytes) -> _File:
        output = self._batch.results
        upload = self._objects.upload(output.bucket, output.prefix + name, content_type=CSV_TYPE)
        file = _File(await self._stack.enter_async_context(upload))
        await file.add(start)
        return file
