"""The composition root: settings -> clients -> ports -> stages. The only place that wires.

`connect` opens the ports for commands that only look; `serve` runs roles on them until told to stop.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import uuid
import zlib
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import stamina.instrumentation
import structlog
from aiobotocore.session import AioSession

from service.agents.registry import open_agent
from service.agents.surroundings import Surroundings
from service.aggregator import AggregateLimits, Aggregator
from service.aws.clients import AwsOptions, Clients, open_clients
from service.aws.dynamodb import DynamoTable
from service.aws.provision import QueueOptions, ResourceNames, provision, queue_urls
from service.aws.s3 import S3Objects
from service.aws.sqs import SqsQueue
from service.clock import SystemClock
from service.consume import ConsumeLimits, Consumer
from service.errors import ConfigError
from service.mapping import Definition, RowMapping
from service.opening import OpenLimits
from service.ports import Agent, Clock, Objects, Queue, Table
from service.runs import Runs
from service.settings import QueueSettings, Settings, user_environment
from service.settle import Completion, SettleLimits, Settler
from service.splitter import SplitLimits, Splitter
from service.submit import Request, submit
from service.telemetry import Metrics
from service.web.health import serve_health
from service.worker import Worker, WorkLimits

log = structlog.get_logger(__name__)

ROLES = ("splitter", "worker", "aggregator")
"""Every role that `serve` can play. The sweeper of the design comes with a later version."""


@dataclass(frozen=True, slots=True)
class Backend:
    """The ports of one process on one AWS endpoint."""

    clients: Clients
    names: ResourceNames
    table: Table
    objects: Objects
    ingest: Queue
    rows: Queue
    aggregate: Queue
    clock: Clock
    metrics: Metrics


def aws_options(settings: Settings, region: str = "") -> AwsOptions:
    """Endpoint and region from settings, the standard variables or the profile. Raises ConfigError.

    A `region` that is given wins.
    """
    aws = settings.aws
    environ = os.environ
    region = region or aws.region or environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or ""
    region = region or AioSession().get_config_variable("region")
    if not region:
        raise ConfigError("no AWS region: give --region, or set AWS_REGION")
    return AwsOptions(
        region=region,
        endpoint_url=aws.endpoint_url or environ.get("AWS_ENDPOINT_URL") or None,
        connect_timeout_s=aws.connect_timeout_s,
        read_timeout_s=aws.read_timeout_s,
        max_connections=aws.max_connections,
        max_attempts=aws.max_attempts,
    )


def resource_names(settings: Settings) -> ResourceNames:
    """The names of everything that `setup` creates."""
    return ResourceNames(bucket=settings.bucket, table=settings.table, prefix=settings.prefix)


async def setup(clients: Clients, settings: Settings) -> list[str]:
    """Create what is missing and check the rest; a line on each resource. Raises ConfigError, AccessError."""
    queues = {
        role: QueueOptions(round(queue.visibility_timeout_s), queue.max_receives)
        for role, queue in (
            ("ingest", settings.ingest),
            ("rows", settings.rows),
            ("aggregate", settings.results),
        )
    }
    return await provision(
        clients, resource_names(settings), queues, incoming_prefix=settings.incoming_prefix
    )


@asynccontextmanager
async def connect(
    settings: Settings, options: AwsOptions, metrics: Metrics | None = None
) -> AsyncIterator[Backend]:
    """Open the ports; every resource has to exist. Raises ConfigError, AccessError and RetryableError."""
    metrics = metrics or Metrics()
    async with open_clients(options, count_calls(metrics)) as clients:
        yield await backend_on(clients, settings, metrics)


async def backend_on(clients: Clients, settings: Settings, metrics: Metrics) -> Backend:
    """The ports on clients that are open."""
    names = resource_names(settings)
    urls = await queue_urls(clients, names)
    ingest, rows, aggregate = (
        SqsQueue(clients, name=names.queue(role), url=urls[role]) for role in ("ingest", "rows", "aggregate")
    )
    return Backend(
        clients=clients,
        names=names,
        table=DynamoTable(clients, settings.table),
        objects=S3Objects(clients, part_bytes=settings.aggregate.part_bytes),
        ingest=ingest,
        rows=rows,
        aggregate=aggregate,
        clock=SystemClock(),
        metrics=metrics,
    )


async def start(backend: Backend, request: Request, bucket: str) -> str:
    """Start a run; its batch id. Local files go to `bucket`. Raises UsageError."""
    return await submit(
        request,
        table=backend.table,
        objects=backend.objects,
        ingest=backend.ingest,
        clock=backend.clock,
        bucket=bucket,
    )


def count_calls(metrics: Metrics) -> Callable[[str, str], None]:
    """What counts every AWS call, under `aws_calls_{service}_{operation}`."""

    def count(service: str, operation: str) -> None:
        metrics.count(f"aws_calls_{service.lower()}_{operation}")

    return count


async def serve(
    backend: Backend,
    settings: Settings,
    definitions: Callable[[str], Definition],
    roles: Collection[str],
    stop: asyncio.Event,
    *,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Play `roles` until `stop` is set and everything held is finished or given back.

    `on_ready` is called with the health URL once everything runs. Raises ConfigError.
    """
    worker_name = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
    _count_retries(backend.metrics)
    async with AsyncExitStack() as stack:
        completion = Completion(backend.table, backend.aggregate, backend.clock)
        consumers: dict[str, Consumer] = {}
        if "splitter" in roles:
            consumers["splitter"] = _splitter(backend, settings, definitions, completion)
        if "worker" in roles:
            consumers["worker"] = await _worker(backend, settings, completion, worker_name, stack)
        if "aggregator" in roles:
            consumers["aggregator"] = _aggregator(backend, settings)
        health = settings.health
        url = await stack.enter_async_context(
            serve_health(health.host, health.port, lambda: _readiness(consumers))
        )
        log.info("service_started", roles=sorted(consumers), worker=worker_name, health=url)
        async with asyncio.TaskGroup() as group:
            flusher = group.create_task(_flush_metrics(backend, settings.metrics_interval_s))
            running = [group.create_task(consumer.run(stop)) for consumer in consumers.values()]
            if on_ready is not None:
                on_ready(url)
            await stop.wait()
            if running:
                await asyncio.wait(running)
            flusher.cancel()
    backend.metrics.flush(backend.clock.now_ms())
    log.info("service_stopped", roles=sorted(consumers))


