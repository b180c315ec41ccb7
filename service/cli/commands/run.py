"""The command `run`."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from service.app.download import download_results, result_paths
from service.app.serve import ROLES
from service.app.settings import Settings
from service.app.status import WITH_RESULTS, group_failures, read_operations, status_json
from service.app.submit import SubmitRequest, check_readable
from service.app.wiring.agents import agent_opener
from service.catalog.editions import Edition
from service.catalog.folders import ReadMappingFiles
from service.cli import local, render
from service.cli.configuration import load_mappings, warn_of_problems
from service.cli.console import (
    BATCH_CODES,
    EXIT_USAGE,
    err,
    exit_with,
    out,
    print_error,
    print_json,
    run_async,
)
from service.cli.following import batch_exit_code
from service.cli.options import (
    DeadlineOption,
    DelimiterOption,
    EncodingOption,
    HoldOption,
    JsonOption,
    LimitOption,
    MappingOption,
    MappingsOption,
    PriorityOption,
    SchemasOption,
    TolerateOption,
    TroublePauseOption,
    WeightOption,
    log_as_command,
    read_settings,
)
from service.cli.status import run_remedies, show_held
from service.csvio.compression import NAMES
from service.domain.errors import UsageError
from service.domain.model import BatchView, State

SHOWN_CAUSES = 5
"""Causes of failed rows that `run` prints: its endpoint ends with it, so `errors` cannot be used later."""

app = typer.Typer()


@app.command(epilog=BATCH_CODES)
def run(
    source: Annotated[Path, typer.Argument(metavar="IN.csv", help="The file to process.")],
    mapping: MappingOption,
    target: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Result file (default: IN.output.csv).", show_default=False),
    ] = None,
    limit: LimitOption = None,
    deadline: DeadlineOption = None,
    *,
    priority: PriorityOption = None,
    weight: WeightOption = None,
    delimiter: DelimiterOption = None,
    encoding: EncodingOption = None,
    tolerate: TolerateOption = None,
    hold_s: HoldOption = None,
    trouble_pause_s: TroublePauseOption = None,
    as_json: JsonOption = False,
    mappings: MappingsOption = None,
    schemas: SchemasOption = None,
) -> None:
    """Process a file on this machine: the whole pipeline, with an embedded AWS endpoint."""
    settings = read_settings(mappings=mappings, schemas=schemas)
    read_files, edition = load_mappings(settings)
    request = SubmitRequest(
        source=str(check_readable(str(source))),
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
    )
    name = source.stem if source.suffix.lower() not in NAMES else Path(source.stem).stem
    path = target or source.with_name(f"{name}.output.csv")
    _check_target(path, source)
    _check_agent(settings, edition, mapping)
    warn_of_problems(edition)
    log_as_command(settings)
    exit_with(run_async(_run(settings, read_files, request, path, as_json=as_json)))


async def _run(
    settings: Settings, read_files: ReadMappingFiles, request: SubmitRequest, path: Path, *, as_json: bool
) -> int:
    # The endpoint ends with this command: after an interrupt nothing is left to drain for.
    settings = settings.model_copy(update={"drain_timeout_s": 2.0})
    stop = asyncio.Event()
    async with local.local_service(settings, read_files, ROLES, stop) as service:
        with render.progress(err, quiet=as_json) as report:
            view = await local.run_file(service, request, settings.bucket, report.update)
        files, code = dict[str, Path](), batch_exit_code(view)
        if view.batch.state in WITH_RESULTS:
            files, code = await _download_or_rescue(service, view, path)
        # the endpoint, which holds the batch, ends with this context
        table = service.backend.ports.table
        operations = await read_operations(table, view.batch)
        undelivered = await local.await_events(service.backend, view.batch)
        status = status_json(
            view,
            service.backend.ports.clock,
            operations=operations,
            undelivered=undelivered,
            hold_s=settings.sweep.hold_s,
        )
        causes = await group_failures(table, view.batch) if view.all_counts.failed else []
    if not as_json:
        render.show_notes(err, view.batch)
    if as_json:
        shown = {name: str(file) for name, file in files.items()}
        print_json({**status, "files": shown, "causes": [cause.as_json() for cause in causes]})
    elif view.batch.state is State.PAUSED:
        holds = {reason: hold | {"until": None} for reason, hold in status["holds"].items()}
        # the pipeline has ended with the batch, so nothing cancels it
        show_held(out, status | {"holds": holds}, run_remedies(request.mapping, holds))
    elif not view.batch.error:
        render.show_finished(out, status, files)
        if causes:
            out.print()
            render.show_failures(out, causes[:SHOWN_CAUSES])
    if view.batch.error:
        print_error(f"batch {view.batch.batch_id} failed: {view.batch.error}")
    return code


async def _download_or_rescue(
    service: local.LocalService, view: BatchView, path: Path
) -> tuple[dict[str, Path], int]:
    """Write the results to `path`, or to a new temporary folder if that fails; return files and exit code."""
    objects = service.backend.ports.objects
    try:
        return await download_results(objects, view, path), batch_exit_code(view)
    except OSError as error:
        problem = f"cannot write {error.filename}: {error.strerror}"
    # The results were paid for, so they are rescued from, say, a full disk. The exit code is still that of an
    # error, because a script that reads `path` would find the results of an earlier run.
    try:
        spare = Path(tempfile.mkdtemp(prefix="rowfleet-results-"))
        files = await download_results(objects, view, spare / path.name)
    except OSError as error:
        raise UsageError(
            f"{problem}; nor {error.filename}: {error.strerror}; the results are lost: make room, or name "
            "another place with --out"
        ) from None
    print_error(
        f"{problem}; the results are in {spare}: make room and move them, or name another place with --out"
    )
    return files, EXIT_USAGE


def _check_agent(settings: Settings, edition: Edition, name: str) -> None:
    """Open and close the agent once, so that a missing variable is reported before anything runs."""
    mapping = edition.definition(name).compile()

    async def check() -> None:
        await agent_opener(settings)(mapping).close()

    asyncio.run(check())


def _check_target(path: Path, source: Path) -> None:
    """Raise UsageError before any row is processed if the results could not be written."""
    if path.is_dir():
        raise UsageError(f"--out {path} is a folder; name a file in it")
    for written in result_paths(path).values():
        if written.resolve() == source.resolve():
            raise UsageError(f"--out {path} would write {written.name} over the input; name another file")
    try:
        # only a write shows that a folder is missing, read-only or full
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}."):
            pass
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}; name another place with --out") from None
