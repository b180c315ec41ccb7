"""Reader: chunks of bytes to records, each with the exact place where the next one starts."""

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
    """Columns and format of a file. `notes` has a sentence for each renamed column."""

    columns: tuple[str, ...]
    dialect: Dialect
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Record:
    r"""One data record: `number` counts from 1, `line` is its first physical line.

    Its bytes, including the line end, are `length` from `start`; reading can resume at `end`. `defect` is the
    reason why it must not be processed, or "". The cells of a defective record have undecodable bytes as
    `\xNN`.
    """

    number: int
    cells: tuple[str, ...]
    line: int
    end: Checkpoint
    defect: str = ""
    start: int = 0

    @property
    def length(self) -> int:
        """Length in bytes, without empty lines before the record."""
        return self.end.byte_offset - self.start


class CsvReader:
    """Takes a file in chunks of any size and returns its records. `header` is set before the first record.

    `delimiter`: one ASCII character, or `auto` for the most frequent of `, ; tab |` in the header.
    `encoding`: a name that Python knows, or `auto` for UTF-8; a byte order mark overrules it.

    Raises CsvError for an invalid delimiter or encoding. After an error the reader cannot be used any more.
    It holds one record and one chunk in memory.
    """

    def __init__(
        self, *, delimiter: str = AUTO, encoding: str = AUTO, max_record_bytes: int = MAX_RECORD_BYTES
    ) -> None:
        self.header: Header | None = None
        self._max_record_bytes = max_record_bytes
        self._charset = charset.find("utf-8" if encoding == AUTO else encoding)
        self._delimiter = delimiter
        self._bom_bytes = 0
        self._is_charset_known = False  # True once the byte order mark was looked for
        self._raw = b""  # bytes that are not part of a record yet
        self._offset = 0  # their place in the file
        self._view = b""  # the scanner's view of them
        self._number = 0  # of the next record; the header is record 0
        self._line = 1
        self._set_charset(self._charset)

    @classmethod
    def resume(
        cls,
        columns: tuple[str, ...],
        dialect: Dialect,
        checkpoint: Checkpoint,
        *,
        max_record_bytes: int = MAX_RECORD_BYTES,
    ) -> Self:
        """A reader that resumes at a record's `end`: `feed` it the bytes from `checkpoint.byte_offset`.

        With the checkpoint at byte 0 (the split had read the header only) it reads the header again.
        """
        reader = cls(
            delimiter=dialect.delimiter, encoding=dialect.encoding, max_record_bytes=max_record_bytes
        )
        if checkpoint.byte_offset == 0:
            return reader
        reader.header = Header(columns, dialect)
        reader._is_charset_known = True
        reader._offset = checkpoint.byte_offset
        reader._number = checkpoint.rows + 1
        reader._line = checkpoint.line
        return reader

    def feed(self, chunk: bytes) -> list[Record]:
        """The records that `chunk` completes. Raises CsvError if the bytes cannot be a table."""
        self._raw += chunk
        if not self._is_charset_known and len(self._raw) < charset.LONGEST_BOM:
            return []
        return self._read(at_end=False)

    def close(self) -> list[Record]:
        """The last record, if it has no line end. Raises CsvError for a missing header or closing quote."""
        records = self._read(at_end=True)
        if self.header is None:
            raise CsvError("the file is empty: no header line")
        return records

    def _read(self, *, at_end: bool) -> list[Record]:
        if not self._is_charset_known:
            self._detect_charset()
        self._view = self._charset.extend(self._view, self._raw, at_end=at_end)
        if self._delimiter == AUTO and not self._sniff_delimiter(at_end=at_end):
            return []
        records: list[Record] = []
        for start, stop, after in self._scanner.scan(self._view, at_end=at_end):
            if start == stop:
                self._line += 1
            elif self.header is None:
                self.header = self._to_header(self._record(start, stop, after))
            else:
                records.append(self._record(start, stop, after))
        self._drop_consumed(at_end=at_end)
        return records

    def _detect_charset(self) -> None:
        found = charset.find_bom(self._raw)
        if found is not None:
            bom, self._charset = found
            self._bom_bytes = self._offset = len(bom)
            self._raw = self._raw[len(bom) :]
            self._set_charset(self._charset)
        self._is_charset_known = True

    def _set_charset(self, found: charset.Charset) -> None:
        """Make scanner and parser for the charset; the parser once the delimiter is known."""
        if self._delimiter == AUTO:
            self._scanner = Scanner(found.candidates)
        else:
            self._delimiter = found.check_delimiter(self._delimiter)
            self._scanner = Scanner(self._delimiter)
            self._parse = cell_parser(self._delimiter)

    def _sniff_delimiter(self, *, at_end: bool) -> bool:
        """Choose the delimiter by the header. False if the header is not complete yet.

        The scanner takes every candidate as a delimiter until then, so quotes after any of them count.
        """
        for start, stop, _ in self._scanner.scan(self._view, at_end=at_end):
            if start < stop:
                self._choose_delimiter(start, stop)
                return True
            self._line += 1
        if at_end and self._scanner.quote_at >= 0:
            self._choose_delimiter(self._scanner.start, len(self._view))
            return True
        self._drop_consumed(at_end=at_end)
        return False

    def _choose_delimiter(self, start: int, stop: int) -> None:
        if (stop - start) * self._charset.unit > self._max_record_bytes:
            raise self._too_large(start)
        self._delimiter = sniff_delimiter(self._view[start:stop], self._charset.candidates)
        # The header is scanned again: quotes after the other candidates do not open cells.
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
            defect = "" if self.header is None else _cell_count_defect(cells, self.header.columns, line)
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
        # Half a unit at the end of the file is a whole unit in the view.
        after_bytes = min(after * unit, len(self._raw))
        return Record(
            number=number,
            cells=cells,
            line=line,
            end=Checkpoint(number, self._offset + after_bytes, self._line),
            defect=defect,
            start=self._offset + start * unit,
        )

    def _to_header(self, record: Record) -> Header:
        if record.defect:
            raise CsvError(f"the header cannot be read: {record.defect}")
        columns, notes = name_columns(record.cells)
        return Header(columns, Dialect(self._charset.name, self._delimiter, self._bom_bytes), notes)

    def _drop_consumed(self, *, at_end: bool) -> None:
        """Keep only the unfinished record. Raises CsvError if it can never become a record."""
        scanner, unit = self._scanner, self._charset.unit
        # Minus 1: the last unit may be a \r that ends the record.
        if (len(self._view) - scanner.start - 1) * unit > self._max_record_bytes:
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


def _cell_count_defect(cells: tuple[str, ...], columns: tuple[str, ...], line: int) -> str:
    """The defect of a record with a wrong number of cells, or ""."""
    if len(cells) == len(columns):
        return ""
    noun = "cell" if len(cells) == 1 else "cells"
    return f"{len(cells)} {noun}, the header has {len(columns)} (line {line})"
