"""Build the parts of each role from settings and ports.

With `aws_backend` and `serve`, the only modules that know adapters and roles.
"""

from __future__ import annotations

import random
import uuid
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from service.agents.options.context import AgentContext, Store, no_store
from service.agents.registry import open_agent
from service.aggregator.aggregator import AggregateLimits, Aggregator
from service.app.aws_backend import AwsBackend, aws_options
from service.app.events.receivers import Receivers
from service.app.events.senders import senders
from service.app.roles import Part
from service.app.settings import Settings, user_environment
from service.app.settings_sections import QueueSettings
from service.batch.completion import Completion
from service.batch.group_commit import GroupCommitLimits, GroupCommitter
from service.batch.large_rows import ClaimCheck
from service.batch.role_ports import Ports
from service.catalog.live import LiveCatalog
from service.domain.model import Location
from service.domain.ports import Agent, Objects, Queue, StoredFile
from service.mapping import RowMapping
from service.recovery.recovery import Recovery, RecoveryLimits
from service.runtime.byte_budget import ByteBudget
from service.runtime.consumer import ConsumeLimits, Consumer
from service.runtime.delivery import Capacity, Delivery, Handler
from service.splitter.opening import OpenLimits
from service.splitter.split import SplitLimits
from service.splitter.splitter import Splitter
from service.steering.work import FleetWork
from service.sweeper.dead_letters import DeadLetterLimits, DeadLetters
from service.sweeper.drain import Drain, DrainLimits, left_in
from service.sweeper.sweeper import Sweeper, SweepLimits
from service.worker.admission.gate import Gates
from service.worker.attempts import GRACE_S
from service.worker.batch_cache import BatchCache
from service.worker.rate_limit.limiter import Limiter
from service.worker.worker import Worker, WorkLimits

INGEST_GROWTH, LONGEST_INGEST_RELEASE_S = 4.0, 300.0
"""Pauses between the deliveries of a job: 4 s, 16 s, a minute, five minutes. An outage of minutes passes."""


def agent_opener(
    settings: Settings, environ: Mapping[str, str] | None = None, objects: Objects | None = None
) -> Callable[[RowMapping], Agent]:
    """Return a function that opens the agent of a mapping. It raises ConfigError if the agent cannot be used.

    Without `objects` an agent cannot store large inputs.
    """
    variables = user_environment() if environ is None else environ
    reply_budget = ByteBudget(settings.http.reply_budget_bytes)
    store = _input_store(objects, settings.results_bucket) if objects else no_store

    def open_(mapping: RowMapping) -> Agent:
        return open_agent(
            mapping.target.invoke,
            mapping.target.options,
            name=mapping.target.name,
            environ=variables,
            context=AgentContext(
                max_concurrency=mapping.concurrency(settings.worker.max_inflight_rows),
                proxy=settings.http.proxy,
                max_reply_bytes=settings.http.max_reply_bytes,
                reply_budget=reply_budget,
                search_path=str(Path.cwd()),
                secret_ttl_s=settings.secrets.ttl_s,
                aws=partial(aws_options, settings),
                store=store,
            ),
        )

    return open_


def _input_store(objects: Objects, bucket: str) -> Store:
    """Return a function that stores a large input in the bucket, which holds large outcomes as well."""

    async def put(key: str, body: bytes) -> StoredFile:
        return await objects.put(bucket, key, body, content_type="application/json")

    return put


