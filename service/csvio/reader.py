"""Chunks of bytes -> records, each with the exact place where the next one starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from service.csvio import charset
from service.csvio.cells import cell_parser, name_columns
from service.csvio.scan import Scanner, count_lines, sniff_delimiter
from service.domain.errors import CsvError
from service.domain.model import Checkpoint, Dialect

MAX_RECORD_BYTES = 8 * 1024 * 1024
AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Header:
    """What the file calls its columns and how it is written; `notes` has a sentence per renamed column."""

    columns: tuple[str, ...]
    dialect: Dialect
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Record:
    r"""One data record: `number` from 1, starting on physical `line`; reading can go on at `end`.

    Its bytes, line end included, are `length` from `start` on.

    A `defect` says why it must not be processed; `cells` then are what it held nevertheless, with
    undecodable bytes as `\xNN`.
    """

    number: int
    cells: tuple[str, ...]
    line: int
    end: Checkpoint
    defect: str = ""
    start: int = 0

    @property
    def length(self) -> int:
        """In bytes; a blank line before it is not part of it."""
        return self.end.byte_offset - self.start


class CsvReader:
    """Takes a file in chunks of any size, gives back its records; `header` is there before the first of them.

    `delimiter` is one ASCII character or `auto`: the most frequent of `, ; tab |` in the header. `encoding`
    is a name Python knows or `auto`: UTF-8; a byte order mark overrules it. Raises CsvError for a delimiter
    or encoding that cannot be. A reader that raised is of no further use. It holds a record and a chunk.
    """

    def __init__(
        self, *, delimiter: str = AUTO, encoding: str = AUTO, max_record_bytes: int = MAX_RECORD_BYTES
    ) -> None:
        self.header: Header | None = None
        self._max_record_bytes = max_record_bytes
        self._charset = charset.find("utf-8" if encoding == AUTO else encoding)
        self._delimiter = delimiter
        self._bom_bytes = 0
        self._is_open = False  # whether charset and scanner are those of the file
        self._raw = b""  # what has not become a record yet, and its beginning in the file:
        self._offset = 0
        self._view = b""
        self._number = 0  # of the next record; the header is record 0
        self._line = 1
        self._use(self._charset)

    @classmethod
    def resume(
        cls,
        columns: tuple[str, ...],
        dialect: Dialect,
        checkpoint: Checkpoint,
        *,
        max_record_bytes: int = MAX_RECORD_BYTES,
    ) -> Self:
        """A reader that goes on at a record's `end`: `feed` it the bytes from `checkpoint.byte_offset` on.

        The checkpoint at byte 0, of a split that got no further than the header, reads the header again.
        """
        reader = cls(
            delimiter=dialect.delimiter, encoding=dialect.encoding, max_record_bytes=max_record_bytes
        )
        if checkpoint.byte_offset == 0:
            return reader
        reader.header = Header(columns, dialect)
        reader._is_open = True
        reader._offset = checkpoint.byte_offset
        reader._number = checkpoint.rows + 1
        reader._line = checkpoint.line
        return reader

    def feed(self, chunk: bytes) -> list[Record]:
        """The records that `chunk` completes. Raises CsvError where the bytes cannot be a table."""
        self._raw += chunk
        if not self._is_open and len(self._raw) < charset.LONGEST_BOM:
            return []
        return self._read(at_end=False)

    def close(self) -> list[Record]:
        """The last record, if it has no line end. Raises CsvError for a missing header or end of quote."""
        records = self._read(at_end=True)
        if self.header is None:
            raise CsvError("the file is empty: no header line")
        return records

    def _read(self, *, at_end: bool) -> list[Record]:
        if not self._is_open:
            self._open()
        self._view = self._charset.extend(self._view, self._raw, at_end=at_end)
        if self._delimiter == AUTO and not self._sniff(at_end=at_end):
            return []
        records: list[Record] = []
        for start, stop, after in self._scanner.scan(self._view, at_end=at_end):
            if start == stop:
                self._line += 1
            elif self.header is None:
                self.header = self._to_header(self._record(start, stop, after))
            else:
                records.append(self._record(start, stop, after))
        self._forget(at_end=at_end)
        return records

    def _open(self) -> None:
        found = charset.find_bom(self._raw)
        if found is not None:
            bom, self._charset = found
            self._bom_bytes = self._offset = len(bom)
            self._raw = self._raw[len(bom) :]
            self._use(self._charset)
        self._is_open = True

    def _use(self, found: charset.Charset) -> None:
        """Scan and parse by what is known of charset and delimiter."""
        if self._delimiter == AUTO:
            self._scanner = Scanner(found.candidates)
        else:
            self._delimiter = found.check_delimiter(self._delimiter)
            self._scanner = Scanner(self._delimiter)
            self._parse = cell_parser(self._delimiter)

    def _sniff(self, *, at_end: bool) -> bool:
        """Whether the header is there, as seen with every candidate; if so, start over with the right one."""
        for start, stop, _ in self._scanner.scan(self._view, at_end=at_end):
            if start < stop:
                self._settle_delimiter(start, stop)
                return True
            self._line += 1
        if at_end and self._scanner.quote_at >= 0:
            self._settle_delimiter(self._scanner.start, len(self._view))
            return True
        self._forget(at_end=at_end)
        return False

    def _settle_delimiter(self, start: int, stop: int) -> None:
        if (stop - start) * self._charset.unit > self._max_record_bytes:
            raise self._too_large(start)
        self._delimiter = sniff_delimiter(self._view[start:stop], self._charset.candidates)
        self._scanner = Scanner(self._delimiter, start)
        self._parse = cell_parser(self._delimiter)

    def _record(self, start: int, stop: int, after: int) -> Record:
        unit = self._charset.unit
        content = self._view[start:stop]
        raw = content if unit == 1 else self._raw[start * unit : stop * unit]
        if len(raw) > self._max_record_bytes:
            raise self._too_large(start)
        line = self._line
        try:
            cells = self._parse(raw.decode(self._charset.name))
            defect = "" if self.header is None else _raggedness(cells, self.header.columns, line)
        except UnicodeDecodeError as error:
            cells = self._parse(raw.decode(self._charset.name, "backslashreplace"))
            position = self._offset + start * unit + error.start
            defect = (
                f"byte 0x{raw[error.start]:02x} at position {position} is not {self._charset.name} "
                f"(line {line}): set csv.encoding to what the file is written in"
            )
        self._line = line + 1
        if b"\n" in content or b"\r" in content:
            self._line += count_lines(content)
        number = self._number
        self._number = number + 1
        end = Checkpoint(number, self._offset + min(after * unit, len(self._raw)), self._line)
        return Record(number, cells, line, end, defect, self._offset + start * unit)

    def _to_header(self, record: Record) -> Header:
        if record.defect:
            raise CsvError(f"the header cannot be read: {record.defect}")
        columns, notes = name_columns(record.cells)
        return Header(columns, Dialect(self._charset.name, self._delimiter, self._bom_bytes), notes)

    def _forget(self, *, at_end: bool) -> None:
        """Keep only the unfinished record, if it can still become one."""
        scanner, unit = self._scanner, self._charset.unit
        if (len(self._view) - scanner.start - 1) * unit > self._max_record_bytes:  # -1: a \r may end it
            raise self._too_large(scanner.start)
        if at_end and scanner.quote_at >= 0:
            opened = self._line + count_lines(self._view[scanner.start : scanner.quote_at])
            raise CsvError(f"the quote opened on line {opened} has no end: it swallows the rest of the file")
        dropped = scanner.forget()
        self._view = self._view[dropped:]
        self._raw = self._raw[dropped * unit :]
        self._offset += dropped * unit

    def _too_large(self, start: int) -> CsvError:
        limit = self._max_record_bytes // self._charset.unit
        beginning = self._view[start : start + limit + 1]
        probe = Scanner(self._scanner.delimiters.decode("ascii"))
        probe.scan(beginning)
        hint = ""
        if probe.quote_at >= 0:
            opened = self._line + count_lines(beginning[: probe.quote_at])
            hint = f"; the quote opened on line {opened} may be missing its end"
        return CsvError(
            f"the record that starts on line {self._line} is larger than {self._max_record_bytes} bytes{hint}"
        )


def _raggedness(cells: tuple[str, ...], columns: tuple[str, ...], line: int) -> str:
    """What is wrong with the number of cells, or nothing."""
    if len(cells) == len(columns):
        return ""
    noun = "cell" if len(cells) == 1 else "cells"
    return f"{len(cells)} {noun}, the header has {len(columns)} (line {line})"
