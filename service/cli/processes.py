"""Commands that run something: `run`, `local`, `serve`, `setup`."""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from service.adapters.aws.clients import open_clients
from service.app import backend as service_backend
from service.app import healthcheck as probe
from service.app.backend import aws_options, backend_on
from service.app.serve import ROLES, serve
from service.app.settings import Settings
from service.app.status import failures, status_json
from service.app.submit import SubmitRequest, readable
from service.app.wiring import agent_opener
from service.catalog.folders import MappingFolders, ReadMappingFiles
from service.cli import embedded, local, render
from service.cli.configuration import configuration, in_bucket
from service.cli.console import (
    EXIT_USAGE,
    call,
    err,
    exit_code,
    exit_with,
    out,
    print_json,
    print_line,
    say,
    stop_on_signals,
)
from service.cli.options import (
    DeadlineOption,
    EndpointOption,
    JsonOption,
    LimitOption,
    MappingOption,
    MappingsOption,
    PriorityOption,
    RegionOption,
    SchemasOption,
    WeightOption,
    log_command,
    log_service,
    roles_of,
    service_metrics,
    settings_of,
)
from service.domain.errors import UsageError
from service.domain.model import BatchView
from service.mapping import Catalog
from service.runtime.metrics import count_calls

SHOWN_CAUSES = 5
"""Causes of failed rows that `run` shows: its endpoint is gone when `errors` could be asked."""

app = typer.Typer()


@app.command()
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
    as_json: JsonOption = False,
    mappings: MappingsOption = None,
    schemas: SchemasOption = None,
) -> None:
    """Process a file on this machine: the whole pipeline, with an embedded AWS endpoint."""
    settings = settings_of(mappings=mappings, schemas=schemas)
    files, catalog = configuration(settings)
    file = str(readable(str(source)))
    request = SubmitRequest(file, mapping, limit=limit, deadline_s=deadline, priority=priority, weight=weight)
    path = target or source.with_name(f"{source.stem}.output.csv")
    _check_target(path, source)
    _check_agent(settings, catalog, mapping)
    log_command(settings)
    exit_with(call(_run(settings, files, request, path, as_json=as_json)))


async def _run(
    settings: Settings, mappings: ReadMappingFiles, request: SubmitRequest, path: Path, *, as_json: bool
) -> int:
    # Nothing outlives this command, so an interrupted run has nothing to drain for.
    settings = settings.model_copy(update={"drain_timeout_s": 2.0})
    stop = asyncio.Event()
    async with local.local_service(settings, mappings, ROLES, stop) as service:
        with render.progress(err, quiet=as_json) as report:
            view = await local.run_file(service, request, settings.bucket, report.update)
        files, code = dict[str, Path](), exit_code(view)
        if not view.batch.error:
            files, code = await _fetch_somewhere(service, view, path)
        status = status_json(view, service.backend.ports.clock)
        causes = await failures(service.backend.ports.table, view.batch) if view.counts.failed else []
    if as_json:
        shown = {name: str(file) for name, file in files.items()}
        print_json({**status, "files": shown, "causes": [cause.as_json() for cause in causes]})
    elif not view.batch.error:
        render.show_finished(out, status, files)
        if causes:
            out.print()
            render.show_failures(out, causes[:SHOWN_CAUSES])
    if view.batch.error:
        say(f"batch {view.batch.batch_id} failed: {view.batch.error}")
    return code


async def _fetch_somewhere(service: local.Local, view: BatchView, path: Path) -> tuple[dict[str, Path], int]:
    """The results at `path`, and the exit code.

    Where that fails (a full disk), in a new temporary folder: they were paid for. It is no success, though:
    whoever reads `path` next would find an earlier run's.
    """
    try:
        return await local.fetch_results(service.backend, view, path), exit_code(view)
    except OSError as error:
        problem = f"cannot write {error.filename}: {error.strerror}"
    try:
        spare = Path(tempfile.mkdtemp(prefix="rowfleet-results-"))
        files = await local.fetch_results(service.backend, view, spare / path.name)
    except OSError as error:
        raise UsageError(
            f"{problem}; nor {error.filename}: {error.strerror}; the results are lost: make room, or name "
            "another place with --out"
        ) from None
    say(f"{problem}; the results are in {spare}: make room and move them, or name another place with --out")
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
    settings = settings_of(mappings=mappings, schemas=schemas)
    chosen = roles_of(roles)
    log_service(settings)
    files, catalog = configuration(settings, splits="splitter" in chosen)
    call(_local(settings, files, catalog, chosen, port, data))


async def _local(
    settings: Settings,
    mappings: ReadMappingFiles,
    catalog: Catalog,
    roles: list[str],
    port: int,
    data: Path | None,
) -> None:
    stop = stop_on_signals()
    async with local.local_service(settings, mappings, roles, stop, port=port, data_dir=data) as service:
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
        print_line("\n".join(lines))
        await stop.wait()


@app.command(name="serve")
def serve_(
    roles: Annotated[str, typer.Option("--roles", help="all, or some of: " + ",".join(ROLES))] = "all",
    mappings: MappingsOption = None,
    schemas: SchemasOption = None,
    endpoint_url: EndpointOption = None,
    region: RegionOption = None,
) -> None:
    """Be a service process, configured by the environment; SIGTERM drains it."""
    settings = settings_of(mappings=mappings, schemas=schemas, endpoint_url=endpoint_url, region=region)
    chosen = roles_of(roles)
    if not chosen:
        raise UsageError("--roles none: a service process plays at least one role")
    log_service(settings)
    if "splitter" in chosen and not in_bucket(settings):
        configuration(settings)  # what came with this process has to be right; a bucket may be mended later
    call(_serve(settings, chosen))


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
    settings = settings_of(endpoint_url=endpoint_url, region=region)
    log_command(settings)

    async def work() -> list[str]:
        async with open_clients(aws_options(settings)) as clients:
            return await service_backend.setup(clients, settings)

    for line in call(work()):
        out.print(line, highlight=False, soft_wrap=True)


@app.command()
def healthcheck() -> None:
    """Exit 0 if the service process on this machine is alive (/livez), 1 if not. Not about being ready."""
    exit_with(probe.main())


def _check_agent(settings: Settings, catalog: Catalog, name: str) -> None:
    """Open and close the agent once, so that a missing variable is said before anything runs."""
    mapping = catalog.definition(name).compile()

    async def check() -> None:
        await agent_opener(settings)(mapping).close()

    asyncio.run(check())


def _check_target(path: Path, source: Path) -> None:
    """Fail before a row is spent where the result could not be written in the end."""
    if path.is_dir():
        raise UsageError(f"--out {path} is a folder; name a file in it")
    for written in local.result_paths(path).values():
        if written.resolve() == source.resolve():
            raise UsageError(f"--out {path} would write {written.name} over the input; name another file")
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}."):
            pass
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}; name another place with --out") from None
