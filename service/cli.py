"""The command line: parse, call, print. Errors are one line on stderr, never a traceback.

Exit codes: 0 all rows succeeded, 3 finished with failed rows, 1 the batch failed, 2 bad usage or
configuration (an unreachable or refusing AWS included), 130 interrupted.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console

from service import embedded, local, render
from service.app import ROLES, agent_opener, aws_options, connect, serve
from service.app import setup as create
from service.aws.clients import open_clients
from service.catalog import load_catalog
from service.errors import BatchRejectedError, RowfleetError, UsageError
from service.mapping import Catalog
from service.model import BatchView, State
from service.settings import Settings, describe, load_settings
from service.status import failures, require, status_json
from service.submit import Request, follow, readable, submit
from service.telemetry import Metrics, configure_logging

EXIT_OK, EXIT_BATCH_FAILED, EXIT_USAGE, EXIT_FAILED_ROWS, EXIT_INTERRUPTED = 0, 1, 2, 3, 130

T = TypeVar("T")

app = typer.Typer(
    name="rowfleet",
    help="Run every row of a CSV through any agent or tool, exactly once in the result.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
out = Console(soft_wrap=False)
err = Console(stderr=True)

MappingsOption = Annotated[
    Path | None, typer.Option("--mappings", help="Folder of mappings.", show_default=False)
]
SchemasOption = Annotated[
    Path | None, typer.Option("--schemas", help="Folder of schemas.", show_default=False)
]
MappingOption = Annotated[str, typer.Option("--mapping", "-m", help="Name of the mapping (its file's stem).")]
EndpointOption = Annotated[
    str | None,
    typer.Option("--endpoint-url", help="AWS endpoint, e.g. of `rowfleet local`.", show_default=False),
]
RegionOption = Annotated[str | None, typer.Option("--region", help="AWS region.", show_default=False)]
JsonOption = Annotated[bool, typer.Option("--json", help="Machine-readable output on stdout.")]
LimitOption = Annotated[
    int | None, typer.Option("--limit", min=1, help="Only the first N rows.", show_default=False)
]
BatchArgument = Annotated[str, typer.Argument(metavar="BATCH", help="Batch id, e.g. my-tool#my-run.")]


@app.command()
def run(
    source: Annotated[Path, typer.Argument(metavar="IN.csv", help="The file to process.")],
    mapping: MappingOption,
    target: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Result file (default: IN.output.csv).", show_default=False),
    ] = None,
    limit: LimitOption = None,
    as_json: JsonOption = False,
    mappings: MappingsOption = None,
    schemas: SchemasOption = None,
) -> None:
    """Process a file on this machine: the whole pipeline, with an embedded AWS endpoint."""
    settings = _settings(mappings=mappings, schemas=schemas)
    catalog = load_catalog(settings.mappings, settings.schemas)
    request = Request(str(readable(str(source))), mapping, limit=limit)
    path = target or source.with_name(f"{source.stem}.output.csv")
    _check_agent(settings, catalog, mapping)
    _check_writable(path)
    _log(settings, quiet_on_terminal=True)
    _exit(_call(_run(settings, catalog, request, path, as_json=as_json)))


async def _run(settings: Settings, catalog: Catalog, request: Request, path: Path, *, as_json: bool) -> int:
    # Nothing outlives this command, so an interrupted run has nothing to drain for.
    settings = settings.model_copy(update={"drain_timeout_s": 2.0})
    stop = asyncio.Event()
    async with local.local_service(settings, catalog.definition, ROLES, stop) as service:
        with render.progress(err, quiet=as_json) as report:
            view = await local.run_file(service, request, settings.bucket, report.update)
        files: dict[str, Path] = {}
        if not view.batch.error:
            files = await _fetch_somewhere(service, view, path)
        status = status_json(view, service.backend.clock)
    if as_json:
        _print_json({**status, "files": {name: str(file) for name, file in files.items()}})
    else:
        render.show_finished(out, status, files)
    return _exit_code(view)


async def _fetch_somewhere(service: local.Local, view: BatchView, path: Path) -> dict[str, Path]:
    """The results at `path`; where that fails (a full disk), in the temporary folder: they were paid for."""
    try:
        return await local.fetch_results(service.backend, view, path)
    except OSError as error:
        spare = Path(tempfile.gettempdir()) / path.name
        err.print(f"rowfleet: cannot write {path}: {error.strerror}; writing to {spare} instead", style="red")
        try:
            return await local.fetch_results(service.backend, view, spare)
        except OSError as second:
            raise UsageError(
                f"cannot write {spare} either: {second.strerror}; the results are lost: make room, or name "
                "another place with --out"
            ) from None


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
    settings = _settings(mappings=mappings, schemas=schemas)
    catalog = load_catalog(settings.mappings, settings.schemas)
    chosen = _roles(roles)
    _log(settings)
    _call(_local(settings, catalog, chosen, port, data))


async def _local(
    settings: Settings, catalog: Catalog, roles: list[str], port: int, data: Path | None
) -> None:
    stop = _stop_on_signals()
    metrics = _metrics(settings, roles)
    async with local.local_service(
        settings, catalog.definition, roles, stop, port=port, data_dir=data, metrics=metrics
    ) as service:
        first = catalog.names[0] if catalog.names else "NAME"
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
            f"# drop a file:  aws s3 cp FILE.csv s3://{settings.bucket}/{settings.incoming_prefix}{first}/",
            f"# its result:   aws s3 ls --recursive s3://{settings.bucket}/results/",
            "# Ctrl-C or SIGTERM stops",
        ]
        print("\n".join(lines), flush=True)  # noqa: T201 -- to be pasted into a shell: no wrapping, no colour
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
    settings = _settings(mappings=mappings, schemas=schemas, endpoint_url=endpoint_url, region=region)
    chosen = _roles(roles)
    if not chosen:
        raise UsageError("--roles none: a service process plays at least one role")
    catalog = load_catalog(settings.mappings, settings.schemas)
    _log(settings)
    _call(_serve(settings, catalog, chosen))


async def _serve(settings: Settings, catalog: Catalog, roles: list[str]) -> None:
    stop = _stop_on_signals()
    async with connect(settings, aws_options(settings), _metrics(settings, roles)) as backend:
        await serve(backend, settings, catalog.definition, roles, stop)


@app.command()
def setup(endpoint_url: EndpointOption = None, region: RegionOption = None) -> None:
    """Create, or check, queues, table, bucket and notification on any endpoint."""
    settings = _settings(endpoint_url=endpoint_url, region=region)
    _log(settings, quiet_on_terminal=True)

    async def call() -> list[str]:
        async with open_clients(aws_options(settings)) as clients:
            return await create(clients, settings)

    for line in _call(call()):
        out.print(line, highlight=False, soft_wrap=True)


@app.command(name="submit")
def submit_(
    source: Annotated[str, typer.Argument(metavar="FILE|s3://…", help="A local file, or one in S3.")],
    mapping: MappingOption,
    execution_id: Annotated[
        str, typer.Option(help="Name of this run; the same name is never run twice.")
    ] = "",
    limit: LimitOption = None,
    wait: Annotated[bool, typer.Option("--wait", help="Follow it to its end; exit as `run` does.")] = False,
    as_json: JsonOption = False,
    endpoint_url: EndpointOption = None,
    region: RegionOption = None,
) -> None:
    """Start a run on a deployed or local service."""
    settings = _settings(endpoint_url=endpoint_url, region=region)
    _log(settings, quiet_on_terminal=True)
    if not source.startswith("s3://"):
        readable(source)

    async def call() -> int:
        async with connect(settings, aws_options(settings)) as backend:
            id_ = await submit(
                Request(source, mapping, execution_id, limit),
                table=backend.table,
                objects=backend.objects,
                ingest=backend.ingest,
                clock=backend.clock,
                bucket=settings.bucket,
            )
            if wait:
                if not as_json:
                    err.print(id_, highlight=False)
                return await _follow(backend, id_, as_json=as_json)
        if as_json:
            _print_json({"batch_id": id_})
        else:
            print(id_)  # noqa: T201 -- one line, for scripts
        return EXIT_OK

    _exit(_call(call()))


@app.command()
def status(
    batch: BatchArgument,
    as_json: JsonOption = False,
    endpoint_url: EndpointOption = None,
    region: RegionOption = None,
) -> None:
    """How far a batch is."""
    settings = _settings(endpoint_url=endpoint_url, region=region)
    _log(settings, quiet_on_terminal=True)

    async def call() -> dict[str, Any]:
        async with connect(settings, aws_options(settings)) as backend:
            return status_json(await require(backend.table, batch), backend.clock)

    answer = _call(call())
    if as_json:
        _print_json(answer)
    else:
        render.show_status(out, answer)


@app.command()
def watch(
    batch: BatchArgument,
    as_json: JsonOption = False,
    endpoint_url: EndpointOption = None,
    region: RegionOption = None,
) -> None:
    """Follow a batch to its end; exit as `run` does."""
    settings = _settings(endpoint_url=endpoint_url, region=region)
    _log(settings, quiet_on_terminal=True)

    async def call() -> int:
        async with connect(settings, aws_options(settings)) as backend:
            await require(backend.table, batch)
            return await _follow(backend, batch, as_json=as_json)

    _exit(_call(call()))


@app.command(name="list")
def list_(
    limit: Annotated[int, typer.Option("--limit", min=1, max=1_000, help="The latest N.")] = 20,
    as_json: JsonOption = False,
    endpoint_url: EndpointOption = None,
    region: RegionOption = None,
) -> None:
    """The latest batches."""
    settings = _settings(endpoint_url=endpoint_url, region=region)
    _log(settings, quiet_on_terminal=True)

    async def call() -> list[BatchView | None]:
        async with connect(settings, aws_options(settings)) as backend:
            batches = await backend.table.recent(limit)
            views = (
                await asyncio.gather(*(backend.table.read(b.batch_id) for b in batches)) if as_json else []
            )
            if as_json:
                _print_json([status_json(view, backend.clock) for view in views if view])
            else:
                render.show_batches(out, batches)
            return list(views)

    _call(call())


@app.command()
def errors(
    batch: BatchArgument,
    as_json: JsonOption = False,
    endpoint_url: EndpointOption = None,
    region: RegionOption = None,
) -> None:
    """Why rows failed, grouped by cause."""
    settings = _settings(endpoint_url=endpoint_url, region=region)
    _log(settings, quiet_on_terminal=True)

    async def call() -> tuple[BatchView, list[Any]]:
        async with connect(settings, aws_options(settings)) as backend:
            view = await require(backend.table, batch)
            return view, await failures(backend.table, view.batch)

    view, groups = _call(call())
    if as_json:
        _print_json(
            {
                "batch_id": batch,
                "state": str(view.batch.state),
                "error": view.batch.error or None,
                "failed": view.counts.failed,
                "causes": [group.as_json() for group in groups],
            }
        )
        return
    if view.batch.error:
        out.print(f"the batch failed: {view.batch.error}", style="red", markup=False)
    render.show_failures(out, groups)


@app.command()
def settings(as_json: JsonOption = False) -> None:
    """Every setting: value, default, unit, and where it came from."""
    lines = describe(_settings())
    if as_json:
        _print_json(
            {
                line.name: {
                    "value": line.value, "default": line.default, "unit": line.unit or None,
                    "origin": line.origin, "description": line.description,
                }
                for line in lines
            }
        )  # fmt: skip
    else:
        render.show_settings(out, lines)


def main() -> None:
    """The `rowfleet` command: typer answers bad usage, this every error of ours."""
    try:
        app()
    except BatchRejectedError as error:
        _say(str(error))
        sys.exit(EXIT_BATCH_FAILED)
    except RowfleetError as error:
        _say(str(error))
        sys.exit(EXIT_USAGE)
    except OSError as error:
        _say(f"{error.filename or 'input/output'}: {error.strerror or error}")
        sys.exit(EXIT_USAGE)


def _say(message: str) -> None:
    err.print(f"rowfleet: {message}", style="red", markup=False, highlight=False, soft_wrap=True)


def _settings(
    *,
    mappings: Path | None = None,
    schemas: Path | None = None,
    endpoint_url: str | None = None,
    region: str | None = None,
) -> Settings:
    overrides: dict[str, Any] = {}
    if mappings is not None:
        overrides["mappings"] = mappings
    if schemas is not None:
        overrides["schemas"] = schemas
    loaded = load_settings(overrides)
    aws = {k: v for k, v in (("endpoint_url", endpoint_url), ("region", region)) if v}
    return loaded.model_copy(update={"aws": loaded.aws.model_copy(update=aws)}) if aws else loaded


def _roles(text: str) -> list[str]:
    if text == "all":
        return list(ROLES)
    names = [] if text == "none" else [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in ROLES:
            later = "comes with a later version of rowfleet" if name == "sweeper" else "is not a role"
            raise UsageError(f"--roles: {name!r} {later}; there are {', '.join(ROLES)}")
    return names


def _check_agent(settings: Settings, catalog: Catalog, name: str) -> None:
    """Open and close the agent once, so that a missing variable is said before anything runs."""
    mapping = catalog.definition(name).compile()

    async def check() -> None:
        await agent_opener(settings)(mapping).close()

    asyncio.run(check())


def _check_writable(path: Path) -> None:
    """Fail before a row is spent where the result could not be written in the end."""
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}."):
            pass
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}; name another place with --out") from None


async def _follow(backend: Any, id_: str, *, as_json: bool) -> int:
    view: BatchView | None = None
    with render.progress(err, quiet=as_json) as report:
        async for view in follow(backend.table, backend.clock, id_):
            report.update(view)
    assert view is not None
    answer = status_json(view, backend.clock)
    if as_json:
        _print_json(answer)
    else:
        files = {name: answer[name] for name in ("output", "failures", "manifest") if answer[name]}
        render.show_finished(out, answer, files)
    return _exit_code(view)


def _exit_code(view: BatchView) -> int:
    if view.batch.state is State.SUCCEEDED:
        return EXIT_OK
    return EXIT_FAILED_ROWS if view.batch.state is State.COMPLETED_WITH_ERRORS else EXIT_BATCH_FAILED


def _exit(code: int) -> None:
    raise typer.Exit(code)


def _call(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end. An interrupt ends it in order and exits 130."""
    try:
        return asyncio.run(work)
    except (KeyboardInterrupt, asyncio.CancelledError):
        _say("interrupted")
        raise typer.Exit(EXIT_INTERRUPTED) from None


def _stop_on_signals() -> asyncio.Event:
    """SIGTERM or SIGINT asks to stop in order; the second one stops at once."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    main_task = asyncio.current_task()
    assert main_task is not None

    def on_signal() -> None:
        if stop.is_set():
            main_task.cancel()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    return stop


def _log(settings: Settings, *, quiet_on_terminal: bool = False) -> None:
    """Logs go to stderr; a command that shows progress logs errors only, unless more was asked for."""
    as_json = settings.log_format == "json" or (settings.log_format == "auto" and not sys.stderr.isatty())
    level = settings.log_level
    if quiet_on_terminal and "log_level" not in settings.model_fields_set:
        level = "error"
    configure_logging(level, as_json=as_json and not quiet_on_terminal)


def _metrics(settings: Settings, roles: list[str]) -> Metrics:
    """Written to stdout, where CloudWatch Logs reads them; kept in memory on a terminal."""
    as_json = settings.log_format == "json" or (settings.log_format == "auto" and not sys.stderr.isatty())
    emit = (lambda line: print(line, flush=True)) if as_json else None  # noqa: T201 -- the metric line itself
    return Metrics({"service": settings.prefix, "role": "+".join(sorted(roles))}, emit)


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))  # noqa: T201 -- for scripts
