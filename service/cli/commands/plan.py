"""The command `plan`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer

from service.app.laptop.source import STDIN
from service.app.plan import CallResult, FoundRow, RowPlan, call_row, find_row, plan_row
from service.app.settings import Settings
from service.app.submit import SubmitRequest, check_format, check_readable
from service.cli.call_view import show_call, show_value
from service.cli.configuration import load_mappings, warn_of_problems
from service.cli.console import EXIT_FAILED_ROWS, err, exit_with, out, print_line, run_async
from service.cli.explanation import Verdict, show_verdict
from service.cli.options import (
    DelimiterOption,
    EncodingOption,
    JsonOption,
    MappingOption,
    MappingsOption,
    SchemasOption,
    log_as_command,
    read_settings,
)
from service.csvio import CsvReader
from service.domain import exact_json
from service.mapping import RowMapping

app = typer.Typer()


@app.command(
    epilog="Exit codes: 0 the row would be sent, or has succeeded with --call, 3 it would fail, or has "
    "failed, 2 bad usage or configuration, 130 interrupted."
)
def plan(
    source: Annotated[str, typer.Argument(metavar="IN.csv", help="The file to look at; - for stdin.")],
    mapping: MappingOption,
    row: Annotated[
        int, typer.Option("--row", min=1, metavar="N", help="The row, counted as in the column _row.")
    ] = 1,
    *,
    call: Annotated[
        bool, typer.Option("--call", help="Call the agent once, and show where each value came from.")
    ] = False,
    delimiter: DelimiterOption = None,
    encoding: EncodingOption = None,
    as_json: JsonOption = False,
    mappings: MappingsOption = None,
    schemas: SchemasOption = None,
) -> None:
    """What would be sent for a row of a file, with secrets masked. No call, unless by --call."""
    settings = read_settings(mappings=mappings, schemas=schemas)
    _, edition = load_mappings(settings)
    check_format(SubmitRequest(source=source, mapping=mapping, delimiter=delimiter, encoding=encoding))
    compiled = edition.definition(mapping).compile()
    warn_of_problems(edition)
    log_as_command(settings)
    csv = compiled.csv
    reader = CsvReader(
        delimiter=delimiter or csv.delimiter,
        encoding=encoding or csv.encoding,
        layout=csv.layout,
        max_record_bytes=settings.split.max_record_bytes,
    )
    found = _find(source, compiled, row, reader)
    planned, result = run_async(_work(settings, compiled, found, is_called=call))
    verdict = Verdict(mapping, result.explanation, csv.escape_formulas) if result else None
    if as_json:
        print_line(exact_json.indented(planned.as_json() | {"result": _result_json(result, verdict)}))
    else:
        _show(planned, result, verdict)
    if planned.error or (verdict and verdict.explanation.error):
        exit_with(EXIT_FAILED_ROWS)


def _find(source: str, mapping: RowMapping, number: int, reader: CsvReader) -> FoundRow:
    if source == STDIN:
        return find_row(sys.stdin.buffer, mapping, number, reader)
    path: Path = check_readable(source)
    file: BinaryIO
    with path.open("rb") as file:
        return find_row(file, mapping, number, reader, name=path.name)


async def _work(
    settings: Settings, mapping: RowMapping, row: FoundRow, *, is_called: bool
) -> tuple[RowPlan, CallResult | None]:
    planned = await plan_row(settings, mapping, row, is_called=is_called)
    if planned.error or not is_called:
        return planned, None
    return planned, await call_row(settings, mapping, planned)


def _result_json(result: CallResult | None, verdict: Verdict | None) -> dict[str, Any] | None:
    if result is None or verdict is None:
        return None
    error, reply = result.explanation.error, result.reply
    return {
        "elapsed_ms": result.elapsed_ms,
        "reply": reply and reply.body,
        "reply_bytes": reply and reply.size,
        **verdict.as_json(),
        "class": str(error.failure_class) if error else None,
    }


def _show(planned: RowPlan, result: CallResult | None, verdict: Verdict | None) -> None:
    """Print the call; with a result its reply and its values below."""
    record = planned.row.record
    err.print(f"row {record.number} (line {record.line})", style="dim", highlight=False)
    if planned.error:
        error = planned.error
        text = f"not sent ({error.failure_class}): {error.kind}: {error}"
        err.print(text, style="red", markup=False, highlight=False, soft_wrap=True)
    if planned.call:
        show_call(out, planned.call)
    if result is None or verdict is None:
        return
    out.print()
    if result.reply is not None:
        took = f"reply, {result.reply.size:,} bytes in {result.elapsed_ms:,} ms"
        out.print(took, style="bold", highlight=False)
        show_value(out, result.reply.body)
        out.print()
    show_verdict(out, verdict, explain=True)
    if verdict.explanation.error:
        out.print(f"class  {verdict.explanation.error.failure_class}", highlight=False)
