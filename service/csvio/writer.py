r"""Outcomes to CSV bytes: RFC 4180 with `\r\n` line ends. Stateless: each row is encoded by itself.

The output is UTF-8 with commas. The failures have encoding and delimiter of the input, so that they can be
submitted again with the same settings, and refused records in them keep their bytes.
"""

from __future__ import annotations

import base64
import codecs
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal

from service.csvio.cells import RECORD, SURPLUS
from service.domain import exact_json
from service.domain.model import ERROR_COLUMN, OWN_COLUMNS, ROW_COLUMN, Dialect, Json, Outcome

EXCEL_CELL_UNITS = 32_767
"""Longest cell of Excel, in UTF-16 units; it cuts longer ones when it opens a CSV."""

LONG_CELLS_HEADER = (ROW_COLUMN, "column", "value")
ROUND_COLUMN = "_round"
PROVENANCE_COLUMN = "_provenance"
_RESULT_COLUMNS = (ROW_COLUMN, "_status", "_execution_time_ms", "_timestamp", ERROR_COLUMN)

# RFC 4180's four, and the delimiters that our reader sniffs for, because our own files are dropped in again.
_MUST_QUOTE = re.compile(r'[",;|\t\r\n]')
_SNIFFED = (",", ";", "|", "\t")
_SURROGATE = re.compile("[\ud800-\udfff]")

_PLAIN = Dialect("utf-8", ",")
_BOMS = {"utf-8": codecs.BOM_UTF8, "utf-16-le": codecs.BOM_UTF16_LE, "utf-16-be": codecs.BOM_UTF16_BE}

# Spreadsheets take the full-width forms for the ASCII characters, and skip blanks before them.
_FORMULA_START = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_SKIPPED_START = ("\t", "\r")
_UNSEEN = re.compile("[\\s\ufeff\u200b-\u200f\u2060]+")
_MONEY = "[$\\u00a2-\\u00a5\\u20a0-\\u20cf]"
_WORDS = r"(?: [\ .,%‰°²³µ] | [^\W\d_] | (?<![^\W\d_]) [0-9] | / (?=[^\W\d_]) )*"
# An item of a list, as models write them. A call or DDE (`- cmd|…`) behind the dash would still be run.
_BULLET = re.compile(r"[-+] +(?![^\r\n]*(?:\||\w\(|!))")
# Nothing that a spreadsheet could calculate: no operator, no bracket but those of a telephone number, and no
# letter before a digit, which would be the name of a cell.
_VALUE = re.compile(
    rf"""[+-] (?:
        [\ ().,]* [0-9] [0-9\ ().,%]*  # -5  -1,234.50  -12%
      | \ ? [0-9]+ [-\ ]* (?=.* [0-9)]\ +[(0-9]) [0-9(] [0-9\ ().-]*  # +44 (0)20 7946-0958
      | (?: [0-9]+ \.? [0-9]* | \. [0-9]+ ) [eE] [+-]? [0-9]+  # -1.5e3
      | \ ? {_MONEY}? \ ? \.? [0-9] [0-9\ .,:'\u2019\xa0\u202f]* {_MONEY}? {_WORDS}  # -£1,200.50  -12:30
      | [+-]*  # dashes alone
    )""",
    re.VERBOSE,
)
_LONGEST_VALUE = 200


def output_header(
    columns: Sequence[str], output_fields: Sequence[str], *, rounds: bool = False, provenance: bool = False
) -> list[str]:
    """The first row of output.csv. Its names are distinct if the columns are, and the fields are.

    `rounds` adds a column for the round of each row's outcome, from round 2 on. `provenance` adds a last
    column: the method and path that gave each field, as a JSON object.
    """
    inputs = [f"input_{column}" for column in input_columns(columns)]
    outputs = [f"output_{field}" for field in output_fields]
    added = [ROUND_COLUMN] * rounds + [PROVENANCE_COLUMN] * provenance
    return [*inputs, *outputs, *_RESULT_COLUMNS, *added]


class OutputRows:
    """Makes the rows of output.csv under `output_header`, which has the same arguments.

    `escape_formulas` prefixes output text that a spreadsheet would execute with `'`. A NUL in an output is
    U+FFFD: databases and spreadsheets refuse it or cut the text there. Input cells stay as they were read.
    """

    def __init__(
        self,
        columns: Sequence[str],
        output_fields: Sequence[str],
        *,
        escape_formulas: bool,
        rounds: bool = False,
        provenance: bool = False,
    ) -> None:
        self._inputs = input_columns(columns)
        self._outputs = tuple(output_fields)
        self._escape_formulas = escape_formulas
        self._has_rounds = rounds
        self._has_provenance = provenance

    def cells(self, outcome: Outcome) -> list[str]:
        """The cells of an outcome's row."""
        cells = _cells(outcome.input_data, self._inputs)
        outputs = _cells(outcome.output_data, self._outputs)
        outputs = [cell.replace("\0", "\ufffd") if "\0" in cell else cell for cell in outputs]
        cells += [_escape_formula(cell) for cell in outputs] if self._escape_formulas else outputs
        cells += (
            str(outcome.number),
            outcome.status,
            str(outcome.execution_time_ms),
            outcome.timestamp,
            _error(outcome),
        )
        if self._has_rounds:
            cells.append(str(outcome.mapped_in))
        if self._has_provenance:
            cells.append(exact_json.dumps(dict(outcome.provenance)))
        return cells


