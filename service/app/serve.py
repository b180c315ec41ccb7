"""Run roles on a backend until the process is told to stop."""

from __future__ import annotations

import asyncio
import os
import socket
import uuid
from collections.abc import AsyncIterator, Callable, Collection, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import structlog

from service.app.aws.backend import NEEDED_QUEUES, AwsBackend
from service.app.aws.task_protection import protect_task
from service.app.events.aws_receivers import open_receivers
from service.app.health_server import serve_health
from service.app.roles import Precondition, Role, ServiceRoles
from service.app.settings import Settings
from service.app.wiring.builder import RoleBuilder, open_builder
from service.batch.role_ports import Ports
from service.catalog.folders import ReadMappingFiles
from service.catalog.live import LiveCatalog
from service.runtime.metrics import count_retries

log = structlog.get_logger(__name__)

ROLES = tuple(NEEDED_QUEUES)
"""Every role that `serve` can run."""

READINESS_BATCH_ID = "rowfleet#readiness"
"""The batch id of a test read, which shows if the table can be used. No batch has this id."""

ECS_AGENT_URI = "ECS_AGENT_URI"
"""Environment variable with the container agent's address, which ECS sets in every task."""


async def serve(
    backend: AwsBackend,
    settings: Settings,
    mappings: ReadMappingFiles,
    roles: Collection[str],
    stop: asyncio.Event,
    *,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Run `roles` until `stop` is set and every held message is acknowledged or released.

    New runs take their mappings from the files that `mappings` reads. A role waits until it can use its
    queues, the table and the mappings. `on_ready` is called with the health URL after all roles were started.
    Raises ConfigError if the health port is taken.
    """
    ports = backend.ports
    count_retries(ports.metrics)
    async with AsyncExitStack() as stack:
        catalog = LiveCatalog(mappings, ports.clock, ports.metrics, refresh_s=settings.config.refresh_s)
        receivers = await stack.enter_async_context(open_receivers(backend.clients.options, settings))
        name = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
        builder = await open_builder(ports, settings, catalog, receivers, stack, worker_name=name)
        active = _roles(backend, builder, roles)
        service = ServiceRoles(active, catalog, stop)
        health = serve_health(
            settings.health.host, settings.health.port, service.role_problems, service.other_problems,
            service.facts,
        )  # fmt: skip
        url = await stack.enter_async_context(health)
        log.info("service_started", roles=sorted(active), worker=builder.worker_name, health=url)
        flusher = _flush_metrics(ports, service, settings.metrics_interval_s)
        async with _alongside(flusher, catalog.refresh_forever()) as group:
            if agent_uri := os.environ.get(ECS_AGENT_URI):
                group.create_task(protect_task(agent_uri, service.held_since, ports.clock, stop))
            running = [group.create_task(role.run(stop)) for role in active.values()]
            if on_ready is not None:
                on_ready(url)
            await stop.wait()
            if running:
                await asyncio.wait(running)
    ports.metrics.flush(ports.clock.now_ms())
    log.info("service_stopped", roles=sorted(active))


@asynccontextmanager
async def _alongside(*helpers: Coroutine[None, None, None]) -> AsyncIterator[asyncio.TaskGroup]:
    """A task group in which `helpers` run until the body ends."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(helper) for helper in helpers]
        yield group
        # The helpers run until here, while the roles drain, so that the metrics show the drain.
        for task in tasks:
            task.cancel()


def _roles(backend: AwsBackend, builder: RoleBuilder, wanted: Collection[str]) -> dict[str, Role]:
    """The wanted roles by name, not running yet."""
    return {
        name: Role(
            name, builder.parts(name), _preconditions(backend, builder.catalog, name), backend.ports.clock
        )
        for name in ROLES
        if name in wanted
    }


def _preconditions(backend: AwsBackend, catalog: LiveCatalog, role: str) -> list[Precondition]:
    """Calls that must succeed before a role begins.

    The role makes the same calls while it works, so they need no permission of their own.
    """
    preconditions: list[Precondition] = [
        partial(backend.find_queues, NEEDED_QUEUES[role]),
        partial(backend.ports.table.read, READINESS_BATCH_ID),
    ]
    if role == "splitter":
        preconditions.append(catalog.load)
    return preconditions


async def _flush_metrics(ports: Ports, service: ServiceRoles, interval_s: float) -> None:
    while True:
        await ports.clock.sleep(interval_s)
        ports.metrics.count("parts_not_ready", service.count_problems())
        ports.metrics.flush(ports.clock.now_ms())
