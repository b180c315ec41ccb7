r"""Outcomes to CSV bytes: RFC 4180, UTF-8, `\r\n` line ends. Stateless: each row is encoded by itself."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal

from service.csvio.cells import SURPLUS
from service.domain import exact_json
from service.domain.model import ERROR_COLUMN, Json, Outcome

PROVENANCE_COLUMN = "_provenance"
_RESULT_COLUMNS = ("_status", "_execution_time_ms", "_timestamp", ERROR_COLUMN)

# RFC 4180's four, and the delimiters that our reader sniffs for, because our own files are dropped in again.
_MUST_QUOTE = re.compile(r'[",;|\t\r\n]')
_SURROGATE = re.compile("[\ud800-\udfff]")

_FORMULA_START = ("=", "+", "-", "@", "\t", "\r")
_NUMBER = re.compile(
    r"[+-] (?: [\ ().,]* [0-9] [0-9\ ().,%-]*"  # -5  -1,234.50  +44 (0)20 7946-0958  -12%
    r"       | (?: [0-9]+ \.? [0-9]* | \. [0-9]+ ) [eE] [+-]? [0-9]+ )",  # -1.5e3
    re.VERBOSE,
)


def output_header(
    columns: Sequence[str], output_fields: Sequence[str], *, provenance: bool = False
) -> list[str]:
    """The first row of output.csv. Its names are distinct if the columns are, and the fields are.

    `provenance` adds a last column: the method and path that gave each field, as a JSON object.
    """
    inputs = [f"input_{column}" for column in columns]
    outputs = [f"output_{field}" for field in output_fields]
    return [*inputs, *outputs, *_RESULT_COLUMNS, *([PROVENANCE_COLUMN] if provenance else [])]


def output_cells(
    outcome: Outcome,
    columns: Sequence[str],
    output_fields: Sequence[str],
    *,
    escape_formulas: bool,
    provenance: bool = False,
) -> list[str]:
    """An outcome as a row of output.csv, under `output_header`.

    `escape_formulas` prefixes output text that a spreadsheet would execute with `'`. Input cells stay as they
    were read.
    """
    outputs = [_cell(outcome.output_data.get(field)) for field in output_fields]
    if escape_formulas:
        outputs = [_escape_formula(cell) for cell in outputs]
    return [
        *(_cell(outcome.input_data.get(column)) for column in columns),
        *outputs,
        str(outcome.status),
        str(outcome.execution_time_ms),
        outcome.timestamp,
        _error(outcome),
        *([exact_json.dumps(dict(outcome.provenance))] if provenance else []),
    ]


def failure_header(columns: Sequence[str]) -> list[str]:
    """The first row of failures.csv: the original columns plus `_error`.

    An input that already has a column `_error` is a failures.csv dropped in again. The column is overwritten
    then; otherwise each run would add one.
    """
    return [*columns] if ERROR_COLUMN in columns else [*columns, ERROR_COLUMN]


def failure_cells(outcome: Outcome, columns: Sequence[str]) -> list[str]:
    """An outcome as a row of failures.csv.

    A record with too few cells is filled with empty ones, surplus cells are listed in `_error`: the file is a
    valid table, and a user who drops it in again sees there what to correct.
    """
    row = {**outcome.input_data, ERROR_COLUMN: _error(outcome)}
    return [_cell(row.get(column)) for column in failure_header(columns)]


def encode_row(cells: Sequence[str]) -> bytes:
    """A row as bytes, with its line end.

    A lone surrogate becomes U+FFFD: JSON can carry it, UTF-8 cannot.
    """
    quoted = [
        f'"{cell.replace(chr(34), chr(34) * 2)}"' if _MUST_QUOTE.search(cell) else cell for cell in cells
    ]
    # A single empty cell would give an empty line, which is no record.
    text = (",".join(quoted) or '""') + "\r\n"
    try:
        return text.encode()
    except UnicodeEncodeError:
        return _SURROGATE.sub("\ufffd", text).encode()


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
    is_formula = cell.startswith(_FORMULA_START) and not _NUMBER.fullmatch(cell)
    return f"'{cell}" if is_formula else cell


def _error(outcome: Outcome) -> str:
    """`ErrorType: message`, and the surplus cells of a ragged record, which have no column of their own."""
    parts = [f"{outcome.error.type}: {outcome.error.message}"] if outcome.error else []
    if SURPLUS in outcome.input_data:
        parts.append(f"surplus cells: {exact_json.dumps(outcome.input_data[SURPLUS])}")
    return "; ".join(parts)