def move_long_cells(
    row: int, header: Sequence[str], cells: Sequence[str]
) -> tuple[list[str], list[list[str]]]:
    """A row with notes in place of the cells that Excel would cut, and these as rows of long_cells.csv."""
    kept: list[str] = []
    moved: list[list[str]] = []
    for name, cell in zip(header, cells, strict=True):
        if _excel_units(cell) <= EXCEL_CELL_UNITS:
            kept.append(cell)
            continue
        kept.append(f"({len(cell):,} characters: see long_cells.csv, row {row}, column {name})")
        moved.append([str(row), name, cell])
    return kept, moved


def _excel_units(cell: str) -> int:
    """Length of a cell as Excel counts it, in UTF-16 units, of which a character has at most two."""
    is_short = 2 * len(cell) <= EXCEL_CELL_UNITS
    return len(cell) if is_short else len(cell.encode("utf-16-le", "surrogatepass")) // 2


def input_columns(columns: Sequence[str]) -> list[str]:
    """The columns of a file without those that earlier results have added to it."""
    return [column for column in columns if column not in OWN_COLUMNS]


def failure_header(columns: Sequence[str]) -> list[str]:
    """The first row of failures.csv: the original columns, the number of the record, and the error."""
    return [*input_columns(columns), ROW_COLUMN, ERROR_COLUMN]


def failure_cells(outcome: Outcome, columns: Sequence[str]) -> list[str]:
    """An outcome as a row of failures.csv, under `failure_header`."""
    return [
        *(_cell(outcome.input_data.get(column)) for column in input_columns(columns)),
        str(outcome.number),
        _error(outcome),
    ]


def failure_line(outcome: Outcome, columns: Sequence[str], dialect: Dialect = _PLAIN) -> bytes:
    """An outcome as a line of failures.csv.

    A refused record keeps its bytes, and number and error follow them. It therefore is as ragged as it was,
    and is refused again until it is corrected and its error is cleared.
    """
    record = outcome.input_data.get(RECORD)
    if not record:
        return encode_row(failure_cells(outcome, columns), dialect)
    added = encode_row([str(outcome.number), _error(outcome, surplus=False)], dialect)
    return base64.b64decode(record) + dialect.delimiter.encode(dialect.encoding) + added


def byte_order_mark(dialect: Dialect) -> bytes:
    """The byte order mark of a file in the dialect of an input; b"" if the input had none."""
    return _BOMS.get(dialect.encoding, b"") if dialect.bom_bytes else b""


def encode_row(cells: Sequence[str], dialect: Dialect = _PLAIN) -> bytes:
    """A row as bytes, with its line end.

    A lone surrogate becomes U+FFFD: JSON can carry it, UTF-8 cannot. A character that another encoding lacks
    becomes its Python escape; only errors can have one.
    """
    delimiter, escape = dialect.delimiter, dialect.escape
    text = delimiter.join(cells)
    if text and not escape and not dialect.comment and _is_plain(text, delimiter, len(cells) - 1):
        return _encoded(text + "\r\n", dialect)
    quoted = [
        f'"{cell.replace(chr(34), chr(34) * 2)}"' if _MUST_QUOTE.search(cell) or delimiter in cell else cell
        for cell in (cells if not escape else [cell.replace(escape, escape * 2) for cell in cells])
    ]
    if dialect.comment and quoted and quoted[0].startswith(dialect.comment):
        quoted[0] = f'"{quoted[0]}"'
    # A single empty cell would give an empty line, which is no record.
    return _encoded((delimiter.join(quoted) or '""') + "\r\n", dialect)


def _is_plain(text: str, delimiter: str, delimiters: int) -> bool:
    """True if no cell of a row needs quotes: it has `delimiters` of them, and nothing else to quote for."""
    if text.count(delimiter) != delimiters or '"' in text or "\n" in text or "\r" in text:
        return False
    if delimiter == ",":
        return ";" not in text and "|" not in text and "\t" not in text
    return not any(other in text for other in _SNIFFED if other != delimiter)


def _encoded(text: str, dialect: Dialect) -> bytes:
    try:
        return text.encode(dialect.encoding)
    except UnicodeEncodeError:
        return _SURROGATE.sub("\ufffd", text).encode(dialect.encoding, "backslashreplace")


def _cells(data: Mapping[str, Json], names: Sequence[str]) -> list[str]:
    """The cells of these names; most values are texts."""
    values = map(data.get, names)
    return [value if type(value) is str else _cell(value) for value in values]


def _cell(value: Json) -> str:
    """A value as the text of a cell; lists and objects as compact JSON."""
    match value:
        case None:
            return ""
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float() | Decimal():
            return exact_json.plain_number(value)
        case _:
            return exact_json.dumps(value)


def _escape_formula(cell: str) -> str:
    if cell[:1].isalnum():
        return cell  # most cells: neither a sign nor a blank before one
    blanks = _UNSEEN.match(cell)
    seen = cell[blanks.end() :] if blanks else cell
    is_formula = seen.startswith(_FORMULA_START) and not _BULLET.match(seen) and not _is_value(seen)
    return f"'{cell}" if is_formula or cell.startswith(_SKIPPED_START) else cell


def _is_value(text: str) -> bool:
    """True if a text that begins with a sign is a number, an amount, a time or a telephone number."""
    return len(text) <= _LONGEST_VALUE and _VALUE.fullmatch(text) is not None


def _error(outcome: Outcome, *, surplus: bool = True) -> str:
    """`ErrorType: message`, and the surplus cells of a ragged record, which have no column of their own."""
    if outcome.error is None and SURPLUS not in outcome.input_data:
        return ""
    parts = [f"{outcome.error.type}: {outcome.error.message}"] if outcome.error else []
    if surplus and SURPLUS in outcome.input_data:
        parts.append(f"surplus cells: {exact_json.dumps(outcome.input_data[SURPLUS])}")
    return "; ".join(parts)
