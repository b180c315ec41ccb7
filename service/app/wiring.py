"""Settings and ports -> stages: what each role of a process is made of.

With `backend` and `app`, the only place that wires.
"""

from __future__ import annotations

import random
import uuid
import zlib
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

from service.adapters.aws.provision.resources import QUEUES
from service.agents.options.byte_budget import ByteBudget
from service.agents.options.context import AgentContext, Store, no_store
from service.agents.registry import open_agent
from service.aggregator.aggregator import AggregateLimits, Aggregator
from service.app.backend import Backend, aws_options
from service.app.roles import Part
from service.app.settings import Settings, user_environment
from service.app.settings_sections import QueueSettings
from service.batch.completion import Completion
from service.batch.group_commit import GroupCommitLimits, GroupCommitter
from service.batch.large_rows import ClaimCheck
from service.catalog.live import LiveCatalog
from service.domain.ports import Agent, Objects, StoredFile
from service.mapping import RowMapping
from service.runtime.consumer import ConsumeLimits, Consumer
from service.runtime.delivery import Delivery
from service.splitter.opening import OpenLimits
from service.splitter.splitter import SplitLimits, Splitter
from service.sweeper.dead_letters import DeadLetterLimits, DeadLetters
from service.sweeper.recovery import Recovery, RecoveryLimits
from service.sweeper.sweeper import Sweeper, SweepLimits, SweptQueues
from service.worker.admission.gate import Gates
from service.worker.attempts import GRACE_S
from service.worker.batch_cache import BatchCache
from service.worker.rate_limit.limiter import Limiter
from service.worker.worker import Worker, WorkLimits

POISON_DELAY_S = 900.0
"""A dead letter that nobody can act on is reported this often."""


def agent_opener(
    settings: Settings, environ: Mapping[str, str] | None = None, objects: Objects | None = None
) -> Callable[[RowMapping], Agent]:
    """What opens the agent of a mapping. The opener raises ConfigError where this process cannot serve it.

    Without `objects` agents can be opened and asked, but keep no large inputs.
    """
    variables = user_environment() if environ is None else environ
    replies = ByteBudget(settings.http.reply_budget_bytes)
    store = _input_store(objects, settings.results_bucket) if objects else no_store

    def open_(mapping: RowMapping) -> Agent:
        most = settings.worker.max_inflight_rows
        return open_agent(
            mapping.target.invoke,
            mapping.target.options,
            name=mapping.target.name,
            environ=variables,
            context=AgentContext(
                max_concurrency=mapping.concurrency(most),
                max_reply_bytes=settings.http.max_reply_bytes,
                reply_budget=replies,
                search_path=str(Path.cwd()),
                secret_ttl_s=settings.secrets.ttl_s,
                aws=partial(aws_options, settings),
                store=store,
            ),
        )

    return open_


def _input_store(objects: Objects, bucket: str) -> Store:
    """Large inputs lie where large outcomes do."""

    async def put(key: str, body: bytes) -> StoredFile:
        return await objects.put(bucket, key, body, content_type="application/json")

    return put


