"""One batch of the store served by this process, until it ends, is held, or the user stops it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from service.app.laptop.backend import LaptopBackend
from service.app.laptop.home import Home
from service.app.laptop.inbox import watch_inbox
from service.app.laptop.pipeline import Stop, running_pipeline
from service.app.settings import Settings
from service.app.status import undelivered_events
from service.app.submit import Reading, follow
from service.catalog.folders import ReadMappingFiles
from service.domain.model import Batch, BatchView, State

EVENTS_WAIT_S = 15.0
"""Longest wait for the delivery of events. What is left is delivered by the next process of the store."""

LONGEST_POLL_S = 0.25
"""Longest pause between two readings of the batch: it is in this process."""


@dataclass(frozen=True, slots=True)
class Served:
    """A batch as it was left: None if it was not opened. `was_stopped`: the user has stopped it."""

    view: BatchView | None
    was_stopped: bool = False
    undelivered: int = 0


class BatchServer:
    """Serves batches of one store. `on_reading` is told how far a batch is."""

    def __init__(
        self,
        home: Home,
        backend: LaptopBackend,
        settings: Settings,
        mappings: ReadMappingFiles,
        stop: Stop,
        on_reading: Callable[[Reading], None],
    ) -> None:
        self._home = home
        self._backend = backend
        self._settings = settings
        self._mappings = mappings
        self._stop = stop
        self._on_reading = on_reading

    async def serve(self, batch_id: str, begin: Callable[[], Awaitable[object]] | None = None) -> Served:
        """Run the pipeline for the batch that `begin` has work for, and follow it.

        Without `begin` its messages are in the queues already. Raises the errors of `begin`, and of a role
        that cannot go on.
        """
        ports = self._backend.ports
        undelivered = 0
        async with (
            running_pipeline(self._backend, self._settings, self._mappings, batch_id, self._stop),
            _alongside(watch_inbox(self._home, ports)),
        ):
            if begin is not None:
                await begin()
            ended = await self._follow(batch_id)
            if ended is not None:
                undelivered = await self._await_events(ended.batch)
        # Read after the drain: calls that were under way have ended, and are counted.
        view = await ports.table.read(batch_id)
        was_stopped = self._stop.asked.is_set() and not (view is not None and _is_over(view))
        return Served(view, was_stopped, undelivered)

    async def _follow(self, batch_id: str) -> BatchView | None:
        """Report the batch until it ends or is held, and return it; None once the user stops."""

        async def follow_it() -> BatchView | None:
            view: BatchView | None = None
            async for reading in follow(self._backend.ports, batch_id, longest_s=LONGEST_POLL_S):
                view = reading.view
                self._on_reading(reading)
            return view

        following = asyncio.ensure_future(follow_it())
        stopping = asyncio.ensure_future(self._stop.asked.wait())
        try:
            await asyncio.wait({following, stopping}, return_when=asyncio.FIRST_COMPLETED)
            return following.result() if following.done() else None
        finally:
            following.cancel()
            stopping.cancel()
            await asyncio.gather(following, stopping, return_exceptions=True)

    async def _await_events(self, batch: Batch) -> int:
        """Wait until the batch's events are delivered; return how many are not."""
        table, clock = self._backend.ports.table, self._backend.ports.clock
        ends_at = clock.monotonic() + EVENTS_WAIT_S
        left = await undelivered_events(table, batch)
        while left and clock.monotonic() < ends_at and not self._stop.asked.is_set():
            await clock.sleep(0.1)
            left = await undelivered_events(table, batch)
        return left


def _is_over(view: BatchView) -> bool:
    return view.batch.state.is_final or view.batch.state is State.PAUSED


@asynccontextmanager
async def _alongside(helper: Awaitable[None]) -> AsyncIterator[None]:
    """Run a helper that never ends while the body runs."""
    task = asyncio.ensure_future(helper)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
