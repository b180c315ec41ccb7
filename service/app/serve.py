"""Running roles: `serve` plays them on a backend until told to stop."""

from __future__ import annotations

import asyncio
import os
import socket
import uuid
from collections.abc import Callable, Collection, Sequence
from contextlib import AsyncExitStack
from functools import partial

import structlog

from service.app import wiring
from service.app.backend import NEEDED_QUEUES, Backend
from service.app.health import serve_health
from service.app.roles import Part, Precondition, Role, ServiceRoles
from service.app.settings import Settings
from service.app.task_protection import protect_task
from service.batch.completion import Completion
from service.catalog.folders import ReadMappingFiles
from service.catalog.live import LiveCatalog
from service.runtime.telemetry import count_retries

log = structlog.get_logger(__name__)

ROLES = tuple(NEEDED_QUEUES)
"""Every role that `serve` can play."""

NO_BATCH = "rowfleet#readiness"
"""A batch id that is read to see whether the table is there."""

ECS_AGENT_URI = "ECS_AGENT_URI"
"""Set by ECS in every task: the container agent's address."""


async def serve(
    backend: Backend,
    settings: Settings,
    mappings: ReadMappingFiles,
    roles: Collection[str],
    stop: asyncio.Event,
    *,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Play `roles` until `stop` is set and everything held is finished or given back.

    New runs take their mappings from the files that `mappings` reads. A role waits for what it needs and
    cannot use yet: queues, the table, mappings. `on_ready` is called with the health URL once everything was
    begun. Raises ConfigError.
    """
    worker_name = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
    count_retries(backend.metrics)
    async with AsyncExitStack() as stack:
        catalog = LiveCatalog(mappings, backend.clock, backend.metrics, refresh_s=settings.config.refresh_s)
        playing = {
            name: Role(name, runners, _needs(backend, catalog, name), backend.clock)
            for name, runners in (await _runners(backend, settings, catalog, worker_name, stack)).items()
            if name in roles
        }
        duty = ServiceRoles(playing, catalog, stop)
        health = serve_health(settings.health.host, settings.health.port, duty.readiness, duty.parts)
        url = await stack.enter_async_context(health)
        log.info("service_started", roles=sorted(playing), worker=worker_name, health=url)
        async with asyncio.TaskGroup() as group:
            flusher = group.create_task(_flush_metrics(backend, duty, settings.metrics_interval_s))
            keeper = group.create_task(catalog.refresh_forever())
            if agent_uri := os.environ.get(ECS_AGENT_URI):
                group.create_task(protect_task(agent_uri, duty.held, backend.clock, stop))
            running = [group.create_task(role.run(stop)) for role in playing.values()]
            if on_ready is not None:
                on_ready(url)
            await stop.wait()
            if running:
                await asyncio.wait(running)
            flusher.cancel()
            keeper.cancel()
    backend.metrics.flush(backend.clock.now_ms())
    log.info("service_stopped", roles=sorted(playing))


async def _runners(
    backend: Backend, settings: Settings, catalog: LiveCatalog, name: str, stack: AsyncExitStack
) -> dict[str, Sequence[Part]]:
    """The parts of every role, which do nothing yet."""
    completion = Completion(backend.table, backend.aggregate, backend.clock)
    committer = await stack.enter_async_context(wiring.committer(backend, settings, completion, name))
    return {
        "splitter": [wiring.splitter(backend, settings, catalog, completion)],
        "worker": [wiring.worker(backend, settings, committer, name, stack)],
        "aggregator": [wiring.aggregator(backend, settings, name)],
        "sweeper": wiring.sweeper(backend, settings, completion, committer, name),
    }


def _needs(backend: Backend, catalog: LiveCatalog, role: str) -> list[Precondition]:
    """What a role waits for, by calls that it makes anyway: least privilege is enough for them."""
    needs: list[Precondition] = [
        partial(backend.find, NEEDED_QUEUES[role]),
        partial(backend.table.read, NO_BATCH),
    ]
    return [*needs, catalog.load] if role == "splitter" else needs


async def _flush_metrics(backend: Backend, duty: ServiceRoles, interval_s: float) -> None:
    while True:
        await backend.clock.sleep(interval_s)
        backend.metrics.count("parts_not_ready", duty.outages())
        backend.metrics.flush(backend.clock.now_ms())
