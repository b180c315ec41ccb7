"""Commands that show how far batches are: `status`, `watch`, `list`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated

import typer

from service.app.dead_letters import DeadLetterQueues, count_or_none
from service.app.settings import Settings
from service.app.status import read_batch
from service.cli import render
from service.cli.batches.following import follow_to_end, read_remedies, read_source, read_status
from service.cli.batches.places import Place, open_latest, open_place, place_option, run_on
from service.cli.console import (
    BATCH_CODES,
    COMMAND_CODES,
    EXIT_OK,
    err,
    exit_with,
    out,
    print_json,
)
from service.cli.options import (
    BatchArgument,
    EndpointOption,
    JsonOption,
    PlaceOption,
    RegionOption,
    read_settings,
)
from service.cli.status import show_status
from service.cli.views.batch_list import show_batches

app = typer.Typer()


Work = Callable[[Place, Settings, str, bool], Awaitable[int]]
"""A command for one batch: gets the batch's id and `--json`, and returns the exit code."""


def _batch_command(codes: str) -> Callable[[Work], None]:
    """Add a command that has no options of its own; its name and help are those of the function."""

    def add(work: Work) -> None:
        @app.command(name=work.__name__, help=work.__doc__, epilog=codes)
        def command(
            batch: BatchArgument,
            as_json: JsonOption = False,
            where: PlaceOption = None,
            endpoint_url: EndpointOption = None,
            region: RegionOption = None,
        ) -> None:
            settings = read_settings(endpoint_url=endpoint_url, region=region)
            side = place_option(where, endpoint_url, region)
            opened = open_place(settings, batch, side)
            exit_with(run_on(opened, settings, lambda place: work(place, settings, batch, as_json)))

    return add


@_batch_command(COMMAND_CODES)
async def status(place: Place, settings: Settings, batch: str, as_json: bool) -> int:
    """How far a batch is, and what keeps it."""
    view = await read_batch(place.ports.table, batch)
    status_object = await read_status(place, view, settings)
    counts = await _dead_letters(place, settings)
    if as_json:
        print_json(status_object | {"dead_letters": counts})
    else:
        show_status(out, status_object, await read_remedies(place, view, status_object))
        render.show_dead_letter_count(err, counts)
    return EXIT_OK


@_batch_command(BATCH_CODES)
async def watch(place: Place, settings: Settings, batch: str, as_json: bool) -> int:
    """Follow a batch until it ends or is held; exit as `run` does."""
    await read_batch(place.ports.table, batch)
    return await follow_to_end(place, batch, settings, as_json=as_json)


@app.command(name="list")
def list_(
    limit: Annotated[int, typer.Option("--limit", min=1, max=1_000, help="The latest N.")] = 20,
    as_json: JsonOption = False,
    where: PlaceOption = None,
    endpoint_url: EndpointOption = None,
    region: RegionOption = None,
) -> None:
    """The latest batches: those of this machine if it has any, or those on AWS."""

    async def work(place: Place) -> None:
        batches = await place.ports.table.recent(limit)
        found = await asyncio.gather(*(place.ports.table.read(batch.batch_id) for batch in batches))
        views = [view for view in found if view is not None]
        if as_json:
            print_json(await asyncio.gather(*(read_status(place, view, settings) for view in views)))
        else:
            show_batches(out, [(view, await read_source(place, view.batch)) for view in views])
        render.show_dead_letter_count(err, await _dead_letters(place, settings))

    settings = read_settings(endpoint_url=endpoint_url, region=region)
    run_on(open_latest(settings, place_option(where, endpoint_url, region)), settings, work)


async def _dead_letters(place: Place, settings: Settings) -> dict[str, int] | None:
    """The number of dead letters by queue; None if they cannot be counted."""
    queues = DeadLetterQueues(place.ports.queues, place.ports.table, settings.incoming_prefix)
    return await count_or_none(place.find_dead_letters(), queues)
