"""The composition root: settings and ports -> stages. With `backend`, the only place that wires.

`serve` runs roles on a backend until told to stop.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import uuid
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import stamina.instrumentation
import structlog

from service.agents.budget import ByteBudget
from service.agents.registry import open_agent
from service.agents.surroundings import Surroundings
from service.aggregator import AggregateLimits, Aggregator
from service.backend import Backend
from service.claims import Claims
from service.consume import ConsumeLimits, Consumer
from service.deadletters import DeadLetterLimits, DeadLetters
from service.mapping import Definition, RowMapping
from service.opening import OpenLimits
from service.ports import Agent
from service.recovery import Recovery, RecoveryLimits
from service.runs import Runs
from service.settings import QueueSettings, Settings, user_environment
from service.settle import Completion, SettleLimits, Settler
from service.splitter import SplitLimits, Splitter
from service.sweeper import Sweeper, SweepLimits, SweptQueues
from service.telemetry import Metrics
from service.web.health import serve_health
from service.worker import Worker, WorkLimits

log = structlog.get_logger(__name__)

ROLES = ("splitter", "worker", "aggregator", "sweeper")
"""Every role that `serve` can play."""

POISON_DELAY_S = 900.0
"""A dead letter that nobody can act on is reported this often."""


class Runner(Protocol):
    """A part of a role: a consumer, or the sweeper. `last_success` is on the clock's monotonic scale."""

    last_success: float | None

    @property
    def trouble(self) -> str:
        """What keeps it from working, in words; empty when nothing does."""
        ...

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set."""
        ...


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
        settler = await stack.enter_async_context(_settler(backend, settings, completion, worker_name))
        playing: dict[str, Sequence[Runner]] = {}
        if "splitter" in roles:
            playing["splitter"] = [_splitter(backend, settings, definitions, completion)]
        if "worker" in roles:
            playing["worker"] = [_worker(backend, settings, settler, worker_name, stack)]
        if "aggregator" in roles:
            playing["aggregator"] = [_aggregator(backend, settings, worker_name)]
        if "sweeper" in roles:
            playing["sweeper"] = _sweeper(backend, settings, completion, settler, worker_name)
        health = settings.health
        url = await stack.enter_async_context(
            serve_health(health.host, health.port, lambda: _readiness(playing))
        )
        log.info("service_started", roles=sorted(playing), worker=worker_name, health=url)
        async with asyncio.TaskGroup() as group:
            flusher = group.create_task(_flush_metrics(backend, settings.metrics_interval_s))
            running = [group.create_task(x.run(stop)) for runners in playing.values() for x in runners]
            if on_ready is not None:
                on_ready(url)
            await stop.wait()
            if running:
                await asyncio.wait(running)
            flusher.cancel()
    backend.metrics.flush(backend.clock.now_ms())
    log.info("service_stopped", roles=sorted(playing))


def agent_opener(
    settings: Settings, environ: Mapping[str, str] | None = None
) -> Callable[[RowMapping], Agent]:
    """What opens the agent of a mapping. The opener raises ConfigError where this process cannot serve it."""
    variables = user_environment() if environ is None else environ
    replies = ByteBudget(settings.http.reply_budget_bytes)

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
                replies=replies,
                search_path=str(Path.cwd()),
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
                checkpoint_rows=split.checkpoint_rows,
            ),
        ),
        backend.clock,
        backend.metrics,
    )
    limits = _one_by_one(settings, settings.ingest, split.concurrent_batches)
    return Consumer(backend.ingest, splitter.handle, limits, backend.clock, backend.metrics)


def _settler(backend: Backend, settings: Settings, completion: Completion, name: str) -> Settler:
    commit = settings.commit
    return Settler(
        backend.table,
        completion,
        SettleLimits(linger_s=commit.linger_s, max_rows=commit.max_rows, timeout_s=commit.timeout_s),
        backend.metrics,
        payloads=backend.payloads,
        slot=zlib.crc32(name.encode()) % commit.slots,
        tokens=lambda: str(uuid.uuid4()),
    )


def _worker(
    backend: Backend, settings: Settings, settler: Settler, name: str, stack: AsyncExitStack
) -> Consumer:
    worker = settings.worker
    runs = Runs(backend.table, agent_opener(settings), backend.clock, max_places=worker.max_inflight_rows)
    stack.push_async_callback(runs.close)
    handler = Worker(
        backend.table,
        backend.rows,
        runs,
        settler,
        Claims(backend.objects, max_record_bytes=settings.split.max_record_bytes),
        WorkLimits(
            worker=name,
            inline_wait_s=worker.inline_wait_s,
            max_lost=2 * settings.rows.max_receives,
        ),
        backend.clock,
        backend.metrics,
        rng=random.Random(),  # noqa: S311 -- jitter
    )
    limits = replace(
        _one_by_one(settings, settings.rows, worker.max_inflight_rows),
        pollers=worker.pollers,
        max_held=worker.max_held_rows,
        max_held_bytes=worker.max_held_bytes,
    )
    return Consumer(backend.rows, handler.handle, limits, backend.clock, backend.metrics)


def _aggregator(backend: Backend, settings: Settings, name: str) -> Consumer:
    aggregate = settings.aggregate
    lease_s = aggregate.lease_s or settings.results.visibility_timeout_s
    aggregator = Aggregator(
        backend.table,
        backend.aggregate,
        backend.objects,
        backend.payloads,
        AggregateLimits(page_rows=aggregate.page_rows, lease_s=lease_s),
        backend.clock,
        backend.metrics,
        owners=lambda: f"{name}/{uuid.uuid4().hex[:8]}",
    )
    limits = _one_by_one(settings, settings.results, aggregate.concurrent_batches)
    return Consumer(backend.aggregate, aggregator.handle, limits, backend.clock, backend.metrics)


def _sweeper(
    backend: Backend, settings: Settings, completion: Completion, settler: Settler, name: str
) -> list[Runner]:
    """The sweeper, and a consumer of each dead-letter queue."""
    b, split, sweep = backend, settings.split, settings.sweep
    limits = RecoveryLimits(worker=name, read_bytes=split.read_bytes, max_record_bytes=split.max_record_bytes)
    recovery = Recovery(b.table, b.rows, b.objects, settler, limits, b.clock, b.metrics)
    queues = SweptQueues(b.ingest, b.rows, b.aggregate, b.dead_ingest, b.dead_rows)
    sweeping = SweepLimits(
        interval_s=sweep.interval_s, stuck_after_s=sweep.stuck_after_s, resend_after_s=sweep.resend_after_s
    )
    letters = DeadLetters(
        b.table,
        b.aggregate,
        completion,
        settler,
        recovery,
        DeadLetterLimits(
            ingest_receives=settings.ingest.max_receives,
            rows_receives=settings.rows.max_receives,
            aggregate_receives=settings.results.max_receives,
            stuck_after_s=sweep.stuck_after_s,
            give_up_after_s=sweep.resend_after_s,
            incoming_prefix=settings.incoming_prefix,
        ),
        b.clock,
        b.metrics,
    )
    drained = (
        (b.dead_ingest, settings.ingest, letters.job),
        (b.dead_rows, settings.rows, letters.row),
        (b.dead_aggregate, settings.results, letters.aggregation),
    )
    return [
        Sweeper(b.table, queues, completion, recovery, sweeping, b.clock, b.metrics),
        *(
            Consumer(
                queue,
                handle,
                replace(_one_by_one(settings, like, sweep.dead_letters), poison_delay_s=POISON_DELAY_S),
                b.clock,
                b.metrics,
            )
            for queue, like, handle in drained
        ),
    ]


def _one_by_one(settings: Settings, queue: QueueSettings, most: int) -> ConsumeLimits:
    """Limits of a consumer whose messages occupy a place until they are deleted."""
    return ConsumeLimits(
        visibility_s=queue.visibility_timeout_s,
        poll_wait_s=queue.poll_wait_s,
        max_running=most,
        max_held=most,
        drain_s=settings.drain_timeout_s,
    )


def _readiness(playing: Mapping[str, Sequence[Runner]]) -> dict[str, str]:
    """What keeps each role from working: the first of its parts that has something to say."""
    return {role: next(filter(None, map(_hindrance, runners)), "") for role, runners in playing.items()}


def _hindrance(runner: Runner) -> str:
    return runner.trouble or ("" if runner.last_success is not None else "has not received yet")


async def _flush_metrics(backend: Backend, interval_s: float) -> None:
    while True:
        await backend.clock.sleep(interval_s)
        backend.metrics.flush(backend.clock.now_ms())


def _count_retries(metrics: Metrics) -> None:
    """Retries are numbers, not log lines: what they were for is logged when it fails for good."""

    def on_retry(details: stamina.instrumentation.RetryDetails) -> None:  # noqa: ARG001 -- stamina's keyword
        metrics.count("retries")

    stamina.instrumentation.set_on_retry_hooks([on_retry])
