"""Delimiters: the one that header and first records agree on, and delimiters that end each data line."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from service.csvio.cells import CellParser
from service.csvio.layout import Layout
from service.csvio.scan import Scanner, count_lines
from service.csvio.titles import check_first_record
from service.domain.errors import CsvError

SAMPLE_LINES = 20
SAMPLE_UNITS = 64 * 1024
"""The beginning of a file by which its delimiter is chosen: so many lines, or so many characters."""

_TITLED_RECORDS, _TITLED_WIDTH, _TITLED_PAIRS = 2, 3, 3
"""A line of one cell above so many records of so many cells is a title. Texts can have a `;` each."""

_SEP = re.compile(rb'"?sep=([^"\r\n])"?(?:\r\n|\n|\r)', re.IGNORECASE)
_OURS = re.compile(rb'_row"?([^\w"])"?_error"?$')


def is_sample(view: bytes) -> bool:
    """True if the view is long enough to choose a delimiter."""
    return len(view) >= SAMPLE_UNITS or len(re.findall(rb"\r\n|\n|\r(?!$)", view)) > SAMPLE_LINES


def stated_delimiter(view: bytes) -> tuple[str, int]:
    """The delimiter that a first line `sep=;` states, and the length of this line; "" and 0 without one."""
    found = _SEP.match(view)
    return (found[1].decode("latin-1"), found.end()) if found else ("", 0)


def failures_delimiter(view: bytes) -> str:
    """The delimiter of a failures.csv, told by the columns that end its header; "" for other files."""
    line = re.split(rb"[\r\n]", view[:SAMPLE_UNITS], maxsplit=1)[0]
    found = _OURS.search(line)
    return found[1].decode("latin-1") if found else ""


class DelimiterSample:
    """The first records of a file as one delimiter divides them."""

    def __init__(self, view: bytes, delimiter: str, layout: Layout, *, at_end: bool) -> None:
        self._delimiter = delimiter
        scanner = Scanner(delimiter, escape=layout.escape, comment=layout.comment)
        spans = [span for span in scanner.scan(view, at_end=at_end) if span[0] < span[1]]
        parser = CellParser(delimiter, layout.escape)
        self._cells: list[tuple[str, ...]] = []
        self._lines: list[int] = []
        self._is_below_blank = False
        self._faults = int(at_end and scanner.quote_at >= 0)
        for start, stop, _ in spans[: SAMPLE_LINES + 1]:
            cells = parser.parse(view[start:stop].decode("latin-1"))
            self._faults += bool(parser.fault)
            if any(cell.strip() for cell in cells):
                self._cells.append(cells)
                self._lines.append(count_lines(view[:start]))
            elif not self._cells:
                self._is_below_blank = True
        self._spaced = view.count(delimiter.encode() + b" ")
        self.width = len(self._cells[0]) if self._cells else 0

    @property
    def divides(self) -> bool:
        """True if the first record has several cells."""
        return self.width > 1

    @property
    def is_empty(self) -> bool:
        """True if not even the header is complete."""
        return not self._cells

    @property
    def table_below(self) -> tuple[int, int]:
        """The width of a table below first records of one cell, and the lines above it; 0 and 0 without one.

        All records of the table have so many cells. Of two cells there have to be more records, without a
        blank after the delimiter, as prose has it.
        """
        first = next((index for index, cells in enumerate(self._cells) if len(cells) > 1), 0)
        table = self._cells[first:]
        width = len(table[0]) if first else 0
        if any(len(cells) != width for cells in table) or self._faults:
            return 0, 0
        is_table = len(table) >= (_TITLED_RECORDS if width >= _TITLED_WIDTH else _TITLED_PAIRS)
        if not is_table or (width < _TITLED_WIDTH and self._spaced):
            return 0, 0
        return width, self._lines[first]

    def check_header(self, skipped: int) -> None:
        """Raise CsvError if the first record is no header; `skipped` lines above the sample are known."""
        check_first_record(self._cells, self._lines, skipped=skipped, is_below_blank=self._is_below_blank)

    def trailing(self, width: int, *, has_header: bool) -> int:
        """The number of empty cells beyond `width` columns at the end of most records, usually 0."""
        records = self._cells[1:] if has_header else self._cells
        surplus = Counter(
            len(cells) - width for cells in records if len(cells) > width and not any(cells[width:])
        )
        if not surplus:
            return 0
        most, number = surplus.most_common(1)[0]
        return most if 2 * number > len(records) else 0

    def fitness(self) -> tuple[float, float, int, int]:
        """A larger value for a delimiter that fits better."""
        records = self._cells[1:]
        trailing = self.trailing(self.width, has_header=True)
        fits = sum(len(cells) in (self.width, self.width + trailing) for cells in records)
        share = fits / len(records) if records else 1.0
        return -float(self._faults > 0), share, self.width, -self._spaced


def _check_title(tables: Mapping[str, tuple[int, int]], skipped: int) -> None:
    for delimiter, (width, above) in tables.items():
        if width:
            lines = (
                "the first line is one cell, and each line below it has"
                if above == 1
                else (f"the first {above} lines are one cell each or blank, and each line below them has")
            )
            raise CsvError(
                f"{lines} {width}, divided by {delimiter!r}: if it is a title, set csv.skip_lines: "
                f"{skipped + above}; if the file has one column, set csv.delimiter"
            )


def choose(view: bytes, candidates: Sequence[str], layout: Layout, *, at_end: bool) -> str:
    """The candidate that divides the header and fits the first records best; "" if no header is complete.

    A file of one column has the first candidate. Raises CsvError if its first line is a title of a table.
    """
    samples = {delimiter: DelimiterSample(view, delimiter, layout, at_end=at_end) for delimiter in candidates}
    if all(sample.is_empty for sample in samples.values()):
        return candidates[0] if at_end else ""
    dividing = [delimiter for delimiter, sample in samples.items() if sample.divides]
    if not dividing and not layout.columns:
        tables = {delimiter: samples[delimiter].table_below for delimiter in candidates}
        _check_title(tables, layout.skip_lines)
    return max(dividing, key=lambda delimiter: samples[delimiter].fitness(), default=candidates[0])
