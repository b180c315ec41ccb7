"""All roles in this process, which serve one batch of the store and leave all others as they are."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from service.app.events.receivers import Receivers
from service.app.laptop.backend import LaptopBackend
from service.app.roles import Role
from service.app.settings import Settings
from service.app.wiring.builder import open_builder
from service.catalog.folders import ReadMappingFiles
from service.catalog.live import LiveCatalog
from service.runtime.metrics import count_retries
from service.runtime.tasks import task_group

ROLES = ("splitter", "worker", "aggregator", "sweeper")


class Stop:
    """The wish of the user that the process ends: first `asked`, then, if that takes too long, `cut`."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.cut = asyncio.Event()

    def signal(self) -> None:
        """Take an interrupt: the first asks, the second cuts."""
        if self.asked.is_set():
            self.cut.set()
        self.asked.set()


@asynccontextmanager
async def running_pipeline(
    backend: LaptopBackend, settings: Settings, mappings: ReadMappingFiles, batch_id: str, stop: Stop
) -> AsyncIterator[None]:
    """Run all roles while the body runs, for this batch only.

    At the end no call begins, and the calls under way end and are committed; `stop.cut` cuts them. An error
    of a role, or of the store, cancels the body and all calls, and is raised.
    """
    ports = backend.ports
    count_retries(ports.metrics)
    async with AsyncExitStack() as stack:
        catalog = LiveCatalog(mappings, ports.clock, ports.metrics, refresh_s=settings.config.refresh_s)
        receivers = await _open_receivers(settings, stack)
        name = f"laptop-{os.getpid()}-{uuid.uuid4().hex[:6]}"
        builder = await open_builder(
            ports, settings, catalog, receivers, stack, worker_name=name, only_batch=batch_id
        )
        roles = [
            Role(role, builder.parts(role), [catalog.load] if role == "splitter" else [], ports.clock)
            for role in ROLES
        ]
        async with _beside(roles, backend, stop):
            yield


@asynccontextmanager
async def _beside(roles: list[Role], backend: LaptopBackend, stop: Stop) -> AsyncIterator[None]:
    """Run the roles beside the body; then drain them, or cut them once that is asked for."""
    ended = asyncio.Event()

    async def run() -> None:
        async with asyncio.TaskGroup() as group:
            for role in roles:
                group.create_task(role.run(ended))

    async with task_group() as group:
        working = group.create_task(run())
        failing = group.create_task(_raise_failure(backend))
        try:
            yield
        finally:
            ended.set()
            backend.close_queues()
            await _drained(working, stop)
            failing.cancel()


async def _raise_failure(backend: LaptopBackend) -> None:
    """Raise the error of the store, once there is one: no call begins whose answer could not be kept."""
    raise await backend.failure.wait()


async def _drained(working: asyncio.Task[None], stop: Stop) -> None:
    """Wait for the end of the roles; cancel them once the user wants that."""
    cut = asyncio.ensure_future(stop.cut.wait())
    try:
        await asyncio.wait({working, cut}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            working.cancel()
            await asyncio.wait({working})
    finally:
        cut.cancel()


async def _open_receivers(settings: Settings, stack: AsyncExitStack) -> Receivers:
    """The targets of events that the settings name. No task waits for a batch of a laptop."""
    if settings.events.event_bus or settings.events.topic_arn:
        # Imported when they are asked for: clients of AWS take half a second.
        from service.app.aws.backend import aws_options  # noqa: PLC0415
        from service.app.events.aws_receivers import open_receivers  # noqa: PLC0415

        opened = await stack.enter_async_context(open_receivers(aws_options(settings), settings))
        return Receivers(opened.targets)
    if settings.events.webhook_url.get_secret_value():
        from service.app.events.webhook_target import open_webhook  # noqa: PLC0415

        if webhook := await open_webhook(settings, stack):
            return Receivers((webhook,))
    return Receivers(())
