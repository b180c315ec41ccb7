"""The parts of each role of one process, built from settings and ports.

`serve` runs them on AWS, `laptop.pipeline` on the store of a laptop.
"""

from __future__ import annotations

import random
import uuid
import zlib
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial

from service.aggregator.aggregator import AggregateLimits, Aggregator
from service.app.events.receivers import Receivers
from service.app.events.senders import senders
from service.app.roles import Part
from service.app.settings import Settings
from service.app.wiring.agents import agent_opener, limiter_opener, unique_owner
from service.app.wiring.limits import (
    consume_limits,
    dead_letter_limits,
    drain_limits,
    lease_s,
    recovery_limits,
    split_limits,
    sweep_limits,
)
from service.batch.commits.commit_group import GroupCommitLimits
from service.batch.commits.group_commit import GroupCommitter
from service.batch.completion import Completion
from service.batch.large_rows import ClaimCheck
from service.batch.role_ports import Ports
from service.catalog.live import LiveCatalog
from service.domain.ports import Queue
from service.recovery.recovery import Recovery
from service.runtime.consumer import ConsumeLimits, Consumer
from service.runtime.delivery import Capacity, Delivery, Handler
from service.splitter.splitter import Splitter
from service.steering.failures import FailureJudge
from service.steering.remapping.work import RemapWork
from service.steering.work import FleetWork
from service.sweeper.dead_letters import DeadLetters
from service.sweeper.drain import Drain, left_in
from service.sweeper.interventions import Interventions
from service.sweeper.sweeper import Sweeper
from service.worker.admission.gates import Gates
from service.worker.batch_cache import BatchCache
from service.worker.budgets.budgets import Budgets
from service.worker.worker import Worker, WorkLimits

INGEST_GROWTH, LONGEST_INGEST_RELEASE_S = 4.0, 300.0
"""Pauses between the deliveries of a job: 4 s, 16 s, a minute, five minutes. An outage of minutes passes."""

TRANSACTIONS_ALONE = 4
"""Transactions of a process that is alone on its store: they share the wait for the disk."""


