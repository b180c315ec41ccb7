"""Commands that run or set up the service: `run`, `local`, `serve`, `setup`, `healthcheck`."""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from service.adapters.aws.clients import open_clients
from service.app import aws_backend
from service.app import healthcheck as app_healthcheck
from service.app.aws_backend import aws_options, backend_on
from service.app.download import download_results, result_paths
from service.app.serve import ROLES, serve
from service.app.settings import Settings
from service.app.status import WITH_RESULTS, group_failures, read_operations, status_json
from service.app.submit import SubmitRequest, check_readable
from service.app.wiring.agents import agent_opener
from service.catalog.editions import Edition
from service.catalog.files import compile_catalog
from service.catalog.folders import MappingFolders, ReadMappingFiles
from service.cli import embedded, local, render
from service.cli.configuration import is_in_bucket, load_mappings, read_mapping_files, warn_of_problems
from service.cli.console import (
    BATCH_CODES,
    EXIT_USAGE,
    batch_exit_code,
    err,
    exit_with,
    out,
    print_error,
    print_json,
    print_line,
    run_async,
    stop_on_signals,
)
from service.cli.options import (
    DeadlineOption,
    DelimiterOption,
    EncodingOption,
    EndpointOption,
    HoldOption,
    JsonOption,
    LimitOption,
    MappingOption,
    MappingsOption,
    PriorityOption,
    RegionOption,
    SchemasOption,
    TolerateOption,
    TroublePauseOption,
    WeightOption,
    log_as_command,
    log_as_service,
    parse_roles,
    read_settings,
    service_metrics,
)
from service.cli.status import run_remedies, show_held
from service.csvio.compression import NAMES
from service.domain.errors import UsageError
from service.domain.model import BatchView, State
from service.mapping import Catalog
from service.runtime.metrics import count_calls

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


@app.command(name="local")
def local_(
    port: Annotated[
        int, typer.Option("--port", min=0, max=65_535, help="Port of the endpoint; 0: any.")
    ] = 4566,
    roles: Annotated[str, typer.Option("--roles", help="all, none, or some of: " + ",".join(ROLES))] = "all",
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Keep queues, table and bucket in this folder.", show_default=False),
    ] = None,
    mappings: MappingsOption = None,
    schemas: SchemasOption = None,
) -> None:
    """Keep an embedded AWS endpoint, all resources and all roles running on this machine."""
    settings = read_settings(mappings=mappings, schemas=schemas)
    chosen = parse_roles(roles)
    log_as_service(settings)
    read_files, edition = load_mappings(settings, splits="splitter" in chosen)
    warn_of_problems(edition)
    run_async(_local(settings, read_files, edition.catalog, chosen, port=port, data=data))


async def _local(
    settings: Settings,
    read_files: ReadMappingFiles,
    catalog: Catalog,
    roles: list[str],
    *,
    port: int,
    data: Path | None,
) -> None:
    stop = stop_on_signals()
    async with local.local_service(settings, read_files, roles, stop, port=port, data_dir=data) as service:
        print_line(_instructions(service, settings, catalog, roles))
        await stop.wait()


def _instructions(service: local.LocalService, settings: Settings, catalog: Catalog, roles: list[str]) -> str:
    """The environment variables for commands in other shells, and examples of commands."""
    first = catalog.names[0] if catalog.names else "NAME"
    queue = f"{service.url}/000000000000/{service.backend.names.queue('ingest')}"
    job = json.dumps({"v": 1, "mapping": first, "source": f"s3://{settings.bucket}/any/key.csv"})
    exports = {
        "AWS_ENDPOINT_URL": service.url,
        "AWS_ACCESS_KEY_ID": embedded.ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": embedded.SECRET_KEY,
        "AWS_REGION": embedded.REGION,
        "AWS_DEFAULT_REGION": embedded.REGION,
        "ROWFLEET_BUCKET": settings.bucket,
        "ROWFLEET_TABLE": settings.table,
        "ROWFLEET_PREFIX": settings.prefix,
    }
    lines = [f"export {name}={value}" for name, value in exports.items()]
    lines += [
        "",
        f"# roles: {', '.join(roles) or 'none'}; mappings: {', '.join(catalog.names) or 'none'}",
        f"# drop a file:   aws s3 cp FILE.csv s3://{settings.bucket}/{settings.incoming_prefix}{first}/",
        f"# send a job:    aws sqs send-message --endpoint-url {service.url} --queue-url {queue} \\",
        f"#                  --message-body '{job}'",
        f"# see results:   rowfleet list; aws s3 ls --recursive s3://{settings.results_bucket}/results/",
        "# Ctrl-C or SIGTERM stops",
    ]
    return "\n".join(lines)


@app.command(name="serve")
def serve_(
    roles: Annotated[str, typer.Option("--roles", help="all, or some of: " + ",".join(ROLES))] = "all",
    mappings: MappingsOption = None,
    schemas: SchemasOption = None,
    endpoint_url: EndpointOption = None,
    region: RegionOption = None,
) -> None:
    """Be a service process, configured by the environment; SIGTERM drains it."""
    settings = read_settings(mappings=mappings, schemas=schemas, endpoint_url=endpoint_url, region=region)
    chosen = parse_roles(roles)
    if not chosen:
        raise UsageError("--roles none: a service process plays at least one role")
    log_as_service(settings)
    if "splitter" in chosen and not is_in_bucket(settings):
        # files of the image must compile now; files in a bucket can be corrected while the service runs
        compile_catalog(read_mapping_files(settings))
    run_async(_serve(settings, chosen))


async def _serve(settings: Settings, roles: list[str]) -> None:
    stop = stop_on_signals()
    metrics, options = service_metrics(settings, roles), aws_options(settings)
    async with open_clients(options, count_calls(metrics)) as clients:
        backend = backend_on(clients, settings, metrics)
        folders = MappingFolders(settings.mappings, settings.schemas, backend.ports.objects)
        await serve(backend, settings, folders.read, roles, stop)


@app.command()
def setup(endpoint_url: EndpointOption = None, region: RegionOption = None) -> None:
    """Create, or check, queues, table, bucket and notification on any endpoint."""
    settings = read_settings(endpoint_url=endpoint_url, region=region)
    log_as_command(settings)

    async def work() -> list[str]:
        async with open_clients(aws_options(settings)) as clients:
            return await aws_backend.setup(clients, settings)

    for line in run_async(work()):
        out.print(line, highlight=False, soft_wrap=True)


@app.command(epilog="Exit codes: 0 alive, 1 not.")
def healthcheck() -> None:
    """Exit 0 if the service process on this machine is alive (/livez), 1 if not. Not about being ready."""
    exit_with(app_healthcheck.main())


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
