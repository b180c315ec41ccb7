"""Records: their cells, their defects, and the bytes of those that are refused."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from service.csvio.cells import CellParser
from service.csvio.charset import Charset
from service.csvio.contradictions import fitting_instead
from service.csvio.scan import count_lines
from service.domain.model import CUT_NOTE, ERROR_COLUMN, OWN_COLUMNS, REFUSED, ROW_COLUMN, Checkpoint, Dialect

_BOM = "\ufeff"
"""In the middle of a file it is the beginning of another one that was joined to it."""
_NUMBER = re.compile(r"\s*[0-9]+(?:[.,]0+)?\s*")
_WORD_CHARS = 20
_UNNAMED = re.compile(r"column_[0-9]+")
"""Names that the reader gives to columns without one."""


@dataclass(frozen=True, slots=True)
class Header:
    """Columns and format of a file. `notes` has a sentence for each renamed column."""

    columns: tuple[str, ...]
    dialect: Dialect
    notes: tuple[str, ...] = ()


class Record(NamedTuple):
    r"""One data record: `number` counts from 1, `line` is its first physical line.

    Its bytes, including the line end, are those from `start` to `stop`. The line after it is `next_line`, and
    `blanks` blank records were skipped before it. `defect` is the reason why it must not be processed, or "".
    The cells of a defective record have undecodable bytes as `\xNN`, and `raw` has its bytes without line end
    and without the columns that failures.csv adds.
    """

    number: int
    cells: tuple[str, ...]
    line: int
    start: int
    stop: int
    next_line: int
    blanks: int = 0
    defect: str = ""
    raw: bytes = b""

    @property
    def end(self) -> Checkpoint:
        """The place where reading can resume after the record."""
        return Checkpoint(self.number, self.stop, self.next_line, self.blanks)

    @property
    def length(self) -> int:
        """Length in bytes, without empty lines before the record."""
        return self.stop - self.start


@dataclass(frozen=True, slots=True)
class Content:
    """Cells of a record, its defect or "", and its bytes if there is a defect."""

    cells: tuple[str, ...]
    defect: str = ""
    raw: bytes = b""

    @property
    def is_blank(self) -> bool:
        """True if no cell has anything but white space."""
        return not any(self.cells) or all(not cell or cell.isspace() for cell in self.cells)


class RecordMaker:
    """Makes the content of records with a header's columns and dialect."""

    def __init__(self, header: Header, charset: Charset) -> None:
        dialect, columns = header.dialect, header.columns
        self._columns = columns
        self._width = len(columns)
        self._delimiter = dialect.delimiter
        self._trailing = dialect.trailing
        self._charset = charset
        self._parser = CellParser(dialect.delimiter, dialect.escape)
        self._error_at = columns.index(ERROR_COLUMN) if ERROR_COLUMN in columns else -1
        self._number_at = columns.index(ROW_COLUMN) if ROW_COLUMN in columns else -1
        self._unnamed_at = [at for at, column in enumerate(columns) if _UNNAMED.fullmatch(column)]
        self._data_at = [at for at, column in enumerate(columns) if column not in OWN_COLUMNS]
        # The columns that failures.csv adds are the last ones, unless somebody moved them.
        own = 0
        while own < self._width and columns[-1 - own] in OWN_COLUMNS:
            own += 1
        self._own = own

    def content(self, raw: bytes, *, line: int, position: int) -> Content:
        """The content of the record with these bytes, without line end, at `line` and byte `position`."""
        name = self._charset.name
        try:
            text = raw.decode(name)
        except UnicodeDecodeError as error:
            cells = self._parser.parse(raw.decode(name, "backslashreplace"))
            defect = (
                f"byte 0x{raw[error.start]:02x} at position {position + error.start} is not {name} "
                f"(line {line}): set csv.encoding to what the file is written in{_reading(raw, error)}"
            )
            return self._refused(cells, defect, raw)
        cells = self._parser.parse(text.removeprefix(_BOM))
        if self._parser.fault:
            return self._refused(cells, f"{self._parser.fault} ({self._lines(text, line)})", raw)
        if self._trailing and len(cells) == self._width + self._trailing and not any(cells[self._width :]):
            cells = cells[: self._width]
        defect = self._count_defect(cells, line) or self._earlier_refusal(cells)
        if not defect and (fitting := fitting_instead(raw, text, self._charset)):
            defect = (
                f"its bytes are {fitting.upper()}, not {name} (line {line}): set csv.encoding to {fitting}"
            )
        return self._refused(cells, defect, raw) if defect else Content(cells)

    def _refused(self, cells: tuple[str, ...], defect: str, raw: bytes) -> Content:
        """A content with a defect. A record that was refused before keeps the reason of that time."""
        if self._own and cells[-1].startswith(REFUSED):
            defect = cells[-1].removeprefix(REFUSED).removeprefix(": ")
        if len(raw) % self._charset.unit:
            return Content(
                cells, defect
            )  # half a character would spoil the file that the record is written to
        return Content(cells, defect, self._without_own(raw))

    def _without_own(self, raw: bytes) -> bytes:
        """The bytes before the cells of our own columns at the end of a record."""
        if not self._own:
            return raw
        name = self._charset.name
        # Latin-1 keeps undecodable bytes apart; a unit of UTF-16 is decoded as such.
        text = raw.decode("latin-1" if self._charset.unit == 1 else name)
        starts = [start for start, _ in self._parser.places(text)]
        if len(starts) <= self._own:
            return raw
        kept = text[: starts[-self._own] - 1]
        return kept.encode("latin-1" if self._charset.unit == 1 else name)

    def _count_defect(self, cells: tuple[str, ...], line: int) -> str:
        if len(cells) == self._width:
            if cells == self._columns and self._width > 1:
                return f"the header once more (line {line}): delete it where files were joined"
            return ""
        noun = "cell" if len(cells) == 1 else "cells"
        return (
            f"{len(cells)} {noun}, the header has {self._width} (line {line}, delimiter {self._delimiter!r})"
        )

    def _earlier_refusal(self, cells: tuple[str, ...]) -> str:
        """The reason why a row of a failures.csv must not be sent, or ""."""
        if self._error_at < 0:
            return ""
        if (moved := self._moved_cells(cells)) or not (error := cells[self._error_at]):
            return moved
        if error.startswith(REFUSED):
            return (
                error.removeprefix(REFUSED).removeprefix(": ")
                or "refused before; clear the cell _error to run"
            )
        if CUT_NOTE in error:
            return f"the cells of this row are not complete, so it cannot run again from here ({error})"
        if not any(cells[at].strip() for at in self._data_at):
            return f"the cells of this row are not in the file, so it cannot run again from here ({error})"
        return ""

    def _moved_cells(self, cells: tuple[str, ...]) -> str:
        """The reason why the cells are not under their columns: a spreadsheet pads header and rows."""
        for at in self._unnamed_at:
            if cells[at].startswith(REFUSED):
                return cells[at].removeprefix(REFUSED).removeprefix(": ") or "refused before"
        number = cells[self._number_at] if self._number_at >= 0 else ""
        if number and not _NUMBER.fullmatch(number):
            return f"{ROW_COLUMN} is {number[:40]!r} and no number: the cells are not under their columns"
        return ""

    @staticmethod
    def _lines(text: str, line: int) -> str:
        """`line 3`, or the lines that a quote without end may have swallowed."""
        last = line + count_lines(text.encode())
        if last == line:
            return f"line {line}"
        return f"lines {line} to {last}: a quote that is missing its end may have swallowed them"


def _reading(raw: bytes, error: UnicodeDecodeError) -> str:
    """The word around a byte as Windows reads it, by which its author sees if that is the encoding; or ""."""
    at = error.start
    try:
        text = raw.decode("cp1252") if error.encoding == "utf-8" else ""
    except UnicodeDecodeError:
        return ""
    if not text or not text[at].isprintable():
        return ""
    start, end = at, at + 1
    while start > 0 and text[start - 1].isalnum() and at - start < _WORD_CHARS:
        start -= 1
    while end < len(text) and text[end].isalnum() and end - at < _WORD_CHARS:
        end += 1
    return f"; cp1252 reads {text[start:end]!r}"