@dataclass(frozen=True, slots=True)
class RoleBuilder:
    """Makes the parts of each role of one process; `worker_name` names the process in outcomes and leases.

    The parts do nothing before they are run. `stack` closes what they open. `only_batch`: the batch that is
    swept, by a process that is alone; "" for all.
    """

    ports: Ports
    settings: Settings
    catalog: LiveCatalog
    completion: Completion
    committer: GroupCommitter
    worker_name: str
    receivers: Receivers
    stack: AsyncExitStack
    only_batch: str = ""

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
        settings, split, ports = self.settings, self.settings.split, self.ports
        splitter = Splitter(
            ports,
            self.completion,
            self.catalog.definition,
            replace(split_limits(settings), is_alone=bool(self.only_batch)),
            work=self._fleet_work(self._recovery()),
            rng=random.Random(),  # noqa: S311 -- tells openings of one batch id apart
            owners=self._new_owner,
        )

        async def handle(delivery: Delivery) -> None:
            # a file that is dropped after a mapping was changed must be run with the change
            await self.catalog.refresh()
            await splitter.handle(delivery)

        limits = replace(
            consume_limits(settings, settings.ingest, split.concurrent_batches),
            # batches that wait for backpressure hold their job without taking a slot
            max_held=split.concurrent_batches + split.max_waiting_batches,
            release_growth=INGEST_GROWTH,
            longest_release_s=LONGEST_INGEST_RELEASE_S,
        )
        return [self._consumer(ports.queues.ingest, handle, limits)]

    def _worker(self) -> Sequence[Part]:
        settings, work, ports = self.settings, self.settings.worker, self.ports
        gates = Gates(ports.clock)
        batches = BatchCache(
            ports,
            agent_opener(settings, objects=ports.objects),
            gates,
            max_in_flight=work.max_inflight_rows,
            open_limiter=limiter_opener(ports, self.worker_name),
        )
        self.stack.push_async_callback(batches.close)
        budgets = Budgets(ports, owners=self._new_owner)
        self.stack.push_async_callback(budgets.close)
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
            budgets=budgets,
            rng=random.Random(),  # noqa: S311 -- jitter
        )
        limits = replace(
            consume_limits(settings, settings.rows, work.max_inflight_rows),
            pollers=work.pollers,
            max_held=work.max_held_rows,
            max_held_bytes=work.max_held_bytes,
            # answers that are under way are paid for
            can_resume=False,
            probe_s=work.probe_s,
        )
        return [self._consumer(ports.queues.rows, worker.handle, limits, gates)]

    def _aggregator(self) -> Sequence[Part]:
        settings, aggregate, ports = self.settings, self.settings.aggregate, self.ports
        aggregator = Aggregator(
            ports,
            AggregateLimits(
                page_rows=aggregate.page_rows,
                lease_s=aggregate.lease_s or lease_s(settings.results),
                give_up_after_s=aggregate.give_up_after_s,
            ),
            owners=self._new_owner,
        )
        limits = consume_limits(settings, settings.results, aggregate.concurrent_batches)
        return [self._consumer(ports.queues.aggregate, aggregator.handle, limits)]

    def _sweeper(self) -> Sequence[Part]:
        """The sweeper, a drain for each dead-letter queue, and the senders of the outbox."""
        ports, limits = self.ports, replace(sweep_limits(self.settings), only_batch=self.only_batch)
        recovery = self._recovery()
        drains = self._drains(recovery)
        interventions = Interventions(
            ports,
            self.completion,
            recovery,
            self._fleet_work(recovery),
            limits,
            left=partial(left_in, drains),
        )
        sweeper = Sweeper(ports, interventions, limits, owners=self._new_owner)
        return [sweeper, *drains, *senders(ports, self.receivers, self.settings.events.heartbeat_s)]

    def _recovery(self) -> Recovery:
        return Recovery(self.ports, self.committer, recovery_limits(self.settings, self.worker_name))

    def _fleet_work(self, recovery: Recovery) -> FleetWork:
        return FleetWork(
            self.ports,
            recovery,
            self.completion,
            RemapWork(self.ports, self.committer, worker=self.worker_name),
            owners=self._new_owner,
            lease_s=split_limits(self.settings).lease_s,
        )

    def _new_owner(self) -> str:
        return unique_owner(self.worker_name)

    def _drains(self, recovery: Recovery) -> list[Drain]:
        settings, ports = self.settings, self.ports
        letters = DeadLetters(
            ports,
            self.completion,
            self.committer,
            recovery,
            dead_letter_limits(settings),
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
                drain_limits(settings, queue_settings),
                ports.clock,
                ports.metrics,
            )
            for queue, queue_settings, handle in handlers
        ]

    def _consumer(
        self, queue: Queue, handle: Handler, limits: ConsumeLimits, capacity: Capacity | None = None
    ) -> Consumer:
        ports = self.ports
        return Consumer(queue, handle, limits, ports.clock, ports.metrics, capacity=capacity)


async def open_builder(
    ports: Ports,
    settings: Settings,
    catalog: LiveCatalog,
    receivers: Receivers,
    stack: AsyncExitStack,
    *,
    worker_name: str,
    only_batch: str = "",
) -> RoleBuilder:
    """The builder of this process's roles. They share one group commit, which is closed with `stack`."""
    completion = Completion(ports, FailureJudge(ports))
    transactions = TRANSACTIONS_ALONE if only_batch else 1
    committer = open_committer(ports, settings, completion, worker_name, transactions=transactions)
    return RoleBuilder(
        ports=ports,
        settings=settings,
        catalog=catalog,
        completion=completion,
        committer=await stack.enter_async_context(committer),
        worker_name=worker_name,
        receivers=receivers,
        stack=stack,
        only_batch=only_batch,
    )


def open_committer(
    ports: Ports, settings: Settings, completion: Completion, name: str, *, transactions: int = 1
) -> GroupCommitter:
    """The group commit of this process, not entered yet; the worker's `name` chooses its counter slot.

    `transactions` of a batch are under way at a time.
    """
    commit = settings.commit
    return GroupCommitter(
        ports,
        completion,
        GroupCommitLimits(
            linger_s=commit.linger_s,
            reply_linger_s=commit.reply_linger_s,
            max_rows=commit.max_rows,
            timeout_s=commit.timeout_s,
            max_transactions=transactions,
        ),
        # workers spread over the counter slots, so that their commits seldom conflict
        slot=zlib.crc32(name.encode()) % commit.slots,
        tokens=lambda: str(uuid.uuid4()),
    )
