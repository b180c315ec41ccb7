"""The scaler on AWS: its wiring, its answer as JSON, and the handler that Lambda calls."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from service.adapters.aws.clients import AwsOptions, open_client
from service.adapters.aws.ecs import EcsFleet
from service.app.aws.backend import ALL_QUEUES, aws_options, connect
from service.app.settings import Settings, load_settings
from service.domain.errors import SettingsError
from service.domain.model import Json, iso_time
from service.runtime.metrics import Metrics
from service.scaler.reader import FleetReader
from service.scaler.scale_limits import ScaleLimits, ServiceBounds
from service.scaler.scaler import Look, Scaler

ECS_TIMEOUT_S = 10.0
"""Longest wait for a call of ECS. There is one attempt: the next look is a minute away."""

CONNECTIONS = 2
"""Connections to a service. Each look opens them anew, and a seventh of a core takes long for that."""


def scale_limits(settings: Settings) -> ScaleLimits:
    """Limits of the scaler. Raises SettingsError without a cluster or services."""
    scaler = settings.scaler
    for name, value in (("CLUSTER", scaler.cluster), ("SERVICES", scaler.services)):
        if not value:
            raise SettingsError(f"the scaler needs ROWFLEET_SCALER__{name}")
    return ScaleLimits(
        services={
            name: ServiceBounds(
                roles=frozenset(service.roles),
                minimum=service.minimum,
                maximum=service.maximum,
                backlog_per_task=service.backlog_per_task,
            )
            for name, service in scaler.services.items()
        },
        idle_s=scaler.idle_s,
        cooldown_s=scaler.cooldown_s,
        calls_per_task=settings.worker.max_inflight_rows,
        splits_per_task=settings.split.concurrent_batches,
        results_per_task=settings.aggregate.concurrent_batches,
        hold_s=settings.sweep.hold_s,
    )


@asynccontextmanager
async def open_scaler(settings: Settings, options: AwsOptions, metrics: Metrics) -> AsyncIterator[Scaler]:
    """A scaler with open clients.

    Raises SettingsError, ConfigError, AccessError and RetryableError.
    """
    limits = scale_limits(settings)
    options = replace(options, max_connections=CONNECTIONS)
    # The calls are counted in memory only: metrics of them would cost more than the calls.
    async with connect(settings, options, Metrics()) as backend, open_client(options, "ecs") as ecs:
        await backend.find_queues(ALL_QUEUES)
        ports = backend.ports
        fleet = EcsFleet(ecs, settings.scaler.cluster, ECS_TIMEOUT_S, options.endpoint)
        reader = FleetReader(ports, fleet, limits.services, limits.calls_per_task)
        yield Scaler(reader, ports.table, fleet, ports.clock, metrics, limits, by=uuid.uuid4().hex[:12])


def handler(event: object, context: object = None) -> dict[str, Json]:  # noqa: ARG001 -- Lambda's signature
    """Look once, with settings from the environment, and return the decision.

    It has the signature of a Lambda handler, for callers that bring a runtime of their own; the image runs
    `rowfleet scaler`, which has a loop for Lambda's runtime API.

    Raises SettingsError, ConfigError, AccessError and RetryableError.
    """

    async def look() -> dict[str, Json]:
        settings = load_settings()
        async with open_scaler(settings, aws_options(settings), Metrics()) as scaler:
            return look_json(await scaler.look())

    return asyncio.run(look())


def look_json(look: Look) -> dict[str, Json]:
    """A look as `rowfleet scaler --json` and the Lambda's answer show it."""
    reading, backlog = look.reading, look.reading.backlog
    services: dict[str, Any] = {
        name: {
            "roles": sorted(each.bounds.roles),
            "minimum": each.bounds.minimum,
            "maximum": each.bounds.maximum,
            "running": each.tasks.running,
            "pending": each.tasks.pending,
            "desired_before": each.tasks.desired,
            "demand": each.demand.tasks,
            "reasons": list(each.demand.reasons),
            "desired": each.desired,
        }
        for name, each in look.decision.services.items()
    }
    return {
        "at": iso_time(reading.now_ms),
        "carried_out": look.is_carried_out,
        "reason": look.reason,
        "backlog": {
            "ingest": backlog.ingest,
            "rows": backlog.rows,
            "aggregate": backlog.aggregate,
            "dead_letters": backlog.dead,
        },
        "unfinished_batches": len(reading.batches),
        "pending_records": reading.pending,
        "services": services,
    }
