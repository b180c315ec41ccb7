"""The purge of a batch of either place: asked for, carried out, and told."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import typer

from service.app.laptop.backend import open_laptop
from service.app.laptop.home import Home, local_user
from service.app.laptop.run_book import STDOUT
from service.app.purge import StoredObjects, check_ended, purge
from service.app.settings import Settings
from service.cli.batches.asking import AskedOperation
from service.cli.batches.places import Place, is_here, open_aws, run_on
from service.cli.console import print_json, print_line, run_async
from service.cli.options import log_as_command
from service.domain.errors import UsageError
from service.domain.model import Batch, BatchView
from service.domain.ports import Table
from service.steering.operate import read_existing

MOST_BATCHES = 100_000
"""Batches of this machine that are looked through for one with the same source."""


def purge_and_show(asked: AskedOperation, settings: Settings, *, yes: bool) -> None:
    """Purge a batch, once it is sure that it is meant, and print what was deleted."""

    async def work(place: Place) -> None:
        view = await read_existing(place.ports.table, asked.batch)
        check_ended(view)
        if not yes:
            _ask(view)
        run = await place.runs.of_batch(asked.batch) if place.runs else None
        also = await _of_machine(place, view.batch)
        purged = await purge(place.ports, asked.request(await place.caller()), also=also)
        if asked.as_json:
            print_json({"batch_id": asked.batch, **purged.as_json()})
            return
        print_line(f"{asked.batch} is deleted: {purged.rows:,} rows, {purged.objects:,} objects")
        if run is not None and run.out != STDOUT:
            print_line(f"files that were written to {run.place} stay")

    log_as_command(settings)
    if run_async(is_here(settings, asked.batch, asked.where)):
        run_on(_open_to_write(settings), settings, work)
    else:
        run_on(open_aws(settings, missing=None if asked.where is False else asked.batch), settings, work)


@asynccontextmanager
async def _open_to_write(settings: Settings) -> AsyncIterator[Place]:
    """Open the store of this machine alone. Raises StoreInUseError while another process has it."""
    home = Home(settings.home)

    async def caller() -> str:
        return local_user()

    async def find_queues() -> None:
        """Find nothing: they are in the memory of a process, and empty here."""

    async with open_laptop(home, settings) as backend:
        yield Place(backend.ports, caller, find_queues, home, backend.runs)


def _ask(view: BatchView) -> None:
    """Ask before a batch is deleted. Raises UsageError where nobody can answer."""
    if not sys.stdin.isatty():
        raise UsageError("`purge` deletes for good: give --yes where nobody can be asked")
    batch = view.batch
    rows = f"{view.all_counts.done:,} rows, and their replies and results"
    typer.confirm(f"delete {batch.batch_id} with {rows}, for good?", abort=True, err=True)


async def _of_machine(place: Place, batch: Batch) -> list[StoredObjects]:
    """The other objects of the batch on this machine: the record of the run, and the copy of its file."""
    if place.runs is None:
        return []
    record = StoredObjects(*place.runs.key_of(batch.batch_id), is_prefix=False)
    if await _has_shared_source(place.ports.table, batch):
        return [record]
    return [StoredObjects(batch.source.bucket, batch.source.key, is_prefix=False), record]


async def _has_shared_source(table: Table, batch: Batch) -> bool:
    """True if another batch reads the same file."""
    place = (batch.source.bucket, batch.source.key)
    others = await table.recent(MOST_BATCHES)
    return any(
        (other.source.bucket, other.source.key) == place
        for other in others
        if other.identity != batch.identity
    )
