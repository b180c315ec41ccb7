"""Commands that show how far batches are: `status`, `watch`, `list`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated

import typer

from service.app.aws.backend import DEAD_LETTER_QUEUES, AwsBackend
from service.app.dead_letters import DeadLetterQueues, count_or_none
from service.app.settings import Settings
from service.app.status import (
    read_batch,
)
from service.cli import render
from service.cli.backend import run_on_backend
from service.cli.console import (
    BATCH_CODES,
    COMMAND_CODES,
    EXIT_OK,
    err,
    exit_with,
    out,
    print_json,
)
from service.cli.following import follow_to_end, read_remedies, read_status
from service.cli.options import (
    BatchArgument,
    EndpointOption,
    JsonOption,
    RegionOption,
    read_settings,
)
from service.cli.status import show_status

app = typer.Typer()


Work = Callable[[AwsBackend, Settings, str, bool], Awaitable[int]]
"""A command for one batch: gets the batch's id and `--json`, and returns the exit code."""


def _batch_command(codes: str) -> Callable[[Work], None]:
    """Add a command that has no options of its own; its name and help are those of the function."""

    def add(work: Work) -> None:
        @app.command(name=work.__name__, help=work.__doc__, epilog=codes)
        def command(
            batch: BatchArgument,
            as_json: JsonOption = False,
            endpoint_url: EndpointOption = None,
            region: RegionOption = None,
        ) -> None:
            settings = read_settings(endpoint_url=endpoint_url, region=region)
            exit_with(run_on_backend(settings, lambda backend: work(backend, settings, batch, as_json)))

    return add


@_batch_command(COMMAND_CODES)
async def status(backend: AwsBackend, settings: Settings, batch: str, as_json: bool) -> int:
    """How far a batch is, and what keeps it."""
    view = await read_batch(backend.ports.table, batch)
    status_object = await read_status(backend, view, settings)
    counts = await _dead_letters(backend, settings)
    if as_json:
        print_json(status_object | {"dead_letters": counts})
    else:
        show_status(out, status_object, await read_remedies(backend, view, status_object))
        render.show_dead_letter_count(err, counts)
    return EXIT_OK


@_batch_command(BATCH_CODES)
async def watch(backend: AwsBackend, settings: Settings, batch: str, as_json: bool) -> int:
    """Follow a batch until it ends or is held; exit as `run` does."""
    await read_batch(backend.ports.table, batch)
    return await follow_to_end(backend, batch, settings, as_json=as_json)


@app.command(name="list")
def list_(
    limit: Annotated[int, typer.Option("--limit", min=1, max=1_000, help="The latest N.")] = 20,
    as_json: JsonOption = False,
    endpoint_url: EndpointOption = None,
    region: RegionOption = None,
) -> None:
    """The latest batches."""

    async def work(backend: AwsBackend) -> None:
        batches = await backend.ports.table.recent(limit)
        if as_json:
            views = await asyncio.gather(*(backend.ports.table.read(found.batch_id) for found in batches))
            print_json(
                await asyncio.gather(*(read_status(backend, view, settings) for view in views if view))
            )
        else:
            render.show_batches(out, batches)
        render.show_dead_letter_count(err, await _dead_letters(backend, settings))

    settings = read_settings(endpoint_url=endpoint_url, region=region)
    run_on_backend(settings, work)


async def _dead_letters(backend: AwsBackend, settings: Settings) -> dict[str, int] | None:
    """The number of dead letters by queue; None if they cannot be counted."""
    queues = DeadLetterQueues(backend.ports.queues, backend.ports.table, settings.incoming_prefix)
    return await count_or_none(backend.find_queues(DEAD_LETTER_QUEUES), queues)
