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
_NO_NAMES = frozenset({
    "n/a", "na", "nan", "null", "none", "nil", "unknown", "tbd", "missing", "pending", "x", "yes", "no",
    "true", "false",
})  # fmt: skip
"""Words for a value that is missing, and values in words."""

_LAST_HEADER, _FEWEST_RECORDS, _FEWEST_BELOW_ONE = 6, 2, 3
"""The last of the first records that may be a header, and the fewest records below it that show it.

Below a single title more records have to show it.
"""

_OF_A_TITLE = re.compile(r"^$|:|[0-9]")
"""A cell of a title rather than a name: an empty one, `Date: today`, `May 2026`."""


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
    if below := _header_below(records):
        raise CsvError(
            f"a line below the first looks like the names of the columns, with numbers below it: "
            f"{', '.join(map(clean_name, records[below]))}: if it is the header, set "
            f"csv.skip_lines: {skipped + lines[below]}; if the first line is, set csv.columns to its names "
            f"and csv.skip_lines: {skipped + lines[1]}"
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


def _header_below(records: Sequence[tuple[str, ...]]) -> int:
    """The index of a header below titles that are as wide as the table, else 0.

    It has names, and below it some columns have nothing but numbers, which they have not above it.
    """
    width = len(records[0])
    for at, cells in enumerate(records[1 : _LAST_HEADER + 1], 1):
        data = records[at + 1 :]
        if len(data) < (_FEWEST_BELOW_ONE if at == 1 else _FEWEST_RECORDS) or any(
            len(record) != width for record in records
        ):
            return 0
        numbers = [column for column in range(width) if all(_is_number(record[column]) for record in data)]
        above = [record[column] for record in records[: at + 1] for column in numbers]
        if not numbers or any(map(_is_number, above)) or not _are_names(cells):
            continue
        if at > 1 or any(_OF_A_TITLE.search(clean_name(cell)) for cell in records[0]):
            return at
    return 0


def _are_names(cells: Sequence[str]) -> bool:
    names = [clean_name(cell).casefold() for cell in cells]
    is_plain = all(any(map(str.isalpha, name)) and not re.search("[0-9]", name) for name in names)
    return is_plain and len(set(names)) == len(names) and _NO_NAMES.isdisjoint(names)
