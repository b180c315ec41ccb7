"""The place of a batch: the store of this machine, which is looked into first, or AWS."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from service.app.laptop.backend import open_laptop
from service.app.laptop.home import Home, local_user
from service.app.laptop.run_book import RunBook
from service.app.settings import Settings
from service.batch.role_ports import Ports
from service.cli.console import run_async
from service.cli.options import log_as_command
from service.domain.errors import ConfigError, UsageError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Place:
    """A backend that has batches. `home` and `runs` are those of the store of this machine, None on AWS.

    `caller` names who runs the command. `find_dead_letters` must be called before the queues of dead letters
    are used.
    """

    ports: Ports
    caller: Callable[[], Awaitable[str]]
    find_dead_letters: Callable[[], Awaitable[None]]
    home: Home | None = None
    runs: RunBook | None = None


def place_option(where: bool | None, endpoint_url: str | None, region: str | None) -> bool | None:
    """The value of --local/--aws: True, False, or None for both. An endpoint or a region means AWS.

    Raises UsageError if both are named.
    """
    if endpoint_url or region:
        if where:
            raise UsageError(
                "--local looks in the store of this machine: leave out --endpoint-url and --region"
            )
        return False
    return where


async def is_here(settings: Settings, batch_id: str, where: bool | None) -> bool:
    """True if the batch is in the store of this machine. Raises UsageError if it must be and is not."""
    home = Home(settings.home)
    if where is False or not (where or home.has_store):
        return False
    async with open_laptop(home, settings, read_only=True) as backend:
        if await backend.ports.table.read(batch_id) is not None:
            return True
    if where:
        raise UsageError(
            f"there is no batch {batch_id!r} in {home.folder}; `rowfleet list --local` shows the latest"
        )
    return False


@asynccontextmanager
async def open_place(settings: Settings, batch_id: str, where: bool | None) -> AsyncIterator[Place]:
    """Open the place of a batch to read. Raises UsageError, ConfigError, AccessError and RetryableError."""
    if await is_here(settings, batch_id, where):
        async with open_here(settings) as place:
            yield place
        return
    async with open_aws(settings, missing=None if where is False else batch_id) as place:
        yield place


@asynccontextmanager
async def open_here(settings: Settings) -> AsyncIterator[Place]:
    """Open the store of this machine to read, beside the process that writes to it. Raises StoreError."""
    home = Home(settings.home)

    async def caller() -> str:
        return local_user()

    async def find_queues() -> None:
        """Find nothing: they are in the memory of a process, and empty here."""

    async with open_laptop(home, settings, read_only=True) as backend:
        yield Place(backend.ports, caller, find_queues, home, backend.runs)


@asynccontextmanager
async def open_aws(settings: Settings, *, missing: str | None = None) -> AsyncIterator[Place]:
    """Open AWS. `missing` is a batch that was looked for on this machine first, "" for any.

    None if only AWS is meant.

    Raises ConfigError, UsageError, AccessError and RetryableError.
    """
    from service.app.aws.backend import (  # noqa: PLC0415 -- takes half a second
        DEAD_LETTER_QUEUES,
        aws_options,
        connect,
    )
    from service.app.aws.identity import caller  # noqa: PLC0415

    try:
        options = aws_options(settings)
    except ConfigError as error:
        if missing is None:
            raise
        here = f"there is no store in {settings.home}"
        if Home(settings.home).has_store:
            here = (
                f"there is no batch {missing!r} in {settings.home} (`rowfleet list` shows the latest there)"
            )
        raise UsageError(f"{here}, and AWS was not asked: {error}") from None
    async with connect(settings, options) as backend:
        find_dead_letters = partial(backend.find_queues, DEAD_LETTER_QUEUES)
        yield Place(backend.ports, partial(caller, options), find_dead_letters)


@asynccontextmanager
async def open_latest(settings: Settings, where: bool | None) -> AsyncIterator[Place]:
    """Open the place whose batches are listed: this machine if it has a store, or AWS.

    Raises StoreError, ConfigError, AccessError and RetryableError.
    """
    here = where or (where is None and Home(settings.home).has_store)
    missing = None if where is False else ""
    async with open_here(settings) if here else open_aws(settings, missing=missing) as place:
        yield place


@asynccontextmanager
async def open_queues(settings: Settings, where: bool | None) -> AsyncIterator[Place]:
    """Open the place whose dead letters are looked at: AWS, unless there is only a store of this machine.

    The queues of this machine are in the memory of a run, so there are no dead letters here.
    """
    here = where or (where is None and Home(settings.home).has_store and not _knows_aws(settings))
    async with open_here(settings) if here else open_aws(settings) as place:
        yield place


def _knows_aws(settings: Settings) -> bool:
    """True if there is a region of AWS."""
    from service.app.aws.backend import aws_options  # noqa: PLC0415 -- takes half a second

    try:
        aws_options(settings)
    except ConfigError:
        return False
    return True


def run_on(
    opened: AbstractAsyncContextManager[Place], settings: Settings, work: Callable[[Place], Awaitable[T]]
) -> T:
    """Run `work` on a place that is opened for it."""
    log_as_command(settings)

    async def on_place() -> T:
        async with opened as place:
            return await work(place)

    return run_async(on_place())
