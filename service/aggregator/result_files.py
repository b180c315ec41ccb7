"""The result files of a batch.

CSVs are streamed into multipart uploads: memory holds one part per file, and a file becomes visible only when
it is whole. Another process can go on with the uploads after any row (`progress`).
"""

from __future__ import annotations

import codecs
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self

from service import csvio
from service.aggregator.checkpoints import FileProgress, Progress
from service.domain.model import Batch, Counts, Dialect, Location, Outcome, Status, counts_of
from service.domain.ports import Upload, UploadProgress

CSV_TYPE = "text/csv; charset=utf-8"
CHECKPOINT_SHARE = 64
"""A checkpoint is due when the output has grown by a part and by this share of its bytes.

A crash thus costs at most a part or 1.6 % of the work, and the checkpoints stay few, however large the file.
"""

FLUSH_BYTES = 256 * 1024
"""Encoded rows are handed to the upload in pieces of this size."""

OUTPUT, FAILURES, LONG_CELLS = "output.csv", "failures.csv", "long_cells.csv"


@dataclass(slots=True)
class _File:
    """A CSV being uploaded, in pieces."""

    upload: Upload
    flush_bytes: int
    rows: int = 0
    pending: bytearray = field(default_factory=bytearray)

    async def add(self, line: bytes) -> None:
        """Add bytes to what is written next."""
        self.pending += line
        if len(self.pending) >= self.flush_bytes:
            await self.flush()

    async def flush(self) -> None:
        await self.upload.write(bytes(self.pending))
        self.pending.clear()


class Uploads(Protocol):
    """The store of the files: the port Objects."""

    def upload(
        self, bucket: str, key: str, *, content_type: str, progress: UploadProgress | None = None
    ) -> Upload:
        """Start writing an object, or go on with it."""
        ...


class ResultFiles:
    """The result files of a batch: `output.csv`, and `failures.csv` once there is a failure.

    For Excel also `long_cells.csv`, once there is a cell that Excel would cut. With `begun` they go on after
    its row. Their place is that of the batch's results, or `place`.
    """

    def __init__(
        self,
        objects: Uploads,
        batch: Batch,
        begun: Progress | None = None,
        *,
        flush_bytes: int = FLUSH_BYTES,
        place: Location | None = None,
    ) -> None:
        self._objects = objects
        self._place = place or batch.results
        self._flush_bytes = flush_bytes
        self._batch = batch
        self._begun = begun
        self._row = begun.row if begun else 0
        self._checkpoint_bytes = 0
        self._dialect = batch.dialect or Dialect("utf-8", ",")
        self._stack = AsyncExitStack()
        self._output: _File | None = None
        self._failures: _File | None = None
        self._long_cells: _File | None = None
        self._header: list[str] = []
        self._rows = csvio.OutputRows(
            batch.columns,
            batch.output_fields,
            escape_formulas=batch.escape_formulas,
            rounds=batch.round > 1,
            provenance=batch.provenance,
        )
        self.tally = begun.tally if begun else Counts()
        self.rounds = Counter(begun.rounds if begun else {})
        self.last_outcome_at = begun.last_outcome_at if begun else ""

    async def __aenter__(self) -> Self:
        await self._stack.__aenter__()
        batch = self._batch
        self._header = csvio.output_header(
            batch.columns, batch.output_fields, rounds=batch.round > 1, provenance=batch.provenance
        )
        if self._begun is None:
            self._output = await self._open(OUTPUT, self._mark + csvio.encode_row(self._header))
            return self
        self._output, self._failures, self._long_cells = [
            await self._resume(name) for name in (OUTPUT, FAILURES, LONG_CELLS)
        ]
        self._checkpoint_bytes = self._output.upload.stored_bytes if self._output else 0
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)

    async def add(self, outcomes: Sequence[Outcome]) -> None:
        """Write a row of the output for each of at least one, and one of the failures if it FAILED."""
        assert self._output is not None
        output, excel = self._output, self._batch.excel
        for outcome in outcomes:
            cells = self._rows.cells(outcome)
            if excel:
                cells = await self._without_long_cells(outcome.number, cells)
            output.pending += csvio.encode_row(cells)
            if len(output.pending) >= output.flush_bytes:
                await output.flush()
            if outcome.status is Status.FAILED:
                await self._add_failure(outcome)
        output.rows += len(outcomes)
        self._row = outcomes[-1].number
        self.tally += counts_of(outcomes)
        self.rounds.update(outcome.mapped_in for outcome in outcomes)
        latest = max(outcome.timestamp for outcome in outcomes)
        self.last_outcome_at = max(self.last_outcome_at, latest)

    async def _add_failure(self, outcome: Outcome) -> None:
        if self._failures is None:
            self._failures = await self._open(FAILURES, self._failures_start())
        await self._failures.add(csvio.failure_line(outcome, self._batch.columns, self._dialect))
        self._failures.rows += 1

    async def complete(self) -> Progress:
        """Make the files visible, failures first; return their final state."""
        done = {}
        for name, file in self._files().items():
            await file.flush()
            done[name] = FileProgress(file.rows, stored=await file.upload.complete())
        return Progress(self._row, self.tally, self.last_outcome_at, done, dict(self.rounds))

    @property
    def has_parts(self) -> bool:
        """True if a part of a file is stored."""
        return any(file.upload.stored_bytes for file in self._files().values())

    @property
    def is_checkpoint_due(self) -> bool:
        """True if the output has grown by at least one part since the last checkpoint, and enough beside."""
        assert self._output is not None
        size = self._output.upload.stored_bytes
        return size > self._checkpoint_bytes and size - self._checkpoint_bytes >= size // CHECKPOINT_SHARE

    async def progress(self) -> Progress:
        """The state after the last row that was added; it is the state of a checkpoint from now on."""
        files = {}
        for name, file in self._files().items():
            await file.flush()
            files[name] = FileProgress(file.rows, file.upload.progress)
        assert self._output is not None
        self._checkpoint_bytes = self._output.upload.stored_bytes
        return Progress(self._row, self.tally, self.last_outcome_at, files, dict(self.rounds))

    def leave(self, progress: Progress) -> None:
        """Leave the uploads that are in a stored checkpoint to the next aggregator, unless they end here."""
        for name, file in self._files().items():
            if progress.upload_id(name):
                file.upload.leave()

    def _files(self) -> dict[str, _File]:
        """The files that there are, failures first."""
        files = {FAILURES: self._failures, LONG_CELLS: self._long_cells, OUTPUT: self._output}
        return {name: file for name, file in files.items() if file is not None}

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
        file = _File(await self._upload(name), self._flush_bytes)
        await file.add(start)
        return file

    async def _resume(self, name: str) -> _File | None:
        assert self._begun is not None
        begun = self._begun.files.get(name)
        if begun is None:
            return None
        file = _File(await self._upload(name, begun.upload), self._flush_bytes, begun.rows)
        if self._begun.upload_id(name):
            file.upload.leave()
        return file

    async def _upload(self, name: str, progress: UploadProgress | None = None) -> Upload:
        place = self._place
        upload = self._objects.upload(
            place.bucket, place.prefix + name, content_type=CSV_TYPE, progress=progress
        )
        return await self._stack.enter_async_context(upload)
