"""The commands `plan` and `estimate`: what a run would send, and what that would cost."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer

from service.app.estimates.call_tally import tally_rows
from service.app.estimates.estimate import Estimate, make_estimate
from service.app.estimates.last_runs import LastRuns, read_last_runs
from service.app.laptop.commands import RunCommand
from service.app.laptop.home import Home
from service.app.laptop.source import STDIN
from service.app.laptop.tuning import laptop_settings
from service.app.plan import CallResult, FoundRow, RowPlan, call_row, find_row, plan_row, read_rows
from service.app.settings import Settings
from service.app.submit import SubmitRequest, check_format, check_readable
from service.app.wiring.agents import check_agent
from service.catalog.folders import ReadMappingFiles
from service.cli.batches.places import open_here
from service.cli.configuration import load_mappings, warn_of_problems
from service.cli.console import (
    EXIT_FAILED_ROWS,
    err,
    exit_with,
    out,
    print_json,
    print_line,
    run_async,
)
from service.cli.explanation import Verdict, show_verdict
from service.cli.options import (
    DelimiterOption,
    EncodingOption,
    JsonOption,
    LimitOption,
    MappingOption,
    MappingsOption,
    SampleRandomOption,
    SchemasOption,
    log_as_command,
    read_approval,
    read_settings,
)
from service.cli.running.estimating import run_sample
from service.cli.running.laptop import LaptopRun
from service.cli.running.request import check_sample, default_target, read_source
from service.cli.views.call_view import show_call, show_value
from service.cli.views.estimate_view import show_estimate
from service.csvio import CsvReader
from service.domain import exact_json
from service.domain.approval.conditions import NEVER
from service.domain.errors import UsageError
from service.domain.model import MAX_SAMPLE
from service.mapping import Definition, RowMapping

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
    opened = _open(settings, source, mapping, delimiter, encoding)
    compiled, reader = opened.mapping, opened.reader
    with _opened(source) as (file, name):
        found = find_row(file, compiled, row, reader, name=name)
    planned, result = run_async(_work(settings, compiled, found, is_called=call))
    verdict = Verdict(mapping, result.explanation, compiled.csv.escape_formulas) if result else None
    if as_json:
        print_line(exact_json.indented(planned.as_json() | {"result": _result_json(result, verdict)}))
    else:
        _show(planned, result, verdict)
    if planned.error or (verdict and verdict.explanation.error):
        exit_with(EXIT_FAILED_ROWS)


@app.command(
    epilog="Exit codes: 0 done, 1 a run would refuse the file, 2 bad usage or configuration, 4 its sample is "
    "held by more than its approval, 130 interrupted."
)
def estimate(
    source: Annotated[str, typer.Argument(metavar="IN.csv", help="The file to look at; - for stdin.")],
    mapping: MappingOption,
    limit: LimitOption = None,
    *,
    sample: Annotated[
        int | None,
        typer.Option(
            "--sample",
            min=1,
            max=MAX_SAMPLE,
            metavar="N",
            show_default=False,
            help="Make the calls of N rows, and keep them for the run.",
        ),
    ] = None,
    sample_random: SampleRandomOption = None,
    delimiter: DelimiterOption = None,
    encoding: EncodingOption = None,
    as_json: JsonOption = False,
    mappings: MappingsOption = None,
    schemas: SchemasOption = None,
) -> None:
    """The calls, tokens, price and time of a run of a file. No call is made, unless by --sample."""
    if sample_random and sample is None:
        raise UsageError("--sample-random needs --sample N")
    settings = read_settings(mappings=mappings, schemas=schemas)
    opened = _open(settings, source, mapping, delimiter, encoding)
    if sample is None:
        made = _make_estimate(settings, opened, source, limit)
        _print_estimate(made, as_json=as_json)
        return
    request = SubmitRequest(
        source=source,
        mapping=mapping,
        limit=limit,
        delimiter=delimiter,
        encoding=encoding,
        # The conditions of the mapping would run the other rows.
        approval=read_approval(sample=sample, sample_random=sample_random, approve_if=NEVER),
    )
    exit_with(_estimate_and_sample(settings, opened, request, as_json=as_json))


def _estimate_and_sample(
    settings: Settings, opened: _Opened, request: SubmitRequest, *, as_json: bool
) -> int:
    """Print the estimate and the figures of the sample; return the exit code."""
    path = None if request.source == STDIN else check_readable(request.source)
    check_sample(request, opened.definition)
    run_async(check_agent(settings, opened.mapping))
    scanned = read_source(path, settings, opened.definition)
    try:
        made = _make_estimate(settings, opened, request.source, request.limit, scanned.path)
        if not as_json:
            _print_estimate(made, as_json=False)
        asked = LaptopRun(
            settings=laptop_settings(settings, row_bytes=scanned.row_bytes),
            mappings=opened.mappings,
            command=RunCommand(request, scanned, opened.definition),
            place=default_target(path),
            as_json=as_json,
        )
        end = run_async(run_sample(asked))
    finally:
        if path is None:
            scanned.path.unlink(missing_ok=True)
    if as_json:
        print_json(made.as_json() | {"sample": end.figures and end.figures.as_json()})
    else:
        end.show(out)
    end.show_problem()
    return end.code


def _make_estimate(
    settings: Settings, opened: _Opened, source: str, limit: int | None, spooled: Path | None = None
) -> Estimate:
    """The estimate of a file, or of what came on stdin and is in the file `spooled`."""
    with _opened(source, spooled) as (file, name):
        rows = islice(read_rows(file, opened.mapping, opened.reader, name=name), limit)
        return run_async(_estimate(settings, opened.mapping, rows))


def _print_estimate(made: Estimate, *, as_json: bool) -> None:
    if as_json:
        print_json(made.as_json())
    else:
        show_estimate(out, made)


async def _estimate(settings: Settings, mapping: RowMapping, rows: Iterator[FoundRow]) -> Estimate:
    tally = await tally_rows(settings, mapping, rows)
    runs: LastRuns | None = None
    if Home(settings.home).has_store:
        async with open_here(settings) as place:
            runs = await read_last_runs(place.ports.table, mapping.name)
    return make_estimate(mapping, tally, runs, datetime.now(UTC))


@dataclass(frozen=True, slots=True)
class _Opened:
    """The mapping of a command, and a reader with its options and those of the command line."""

    mappings: ReadMappingFiles
    definition: Definition
    mapping: RowMapping
    reader: CsvReader


def _open(
    settings: Settings, source: str, mapping: str, delimiter: str | None, encoding: str | None
) -> _Opened:
    """Load the mapping. Raises UsageError, MappingError and ConfigError."""
    read_files, edition = load_mappings(settings)
    check_format(SubmitRequest(source=source, mapping=mapping, delimiter=delimiter, encoding=encoding))
    definition = edition.definition(mapping)
    compiled = definition.compile()
    warn_of_problems(edition)
    log_as_command(settings)
    csv = compiled.csv
    reader = CsvReader(
        delimiter=delimiter or csv.delimiter,
        encoding=encoding or csv.encoding,
        layout=csv.layout,
        max_record_bytes=settings.split.max_record_bytes,
    )
    return _Opened(read_files, definition, compiled, reader)


@contextmanager
def _opened(source: str, spooled: Path | None = None) -> Iterator[tuple[BinaryIO, str]]:
    """The file to read, and its name, "" for stdin, which is read from `spooled` if it is there."""
    if source == STDIN and spooled is None:
        yield sys.stdin.buffer, ""
        return
    path = spooled or check_readable(source)
    with path.open("rb") as file:
        yield file, "" if source == STDIN else path.name


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
