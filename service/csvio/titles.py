"""Titles: a first record that stands above a table, and is not the names of its columns.

Spreadsheets pad every line to the width of the table: `Sales report,,` above `name,age,city`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from service.csvio.cells import clean_name
from service.domain.errors import CsvError

_NUMBER = re.compile(r"[-+]?[0-9]+(?:[.,][0-9]+)*%?")
_YEAR = re.compile(r"(?:19|20)[0-9]{2}")
_PAIR = 2


def check_first_record(
    records: Sequence[tuple[str, ...]], lines: Sequence[int], *, skipped: int, is_below_blank: bool
) -> None:
    """Raise CsvError if the first of some records is a title, or is data below a record of empty cells.

    `lines` has the number of lines above each record, of which the setting `csv.skip_lines` has `skipped`
    already.
    """
    if not records:
        return
    first = [clean_name(cell) for cell in records[0]]
    if is_below_blank and any(map(_is_number, first)):
        raise CsvError(
            "the cells of the first line are empty, and the line below it has numbers, so it is no header: "
            f"set csv.skip_lines: {skipped + lines[0]} and csv.columns to the names of the columns; if it is "
            f"the header, set csv.skip_lines: {skipped + lines[0]} alone"
        )
    if not _may_be_title(first):
        return
    for cells, above in zip(records[1:], lines[1:], strict=True):
        # A record of numbers alone is data: the table has columns without a name.
        if len(cells) < len(first) or not all(map(clean_name, cells)) or all(map(_is_number, cells)):
            continue
        filled = len(first) - first.count("")
        raise CsvError(
            f"the first line has {filled} of {len(first)} cells, and a line below it has {len(cells)}: if it "
            f"is a title, set csv.skip_lines: {skipped + above}; if it is the header, name its empty columns"
        )


def _may_be_title(first: Sequence[str]) -> bool:
    """True if at least half of the cells are empty. A table with an index may have no name for that one."""
    empty = first.count("")
    is_index = len(first) == _PAIR and not first[0]
    return bool(empty) and 2 * empty >= len(first) and not is_index


def _is_number(cell: str) -> bool:
    """True for a number that is no year: years are names of columns as well."""
    cell = cell.strip()
    return _NUMBER.fullmatch(cell) is not None and _YEAR.fullmatch(cell) is None
