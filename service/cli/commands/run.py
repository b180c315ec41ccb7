"""The command `run`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from service.app.laptop.commands import RunCommand
from service.app.laptop.results import check_target
from service.app.laptop.run_book import STDOUT
from service.app.laptop.source import STDIN
from service.app.laptop.tuning import CONCURRENCY, laptop_settings
from service.app.settings import Settings
from service.app.submit import SubmitRequest, check_format, check_readable, check_tolerance
from service.app.wiring.agents import check_agent
from service.cli.configuration import load_mappings, warn_of_problems
from service.cli.console import BATCH_CODES, exit_with, run_async
from service.cli.options import (
    ApproveByOption,
    ApproveIfOption,
    BudgetTokensOption,
    BudgetUsdOption,
    DeadlineOption,
    DelimiterOption,
    EncodingOption,
    HoldOption,
    JsonOption,
    LimitOption,
    MappingOption,
    MappingsOption,
    MaxCallsOption,
    PriorityOption,
    SampleOption,
    SampleRandomOption,
    SchemasOption,
    TolerateOption,
    TroublePauseOption,
    WeightOption,
    log_as_command,
    read_approval,
    read_budget,
    read_settings,
)
from service.cli.running.laptop import LaptopRun, run_on_laptop
from service.cli.running.request import check_sample, default_target, read_source
from service.domain.errors import UsageError

app = typer.Typer()


@app.command(epilog=BATCH_CODES)
def run(
    source: Annotated[str, typer.Argument(metavar="IN.csv", help="The file to process; - for stdin.")],
    mapping: MappingOption,
    target: Annotated[
        str | None,
        typer.Option(
            "--out",
            "-o",
            show_default="IN.output.csv",
            help="Result file; - for stdout, as is the default for stdin.",
        ),
    ] = None,
    limit: LimitOption = None,
    deadline: DeadlineOption = None,
    *,
    concurrency: Annotated[
        int | None,
        typer.Option(
            "--concurrency",
            "-c",
            min=1,
            max=10_000,
            metavar="N",
            show_default=str(CONCURRENCY),
            help="Most calls under way at a time.",
        ),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Run all rows, also if the same command has run before.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace files at the place of the results, whoever wrote them.")
    ] = False,
    emulator: Annotated[
        bool,
        typer.Option("--emulator", help="Run on an embedded AWS endpoint, which keeps nothing."),
    ] = False,
    priority: PriorityOption = None,
    weight: WeightOption = None,
    delimiter: DelimiterOption = None,
    encoding: EncodingOption = None,
    tolerate: TolerateOption = None,
    hold_s: HoldOption = None,
    trouble_pause_s: TroublePauseOption = None,
    sample: SampleOption = None,
    sample_random: SampleRandomOption = None,
    approve_by: ApproveByOption = None,
    approve_if: ApproveIfOption = None,
    budget_usd: BudgetUsdOption = None,
    budget_tokens: BudgetTokensOption = None,
    max_calls: MaxCallsOption = None,
    as_json: JsonOption = False,
    mappings: MappingsOption = None,
    schemas: SchemasOption = None,
) -> None:
    """Process a file on this machine. Stopped at any moment, the same command goes on."""
    settings = read_settings(mappings=mappings, schemas=schemas)
    read_files, edition = load_mappings(settings)
    request = SubmitRequest(
        source=source,
        mapping=mapping,
        limit=limit,
        deadline_s=deadline,
        priority=priority,
        weight=weight,
        delimiter=delimiter,
        encoding=encoding,
        tolerate=tolerate,
        hold_s=hold_s,
        trouble_pause_s=trouble_pause_s,
        approval=read_approval(
            sample=sample, sample_random=sample_random, approve_by=approve_by, approve_if=approve_if
        ),
        budget=read_budget(budget_usd, budget_tokens, max_calls),
    )
    check_format(request)
    check_tolerance(request)
    path = None if source == STDIN else check_readable(source)
    place = target or default_target(path)
    if place != STDOUT:
        check_target(Path(place), path)
    elif as_json:
        raise UsageError("--json and --out - both write to stdout: name a file with --out")
    definition = edition.definition(mapping)
    check_sample(request, definition)
    asyncio.run(check_agent(settings, definition.compile()))
    warn_of_problems(edition)
    log_as_command(settings)
    if emulator:
        if path is None or place == STDOUT:
            raise UsageError("--emulator reads a file and writes files: it takes no - for stdin or stdout")
        # Imported here: the endpoint and its clients take a second.
        from service.cli.running.emulator import run_on_emulator  # noqa: PLC0415

        settings = _with_concurrency(settings, concurrency)
        exit_with(run_async(run_on_emulator(settings, read_files, request, Path(place), as_json=as_json)))
    scanned = read_source(path, settings, definition)
    try:
        asked = LaptopRun(
            settings=laptop_settings(settings, concurrency=concurrency, row_bytes=scanned.row_bytes),
            mappings=read_files,
            command=RunCommand(request, scanned, definition),
            place=place,
            fresh=fresh,
            force=force,
            as_json=as_json,
        )
        exit_with(run_async(run_on_laptop(asked)))
    finally:
        if path is None:
            scanned.path.unlink(missing_ok=True)


def _with_concurrency(settings: Settings, concurrency: int | None) -> Settings:
    """The settings with another limit of calls, if one is given."""
    if concurrency is None:
        return settings
    most = {
        "max_inflight_rows": concurrency,
        "max_held_rows": max(settings.worker.max_held_rows, concurrency),
    }
    return settings.model_copy(update={"worker": settings.worker.model_copy(update=most)})
