"""Plain lines: records without a quote, read by whole lines instead of mark by mark.

Most records of most files have no quote. Then each line is a record, and its cells are what stands between
delimiters. A line with anything else to look at goes through `RecordMaker`, as every record did that the
scanner has found.
"""

from __future__ import annotations

from collections.abc import Sequence

from service.csvio.charset import Charset
from service.csvio.records import Header, Record, RecordMaker
from service.domain.model import ERROR_COLUMN, Checkpoint

_BOM = "\ufeff"


def plain_end(view: bytes, start: int, position: int) -> int:
    """The end of the last whole line before the first quote; `start` if there is none.

    A record begins at `start`. It has no line end before `position`.
    """
    # Before the search for quotes: a long record that comes in many chunks is not searched again for each.
    if view.find(b"\n", position) < 0:
        return start
    quote = view.find(b'"', start)
    return max(start, view.rfind(b"\n", position, quote if quote >= 0 else len(view)) + 1)


class PlainLines:
    """Makes records of plain lines, in an encoding of single bytes per unit, without escape and comments."""

    def __init__(self, header: Header, charset: Charset, maker: RecordMaker) -> None:
        self._columns = header.columns
        self._width = len(header.columns)
        self._delimiter = header.dialect.delimiter
        self._trailing = header.dialect.trailing
        self._skip_blanks = header.dialect.skip_blanks
        self._encoding = charset.name
        self._is_utf8 = charset.name == "utf-8"
        # The rows of a failures.csv have an error to look at.
        self._is_ours = ERROR_COLUMN in header.columns
        self._maker = maker

    def read(self, lines: Sequence[bytes], at: Checkpoint) -> tuple[list[Record], Checkpoint]:
        """The records of lines, each with its end, the first of them at `at`; and the place after them."""
        records: list[Record] = []
        number, stop, line, blanks = at.rows + 1, at.byte_offset, at.line, at.blanks
        for whole in lines:
            start = stop
            stop += len(whole)
            raw = whole.rstrip(b"\r\n")
            cells = self._cells(raw)
            defect, kept = "", b""
            if cells is None and raw:
                content = self._maker.content(raw, line=line, position=start)
                cells, defect, kept = content.cells, content.defect, content.raw
                if self._skip_blanks and content.is_blank:
                    blanks += 1
                    cells = None
            line += 1
            if cells is not None:
                records.append(Record(number, cells, line - 1, start, stop, line, blanks, defect, kept))
                number += 1
        return records, Checkpoint(number - 1, stop, line, blanks)

    def _cells(self, raw: bytes) -> tuple[str, ...] | None:
        """The cells of a record with nothing else to look at; None for others, and for an empty line."""
        try:
            text = raw.decode(self._encoding)
        except UnicodeDecodeError:
            return None
        cells = tuple(text.split(self._delimiter))
        if len(cells) != self._width:
            if len(cells) != self._width + self._trailing or any(cells[self._width :]):
                return None
            cells = cells[: self._width]
        first = cells[0]
        if not first or first.isspace() or cells == self._columns or self._is_ours:
            return None
        # Bytes beyond ASCII may be those of another encoding.
        if not text.isascii() and (not self._is_utf8 or first.startswith(_BOM)):
            return None
        return cells
