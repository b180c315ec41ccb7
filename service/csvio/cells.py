"""Cells: a record's text to cells, header cells to column names, cells to a row's data."""

from __future__ import annotations

import re
from collections.abc import Sequence

from service.domain.model import ERROR_COLUMN, ROW_COLUMN, Json

SURPLUS = "_surplus"
"""Key of a row's data for the list of cells without a column. No column has this name."""

RECORD = "_record"
"""Key of a row's data for the bytes of a refused record, in Base64. No column has this name."""

_INVISIBLE = "\ufeff\u200b"
"""Byte order mark and zero width space: neither is seen, and neither belongs to a name."""

AFTER_QUOTE = (
    "text after a closing quote: a quote inside a quoted cell has to be doubled; with a backslash before it, "
    'set csv.escape: "\\\\"'
)
BEFORE_QUOTE = "a blank before an opening quote, and its cell does not end with a quote"
END_QUOTE = "a closing quote without an opening one: the record above it may have no end"
STRAY_QUOTE = "a quote inside a cell without quotes, in a record of several lines"
_LONE_END = re.compile(r"""[^\d\s"'\u2019\u2032½¼¾]"\s*""")
"""The end of a cell whose quote is neither that of inches nor after a blank."""


class CellParser:
    """Parses the text of a record, without its line end, into cells by the rules of the package docstring.

    `fault` is the reason why the last record's quotes are doubtful, or "".
    """

    def __init__(self, delimiter: str, escape: str = "", *, blanks: str = "") -> None:
        """`blanks`: characters that may stand before an opening quote."""
        self._delimiter = delimiter
        self._escape = escape
        self.fault = ""
        end, esc = re.escape(delimiter), re.escape(escape)
        before = f"[{re.escape(blanks)}]*+" if blanks else ""
        # Possessive quantifiers (*+) never backtrack: parsing stays linear whatever the cell contains.
        quoted, bare = r'[^"]*+(?:""[^"]*+)*+', rf"[^{end}]*+"
        # The scanner takes a quote after a blank for text, so that line ends after it end the record.
        in_line = r'[^"\r\n]*+(?:""[^"\r\n]*+)*+'
        if escape:
            quoted = rf'(?:[^"{esc}]|""|{esc}.)*+'
            in_line = rf'(?:[^"{esc}\r\n]|""|{esc}[^\r\n])*+'
            bare = rf"(?:[^{end}{esc}]|{esc}.?)*+"
            self._unescape = re.compile(rf'{esc}(["{esc}{end}])|"(")').sub
            self._unescape_bare = re.compile(rf'{esc}(["{esc}{end}])').sub
        self._padded = re.compile(rf'\s++"({quoted})"\s*+', re.DOTALL).fullmatch
        blank = rf"(?!{end})[^\S\r\n]"
        padded = rf'(?:{blank})++"{in_line}"(?:{blank})*+(?={end}|\Z)'
        self._next_cell = re.compile(rf'{before}"({quoted})"([^{end}]*+)|({padded}|{bare})', re.DOTALL).match

    def parse(self, text: str) -> tuple[str, ...]:
        """The cells of a record."""
        self.fault = ""
        # Most records have no quotes, and str.split is much faster than the pattern.
        if '"' not in text and not (self._escape and self._escape in text):
            return tuple(text.split(self._delimiter))
        cells: list[str] = []
        position = 0
        while True:
            cell = self._next_cell(text, position)
            assert cell is not None  # the second alternative matches anything
            quoted, rest, bare = cell.groups()
            cells.append(self._bare(bare, text) if quoted is None else self._quoted(quoted, rest))
            position = cell.end() + 1
            if position > len(text):
                return tuple(cells)

    def places(self, text: str) -> list[tuple[int, int]]:
        """Start and end of each cell in the text of a record."""
        places: list[tuple[int, int]] = []
        position = 0
        while position <= len(text):
            cell = self._next_cell(text, position)
            assert cell is not None
            places.append(cell.span())
            position = cell.end() + 1
        return places

    def _quoted(self, quoted: str, rest: str) -> str:
        if rest.isspace():
            rest = ""
        if rest:
            self.fault = AFTER_QUOTE
        if self._escape:
            return self._unescape(_kept, quoted) + rest
        return quoted.replace('""', '"') + rest

    def _bare(self, bare: str, text: str) -> str:
        if '"' in bare and (padded := self._padded(bare)):
            return self._quoted(padded[1], "")
        if self._escape:
            return self._unescape_bare(_kept, bare)
        if '"' in bare and bare.count('"') % 2:
            self.fault = self.fault or self._odd_quote(bare, text)
        return bare

    @staticmethod
    def _odd_quote(bare: str, text: str) -> str:
        """The reason why an odd quote in a cell without quotes around it is doubtful, or ""."""
        if bare.lstrip().startswith('"'):
            return BEFORE_QUOTE
        if "\n" in text or "\r" in text:
            return STRAY_QUOTE
        return END_QUOTE if _LONE_END.fullmatch(bare[len(bare.rstrip()) - 2 :]) else ""


def _kept(match: re.Match[str]) -> str:
    """The character that an escape or a doubled quote stands for."""
    return match[match.lastindex or 0]


def clean_name(cell: str) -> str:
    """A header cell without blanks and invisible characters around it."""
    return cell.strip().strip(_INVISIBLE).strip()


def header_parser(delimiter: str, escape: str) -> CellParser:
    """A parser of headers: blanks and invisible characters may stand before an opening quote."""
    return CellParser(delimiter, escape, blanks="".join(set(" \t\xa0" + _INVISIBLE) - {delimiter}))


def name_columns(cells: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Distinct column names for a header's cells, and a sentence for each changed name.

    If several columns have one name in the file, the first keeps it.
    """
    wanted = [clean_name(cell) for cell in cells]
    reserved = {SURPLUS, RECORD}
    if ERROR_COLUMN not in wanted:
        # Without `_error` the file is not a failures.csv, so its `_row` is a column of the user.
        reserved.add(ROW_COLUMN)
    in_file = frozenset(wanted)
    used = set(reserved)
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
            reason = "is a reserved name" if name in reserved else "is the name of an earlier column"
            notes.append(f'Column {position} is called "{column}": "{name}" {reason}.')
    return tuple(columns), tuple(notes)


def row_data(columns: Sequence[str], cells: Sequence[str], record: str = "") -> dict[str, Json]:
    """`{column: cell}` for columns that have a cell; cells without a column are a list under `SURPLUS`.

    `record`: the bytes of a refused record in Base64, or "".
    """
    data: dict[str, Json] = dict(zip(columns, cells, strict=False))
    if len(cells) > len(columns):
        data[SURPLUS] = list(cells[len(columns) :])
    if record:
        data[RECORD] = record
    return data
