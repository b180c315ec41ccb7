"""Cells: a record's text to cells, header cells to column names, cells to a row's data."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from service.domain.model import Json

SURPLUS = "_surplus"
"""Key of a row's data for the list of cells without a column. No column has this name."""


def cell_parser(delimiter: str) -> Callable[[str], tuple[str, ...]]:
    """A parser of a record's text, without its line end, into cells by the rules of the package docstring."""
    end = re.escape(delimiter)
    # Possessive quantifiers (*+) never backtrack: parsing stays linear whatever the cell contains.
    next_cell = re.compile(rf'"([^"]*+(?:""[^"]*+)*+)"([^{end}]*+)|([^{end}]*+)').match

    def parse(text: str) -> tuple[str, ...]:
        # Most records have no quotes, and str.split is much faster than the pattern.
        if '"' not in text:
            return tuple(text.split(delimiter))
        cells: list[str] = []
        position = 0
        while True:
            cell = next_cell(text, position)
            assert cell is not None  # the second alternative matches anything
            quoted, rest, bare = cell.groups()
            cells.append(bare if quoted is None else quoted.replace('""', '"') + rest)
            position = cell.end() + 1
            if position > len(text):
                return tuple(cells)

    return parse


def name_columns(cells: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Distinct column names for a header's cells, and a sentence for each changed name.

    If several columns have one name in the file, the first keeps it.
    """
    wanted = [cell.strip() for cell in cells]
    in_file = frozenset(wanted)
    used = {SURPLUS}
    next_suffix: dict[str, int] = {}
    notes: list[str] = []
    columns: list[str] = []
    for position, name in enumerate(wanted, 1):
        base = name or f"column_{position}"
        column = base
        while column in used or (column != name and column in in_file):
            suffix = next_suffix[base] = next_suffix.get(base, 1) + 1
            column = f"{base}_{suffix}"
        used.add(column)
        columns.append(column)
        if not name:
            notes.append(f'Column {position} has no name in the file: it is called "{column}".')
        elif column != name:
            reason = "is a reserved name" if name == SURPLUS else "is the name of an earlier column"
            notes.append(f'Column {position} is called "{column}": "{name}" {reason}.')
    return tuple(columns), tuple(notes)


def row_data(columns: Sequence[str], cells: Sequence[str]) -> dict[str, Json]:
    """`{column: cell}` for columns that have a cell; cells without a column are a list under `SURPLUS`."""
    data: dict[str, Json] = dict(zip(columns, cells, strict=False))
    if len(cells) > len(columns):
        data[SURPLUS] = list(cells[len(columns) :])
    return data