@dataclass(frozen=True, slots=True)
class RoleBuilder:
    """Makes the parts of each role of one process; `worker_name` names the process in outcomes and leases.

    The parts do nothing before they are run. `stack` closes what they open.
    """

    backend: AwsBackend
    settings: Settings
    catalog: LiveCatalog
    completion: Completion
    committer: GroupCommitter
    worker_name: str
    receivers: Receivers
    stack: AsyncExitStack

    def parts(self, role: str) -> Sequence[Part]:
        """The parts of one role."""
        build: dict[str, Callable[[], Sequence[Part]]] = {
            "splitter": self._splitter,
            "worker": self._worker,
            "aggregator": self._aggregator,
            "sweeper": self._sweeper,
        }
        return build[role]()

    def _splitter(self) -> Sequence[Part]:
        settings, split, ports = self.settings, self.settings.split, self.backend.ports
        splitter = Splitter(
            ports,
            self.completion,
            self.catalog.definition,
            SplitLimits(
                send_concurrency=split.send_concurrency,
                checkpoint_bytes=split.checkpoint_bytes,
                max_queued_rows=split.max_queued_rows,
                lease_s=split.lease_s or _lease_s(settings.ingest),
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
                    reserved=reserved_places(settings),
                ),
            ),
            work=FleetWork(
                ports,
                self._recovery(),
                self.completion,
                owners=lambda: unique_owner(self.worker_name),
                lease_s=split.lease_s or _lease_s(settings.ingest),
            ),
            rng=random.Random(),  # noqa: S311 -- tells openings of one batch id apart
            owners=lambda: unique_owner(self.worker_name),
        )

        async def handle(delivery: Delivery) -> None:
            # a file that is dropped after a mapping was changed must be run with the change
            await self.catalog.refresh()
            await splitter.handle(delivery)

        limits = replace(
            _consume_limits(settings, settings.ingest, split.concurrent_batches),
            # batches that wait for backpressure hold their job without taking a slot
            max_held=split.concurrent_batches + split.max_waiting_batches,
            release_growth=INGEST_GROWTH,
            longest_release_s=LONGEST_INGEST_RELEASE_S,
        )
        return [self._consumer(ports.queues.ingest, handle, limits)]

    def _worker(self) -> Sequence[Part]:
        settings, work, ports = self.settings, self.settings.worker, self.backend.ports
        gates = Gates(ports.clock)
        batches = BatchCache(
            ports,
            agent_opener(settings, objects=ports.objects),
            gates,
            max_in_flight=work.max_inflight_rows,
            open_limiter=limiter_opener(ports, self.worker_name),
        )
        self.stack.push_async_callback(batches.close)
        worker = Worker(
            ports,
            batches,
            self.committer,
            ClaimCheck(ports.objects, max_record_bytes=settings.split.max_record_bytes),
            WorkLimits(
                worker=self.worker_name,
                inline_wait_s=work.inline_wait_s,
                # the deliveries of the rows queue, and as many after its dead letter was resent
                max_lost=2 * settings.rows.max_receives,
            ),
            rng=random.Random(),  # noqa: S311 -- jitter
        )
        limits = replace(
            _consume_limits(settings, settings.rows, work.max_inflight_rows),
            pollers=work.pollers,
            max_held=work.max_held_rows,
            max_held_bytes=work.max_held_bytes,
            # answers that are under way are paid for
            can_resume=False,
            probe_s=work.probe_s,
        )
        return [self._consumer(ports.queues.rows, worker.handle, limits, gates)]

    def _aggregator(self) -> Sequence[Part]:
        settings, aggregate, ports = self.settings, self.settings.aggregate, self.backend.ports
        aggregator = Aggregator(
            ports,
            AggregateLimits(
                page_rows=aggregate.page_rows,
                lease_s=aggregate.lease_s or _lease_s(settings.results),
                give_up_after_s=aggregate.give_up_after_s,
            ),
            owners=lambda: unique_owner(self.worker_name),
        )
        limits = _consume_limits(settings, settings.results, aggregate.concurrent_batches)
        return [self._consumer(ports.queues.aggregate, aggregator.handle, limits)]

    def _sweeper(self) -> Sequence[Part]:
        """The sweeper, a drain for each dead-letter queue, and the senders of the outbox."""
        settings, sweep = self.settings, self.settings.sweep
        ports = self.backend.ports
        recovery = self._recovery()
        limits = SweepLimits(
            interval_s=sweep.interval_s,
            stuck_after_s=sweep.stuck_after_s,
            resend_after_s=sweep.resend_after_s,
            concurrent_batches=sweep.concurrent_batches,
            lease_s=_lease_s(settings.rows),
        )
        drains = self._drains(recovery, settings)
        sweeper = Sweeper(
            ports,
            self.completion,
            recovery,
            limits,
            owners=lambda: unique_owner(self.worker_name),
            left=partial(left_in, drains),
        )
        return [sweeper, *drains, *senders(ports, self.receivers, settings.events.heartbeat_s)]

    def _recovery(self) -> Recovery:
        split = self.settings.split
        return Recovery(
            self.backend.ports,
            self.committer,
            RecoveryLimits(
                worker=self.worker_name,
                max_bytes=split.checkpoint_bytes,
                send_concurrency=split.send_concurrency,
                read_bytes=split.read_bytes,
                max_record_bytes=split.max_record_bytes,
                max_message_bytes=split.max_message_bytes,
            ),
        )

    def _drains(self, recovery: Recovery, settings: Settings) -> list[Drain]:
        sweep, ports = settings.sweep, self.backend.ports
        letters = DeadLetters(
            ports,
            self.completion,
            self.committer,
            recovery,
            DeadLetterLimits(
                ingest_receives=settings.ingest.max_receives,
                rows_receives=settings.rows.max_receives,
                aggregate_receives=settings.results.max_receives,
                stuck_after_s=sweep.stuck_after_s,
                give_up_after_s=settings.aggregate.give_up_after_s,
                incoming_prefix=settings.incoming_prefix,
            ),
        )
        handlers = (
            (ports.queues.dead_ingest, settings.ingest, letters.job),
            (ports.queues.dead_rows, settings.rows, letters.row),
            (ports.queues.dead_aggregate, settings.results, letters.aggregation),
        )
        return [
            Drain(
                queue,
                handle,
                DrainLimits(
                    visibility_s=queue_settings.visibility_timeout_s,
                    poll_wait_s=queue_settings.poll_wait_s,
                    pause_s=sweep.dead_letters_pause_s,
                ),
                ports.clock,
                ports.metrics,
            )
            for queue, queue_settings, handle in handlers
        ]

    def _consumer(
        self, queue: Queue, handle: Handler, limits: ConsumeLimits, capacity: Capacity | None = None
    ) -> Consumer:
        ports = self.backend.ports
        return Consumer(queue, handle, limits, ports.clock, ports.metrics, capacity=capacity)


