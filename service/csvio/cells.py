"""What a record holds: text to cells, header cells to column names, cells to a row's data."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from service.domain.model import Json

SURPLUS = "_surplus"
"""The key of a row's data under which cells without a column stand; no column is ever called so."""


def cell_parser(delimiter: str) -> Callable[[str], tuple[str, ...]]:
    """A function from a record's text, without its line end, to its cells: the package docstring's rules."""
    end = re.escape(delimiter)
    next_cell = re.compile(rf'"([^"]*+(?:""[^"]*+)*+)"([^{end}]*+)|([^{end}]*+)').match

    def parse(text: str) -> tuple[str, ...]:
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
    """Distinct column names for a header's cells, and a sentence for each name that had to be made up.

    A name that stands in the file stays with the first column that has it.
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
    """`{column: cell}`; cells too few leave columns out, cells too many stand as a list under `SURPLUS`."""
    data: dict[str, Json] = dict(zip(columns, cells, strict=False))
    if len(cells) > len(columns):
        data[SURPLUS] = list(cells[len(columns) :])
    return data