def splitter(backend: Backend, settings: Settings, catalog: LiveCatalog, completion: Completion) -> Consumer:
    """The role `splitter`. It looks for changed mappings before each run."""
    split = settings.split
    stage = Splitter(
        backend.table,
        backend.rows,
        backend.objects,
        completion,
        catalog.definition,
        SplitLimits(
            send_concurrency=split.send_concurrency,
            max_queued_rows=split.max_queued_rows,
            read_bytes=split.read_bytes,
            max_record_bytes=split.max_record_bytes,
            max_message_bytes=split.max_message_bytes,
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

    async def handle(delivery: Delivery) -> None:
        await catalog.refresh()  # a file dropped after a mapping was changed is run with the change
        await stage.handle(delivery)

    limits = replace(
        _one_by_one(settings, settings.ingest, split.concurrent_batches),
        max_held=split.concurrent_batches + split.max_waiting_batches,
    )
    return Consumer(backend.ingest, handle, limits, backend.clock, backend.metrics)


def committer(backend: Backend, settings: Settings, completion: Completion, name: str) -> GroupCommitter:
    """What commits the outcomes of this process."""
    commit = settings.commit
    return GroupCommitter(
        backend.table,
        completion,
        GroupCommitLimits(linger_s=commit.linger_s, max_rows=commit.max_rows, timeout_s=commit.timeout_s),
        backend.metrics,
        large_outcomes=backend.large_outcomes,
        slot=zlib.crc32(name.encode()) % commit.slots,
        tokens=lambda: str(uuid.uuid4()),
    )


def worker(
    backend: Backend, settings: Settings, committer: GroupCommitter, name: str, stack: AsyncExitStack
) -> Consumer:
    """The role `worker`; `stack` closes its agents."""
    worker = settings.worker
    gates = Gates(backend.clock)
    runs = BatchCache(
        backend.table,
        agent_opener(settings, objects=backend.objects),
        gates,
        backend.clock,
        max_places=worker.max_inflight_rows,
        open_limiter=limiter_opener(backend, name),
    )
    stack.push_async_callback(runs.close)
    handler = Worker(
        backend.table,
        backend.rows,
        runs,
        committer,
        ClaimCheck(backend.objects, max_record_bytes=settings.split.max_record_bytes),
        WorkLimits(worker=name, inline_wait_s=worker.inline_wait_s, max_lost=2 * settings.rows.max_receives),
        backend.clock,
        backend.metrics,
        rng=random.Random(),  # noqa: S311 -- jitter
    )
    limits = replace(
        _one_by_one(settings, settings.rows, worker.max_inflight_rows),
        pollers=worker.pollers,
        max_held=worker.max_held_rows,
        max_held_bytes=worker.max_held_bytes,
        probe_s=worker.probe_s,
    )
    return Consumer(backend.rows, handler.handle, limits, backend.clock, backend.metrics, capacity=gates)


def limiter_opener(backend: Backend, name: str) -> Callable[[RowMapping], Limiter | None]:
    """What opens the side of this process, the worker `name`, of a limit that the fleet shares."""

    def open_(mapping: RowMapping) -> Limiter | None:
        if mapping.rate_limit is None:
            return None
        return Limiter(
            backend.table,
            mapping.rate_limit,
            owner=f"{name}/{uuid.uuid4().hex[:8]}",
            clock=backend.clock,
            metrics=backend.metrics,
            call_s=mapping.execution.timeout_s + GRACE_S,
            max_tokens=mapping.target.max_tokens,
        )

    return open_


def aggregator(backend: Backend, settings: Settings, name: str) -> Consumer:
    """The role `aggregator`."""
    aggregate = settings.aggregate
    lease_s = aggregate.lease_s or settings.results.visibility_timeout_s
    aggregator = Aggregator(
        backend.table,
        backend.aggregate,
        backend.objects,
        backend.large_outcomes,
        AggregateLimits(page_rows=aggregate.page_rows, lease_s=lease_s),
        backend.clock,
        backend.metrics,
        owners=lambda: f"{name}/{uuid.uuid4().hex[:8]}",
    )
    limits = _one_by_one(settings, settings.results, aggregate.concurrent_batches)
    return Consumer(backend.aggregate, aggregator.handle, limits, backend.clock, backend.metrics)


def sweeper(
    backend: Backend, settings: Settings, completion: Completion, committer: GroupCommitter, name: str
) -> list[Part]:
    """The sweeper, and a consumer of each dead-letter queue."""
    b, split, sweep = backend, settings.split, settings.sweep
    limits = RecoveryLimits(
        worker=name,
        read_bytes=split.read_bytes,
        max_record_bytes=split.max_record_bytes,
        max_message_bytes=split.max_message_bytes,
    )
    recovery = Recovery(b.table, b.rows, b.objects, committer, limits, b.clock, b.metrics)
    dead = {name: b.queues[f"{name}-dlq"] for name in QUEUES}
    queues = SweptQueues(b.ingest, b.rows, b.aggregate, dead["ingest"], dead["rows"])
    sweeping = SweepLimits(
        interval_s=sweep.interval_s, stuck_after_s=sweep.stuck_after_s, resend_after_s=sweep.resend_after_s
    )
    letters = DeadLetters(
        b.table,
        b.aggregate,
        completion,
        committer,
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
        (dead["ingest"], settings.ingest, letters.job),
        (dead["rows"], settings.rows, letters.row),
        (dead["aggregate"], settings.results, letters.aggregation),
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
