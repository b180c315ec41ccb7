"""The file of a run: read once before it is run, for its digest and an estimate of its rows."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from service.csvio.compression import decompressor_of
from service.domain.errors import CsvError, UsageError

CHUNK_BYTES = 2**20

STDIN, STDIN_NAME = "-", "stdin.csv"
"""The argument that stands for stdin, and the name of its file in the store."""


@dataclass(frozen=True, slots=True)
class ScannedSource:
    """A file as it was read: `records` estimates its records without the header, None if that is unknown."""

    path: Path
    name: str
    size: int
    sha256: str
    records: int | None

    @property
    def row_bytes(self) -> int:
        """The mean size of a record in bytes, 0 if it is unknown."""
        return self.size // self.records if self.records else 0


class RecordCounter:
    """Counts the records of a CSV by its line ends outside of quotes; blank lines are none."""

    def __init__(self) -> None:
        self._is_quoted = False
        self._lines = 0
        self._last = b""

    def feed(self, chunk: bytes) -> None:
        """Count a chunk, of any size."""
        if not chunk:
            return
        pieces = chunk.split(b'"')
        outside = b'"'.join(pieces[self._is_quoted :: 2])
        self._is_quoted ^= len(pieces) % 2 == 0
        self._lines += outside.count(b"\n") - outside.count(b"\n\n") - outside.count(b"\n\r\n")
        self._last = chunk[-1:]

    @property
    def lines(self) -> int:
        """The lines so far, the last one also without a line end."""
        return self._lines + (self._last not in (b"", b"\n"))


def scan_source(path: Path, name: str, *, header_lines: int = 1) -> ScannedSource:
    """Read a file for its digest and its records. `header_lines`: lines before the first record.

    A compressed file is decompressed for the count. Raises UsageError if it cannot be read.
    """
    digest, counter, size = hashlib.sha256(), RecordCounter(), 0
    try:
        with path.open("rb") as file:
            beginning = file.read(CHUNK_BYTES)
            decompressor = decompressor_of(beginning)
            chunk, is_counted = beginning, True
            while chunk:
                digest.update(chunk)
                size += len(chunk)
                if is_counted:
                    try:
                        for piece in (chunk,) if decompressor is None else decompressor.feed(chunk):
                            counter.feed(piece)
                    except CsvError:
                        is_counted = False  # the run says so, with the place
                chunk = file.read(CHUNK_BYTES)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    records = max(0, counter.lines - header_lines) if is_counted else None
    return ScannedSource(path, name, size, digest.hexdigest(), records)


def spool(stream: BinaryIO, folder: Path) -> Path:
    """Copy a stream into a new file of the folder, for a pipe can be read only once. Raises UsageError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, suffix=".csv", delete=False) as file:
            try:
                shutil.copyfileobj(stream, file, CHUNK_BYTES)
            except BaseException:
                Path(file.name).unlink()
                raise
    except OSError as error:
        raise UsageError(
            f"cannot keep what comes on stdin in {folder}: {error.strerror}; make room, or name another "
            "folder by ROWFLEET_HOME"
        ) from None
    return Path(file.name)