def open_committer(ports: Ports, settings: Settings, completion: Completion, name: str) -> GroupCommitter:
    """The group commit of this process, not entered yet; the worker's `name` chooses its counter slot."""
    commit = settings.commit
    return GroupCommitter(
        ports,
        completion,
        GroupCommitLimits(linger_s=commit.linger_s, max_rows=commit.max_rows, timeout_s=commit.timeout_s),
        # workers spread over the counter slots, so that their commits seldom conflict
        slot=zlib.crc32(name.encode()) % commit.slots,
        tokens=lambda: str(uuid.uuid4()),
    )


def limiter_opener(ports: Ports, name: str) -> Callable[[RowMapping], Limiter | None]:
    """Return the opener of this worker's side of a mapping's fleet-wide rate limit; None without a limit."""

    def open_(mapping: RowMapping) -> Limiter | None:
        if mapping.rate_limit is None:
            return None
        return Limiter(
            ports.table,
            mapping.rate_limit,
            owner=unique_owner(name),
            clock=ports.clock,
            metrics=ports.metrics,
            call_s=mapping.execution.timeout_s + GRACE_S,
            max_tokens=mapping.target.max_tokens,
        )

    return open_


def unique_owner(name: str) -> str:
    """A name for a lease or share that no other holder ever has."""
    return f"{name}/{uuid.uuid4().hex[:8]}"


def _lease_s(queue: QueueSettings) -> float:
    """Duration of a batch's lease, unless it is set.

    The message of a process that died comes again after five sixths of its visibility time-out at the
    earliest, when it was last renewed. The lease has ended by then, so this delivery is not in vain.
    """
    return queue.visibility_timeout_s * 2 / 3


def _consume_limits(settings: Settings, queue: QueueSettings, max_messages: int) -> ConsumeLimits:
    """Limits of a consumer that handles at most `max_messages` messages at a time."""
    return ConsumeLimits(
        visibility_s=queue.visibility_timeout_s,
        poll_wait_s=queue.poll_wait_s,
        max_running=max_messages,
        max_held=max_messages,
        drain_s=settings.drain_timeout_s,
        can_resume=True,
    )


def reserved_places(settings: Settings) -> dict[Location, str]:
    """The places that no job may write its results into, each with the reason."""
    reserved = {
        Location(settings.bucket, settings.incoming_prefix): "every result would start a run",
        Location(settings.bucket, "config/"): "mappings and schemas lie there",
    }
    for bucket in (settings.bucket, settings.results_bucket):
        reserved[Location(bucket, "work/")] = "objects there expire"
    for folder in (settings.mappings, settings.schemas):
        if isinstance(folder, Location):
            reserved[folder] = "mappings and schemas lie there"
    return reserved
