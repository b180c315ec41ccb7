"""Commands about batches: `submit`, `status`, `watch`, `list`, `errors`."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer

from service import render
from service.app import Backend, aws_options, connect
from service.cli.console import EXIT_OK, call, err, exit_code, exit_with, out, print_json, print_line
from service.cli.options import (
    BatchArgument,
    EndpointOption,
    JsonOption,
    LimitOption,
    MappingOption,
    RegionOption,
    log_command,
    settings_of,
)
from service.model import BatchView
from service.status import FailureGroup, failures, require, status_json
from service.submit import Request, follow, readable, submit

app = typer.Typer()


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
    settings = settings_of(endpoint_url=endpoint_url, region=region)
    log_command(settings)
    if not source.startswith("s3://"):
        readable(source)

    async def work() -> int:
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
            print_json({"batch_id": id_})
        else:
            print_line(id_)
        return EXIT_OK

    exit_with(call(work()))


@app.command()
def status(
    batch: BatchArgument,
    as_json: JsonOption = False,
    endpoint_url: EndpointOption = None,
    region: RegionOption = None,
) -> None:
    """How far a batch is."""
    settings = settings_of(endpoint_url=endpoint_url, region=region)
    log_command(settings)

    async def work() -> dict[str, Any]:
        async with connect(settings, aws_options(settings)) as backend:
            return status_json(await require(backend.table, batch), backend.clock)

    answer = call(work())
    if as_json:
        print_json(answer)
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
    settings = settings_of(endpoint_url=endpoint_url, region=region)
    log_command(settings)

    async def work() -> int:
        async with connect(settings, aws_options(settings)) as backend:
            await require(backend.table, batch)
            return await _follow(backend, batch, as_json=as_json)

    exit_with(call(work()))


@app.command(name="list")
def list_(
    limit: Annotated[int, typer.Option("--limit", min=1, max=1_000, help="The latest N.")] = 20,
    as_json: JsonOption = False,
    endpoint_url: EndpointOption = None,
    region: RegionOption = None,
) -> None:
    """The latest batches."""
    settings = settings_of(endpoint_url=endpoint_url, region=region)
    log_command(settings)

    async def work() -> list[BatchView | None]:
        async with connect(settings, aws_options(settings)) as backend:
            batches = await backend.table.recent(limit)
            views = (
                await asyncio.gather(*(backend.table.read(b.batch_id) for b in batches)) if as_json else []
            )
            if as_json:
                print_json([status_json(view, backend.clock) for view in views if view])
            else:
                render.show_batches(out, batches)
            return list(views)

    call(work())


@app.command()
def errors(
    batch: BatchArgument,
    as_json: JsonOption = False,
    endpoint_url: EndpointOption = None,
    region: RegionOption = None,
) -> None:
    """Why rows failed, grouped by cause."""
    settings = settings_of(endpoint_url=endpoint_url, region=region)
    log_command(settings)

    async def work() -> tuple[BatchView, list[FailureGroup]]:
        async with connect(settings, aws_options(settings)) as backend:
            view = await require(backend.table, batch)
            return view, await failures(backend.table, view.batch)

    view, groups = call(work())
    if as_json:
        print_json(
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


async def _follow(backend: Backend, id_: str, *, as_json: bool) -> int:
    view: BatchView | None = None
    with render.progress(err, quiet=as_json) as report:
        async for view in follow(backend.table, backend.clock, id_):
            report.update(view)
    assert view is not None
    answer = status_json(view, backend.clock)
    if as_json:
        print_json(answer)
    else:
        files = {name: answer[name] for name in ("output", "failures", "manifest") if answer[name]}
        render.show_finished(out, answer, files)
    return exit_code(view)