def agent_opener(
    settings: Settings, environ: Mapping[str, str] | None = None
) -> Callable[[RowMapping], Agent]:
    """What opens the agent of a mapping. The opener raises ConfigError where this process cannot serve it."""
    variables = user_environment() if environ is None else environ

    def open_(mapping: RowMapping) -> Agent:
        most = settings.worker.max_inflight_rows
        return open_agent(
            mapping.target.invoke,
            mapping.target.options,
            name=mapping.target.name,
            environ=variables,
            surroundings=Surroundings(
                max_concurrency=mapping.execution.places(most),
                max_reply_bytes=settings.http.max_reply_bytes,
                search_path=str(Path.cwd()),
                secret_ttl_s=settings.secrets.ttl_s,
                aws=partial(aws_options, settings),
            ),
        )

    return open_


def _splitter(
    backend: Backend, settings: Settings, definitions: Callable[[str], Definition], completion: Completion
) -> Consumer:
    split = settings.split
    splitter = Splitter(
        backend.table,
        backend.rows,
        backend.objects,
        completion,
        definitions,
        SplitLimits(
            checkpoint_rows=split.checkpoint_rows,
            send_concurrency=split.send_concurrency,
            max_queued_rows=split.max_queued_rows,
            read_bytes=split.read_bytes,
            max_record_bytes=split.max_record_bytes,
            incoming_prefix=settings.incoming_prefix,
            opening=OpenLimits(
                partition_bytes=split.partition_bytes,
                max_partitions=split.max_partitions,
                results_bucket=settings.results_bucket,
                ttl_s=settings.ttl_days * 86_400,
            ),
        ),
        backend.clock,
        backend.metrics,
    )
    limits = _one_by_one(settings, settings.ingest, split.concurrent_batches)
    return Consumer(backend.ingest, splitter.handle, limits, backend.clock, backend.metrics)


async def _worker(
    backend: Backend, settings: Settings, completion: Completion, name: str, stack: AsyncExitStack
) -> Consumer:
    commit, worker = settings.commit, settings.worker
    settler = Settler(
        backend.table,
        completion,
        SettleLimits(linger_s=commit.linger_s, max_rows=commit.max_rows, timeout_s=commit.timeout_s),
        backend.metrics,
        slot=zlib.crc32(name.encode()) % commit.slots,
        tokens=lambda: str(uuid.uuid4()),
    )
    await stack.enter_async_context(settler)
    runs = Runs(backend.table, agent_opener(settings), backend.clock, max_places=worker.max_inflight_rows)
    stack.push_async_callback(runs.close)
    handler = Worker(
        backend.table,
        backend.rows,
        runs,
        settler,
        WorkLimits(worker=name, inline_wait_s=worker.inline_wait_s),
        backend.clock,
        backend.metrics,
        random.Random(),  # noqa: S311 -- jitter
    )
    limits = replace(
        _one_by_one(settings, settings.rows, worker.max_inflight_rows),
        pollers=worker.pollers,
        max_held=worker.max_held_rows,
    )
    return Consumer(backend.rows, handler.handle, limits, backend.clock, backend.metrics)


def _aggregator(backend: Backend, settings: Settings) -> Consumer:
    aggregate = settings.aggregate
    aggregator = Aggregator(
        backend.table, backend.objects, AggregateLimits(aggregate.page_rows), backend.clock, backend.metrics
    )
    limits = _one_by_one(settings, settings.results, aggregate.concurrent_batches)
    return Consumer(backend.aggregate, aggregator.handle, limits, backend.clock, backend.metrics)


def _one_by_one(settings: Settings, queue: QueueSettings, most: int) -> ConsumeLimits:
    """Limits of a consumer whose messages occupy a place until they are deleted."""
    return ConsumeLimits(
        visibility_s=queue.visibility_timeout_s,
        poll_wait_s=queue.poll_wait_s,
        max_running=most,
        max_held=most,
        drain_s=settings.drain_timeout_s,
    )


def _readiness(consumers: Mapping[str, Consumer]) -> dict[str, str]:
    return {
        role: consumer.trouble or ("" if consumer.last_success is not None else "has not received yet")
        for role, consumer in consumers.items()
    }


async def _flush_metrics(backend: Backend, interval_s: float) -> None:
    while True:
        await backend.clock.sleep(interval_s)
        backend.metrics.flush(backend.clock.now_ms())


def _count_retries(metrics: Metrics) -> None:
    """Retries are numbers, not log lines: what they were for is logged when it fails for good."""

    def on_retry(details: stamina.instrumentation.RetryDetails) -> None:  # noqa: ARG001 -- stamina's keyword
        metrics.count("retries")

    stamina.instrumentation.set_on_retry_hooks([on_retry])
