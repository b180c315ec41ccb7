r"""Outcomes -> CSV bytes: RFC 4180, UTF-8, `\r\n` line ends. Stateless: a row is encoded by itself."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal

from service.csvio.cells import SURPLUS
from service.domain import exact_json
from service.domain.model import ERROR_COLUMN, Json, Outcome

PROVENANCE_COLUMN = "_provenance"
_RESULT_COLUMNS = ("_status", "_execution_time_ms", "_timestamp", ERROR_COLUMN)

# Beyond RFC 4180's four, the delimiters that a reader might sniff for: our own files are dropped in again.
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
    """The first row of output.csv; its names differ from each other if the columns do, and the fields.

    With `provenance`, a last column tells which method and path gave each field, as a JSON object.
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

    With `escape_formulas`, output text that a spreadsheet would run gets a leading `'`; input cells stay as
    they came.
    """
    outputs = [_cell(outcome.output_data.get(field)) for field in output_fields]
    if escape_formulas:
        outputs = [_disarm(cell) for cell in outputs]
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

    A file that has a column `_error` already is taken for a failures.csv dropped in again: there it is
    overwritten, so that it does not grow by a column every time.
    """
    return [*columns] if ERROR_COLUMN in columns else [*columns, ERROR_COLUMN]


def failure_cells(outcome: Outcome, columns: Sequence[str]) -> list[str]:
    """An outcome as a row of failures.csv.

    A record that had too few cells is filled with empty ones, and surplus cells stand in `_error`: the file
    is a table again, and whoever drops it in sees there what to put right.
    """
    row = {**outcome.input_data, ERROR_COLUMN: _error(outcome)}
    return [_cell(row.get(column)) for column in failure_header(columns)]


def encode_row(cells: Sequence[str]) -> bytes:
    """A row as bytes, with its line end. A single empty cell is written `""`, lest it be a blank line.

    A lone surrogate, which JSON can carry and UTF-8 cannot, becomes U+FFFD.
    """
    quoted = [
        f'"{cell.replace(chr(34), chr(34) * 2)}"' if _MUST_QUOTE.search(cell) else cell for cell in cells
    ]
    text = (",".join(quoted) or '""') + "\r\n"
    try:
        return text.encode()
    except UnicodeEncodeError:
        return _SURROGATE.sub("\ufffd", text).encode()


def _cell(value: Json) -> str:
    """A value as people write it in a cell; lists and objects are compact JSON."""
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


def _disarm(cell: str) -> str:
    is_formula = cell.startswith(_FORMULA_START) and not _NUMBER.fullmatch(cell)
    return f"'{cell}" if is_formula else cell


def _error(outcome: Outcome) -> str:
    """`ErrorType: message`, with the surplus cells of a ragged record, which have no column to stand in."""
    parts = [f"{outcome.error.type}: {outcome.error.message}"] if outcome.error else []
    if SURPLUS in outcome.input_data:
        parts.append(f"surplus cells: {exact_json.dumps(outcome.input_data[SURPLUS])}")
    return "; ".join(parts)
