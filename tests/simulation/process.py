"""One process of a world: the real classes of a role, on ports behind the simulated network."""

from __future__ import annotations

import asyncio
import itertools
import random
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from service.aggregator.aggregator import AggregateLimits, Aggregator
from service.batch.commits.commit_group import GroupCommitLimits
from service.batch.commits.group_commit import GroupCommitter
from service.batch.completion import Completion
from service.batch.large_outcomes import LargeOutcomeLimits, LargeOutcomes
from service.batch.large_rows import ClaimCheck
from service.batch.role_ports import Ports, Queues
from service.domain.errors import AccessError, RetryableError, UsageError
from service.domain.model.event_composer import EventComposer
from service.events.poller import SendLimits
from service.events.sender import EventSender
from service.mapping import Definition, RowMapping
from service.recovery.lost_rows import RecoveryLimits
from service.recovery.recovery import Recovery
from service.runtime.consumer import ConsumeLimits, Consumer, Handler
from service.runtime.metrics import Metrics
from service.runtime.tasks import until_stopped
from service.splitter.opening import OpenLimits
from service.splitter.split import SplitLimits
from service.splitter.splitter import Splitter
from service.steering.answers import ask
from service.steering.failures import FailureJudge
from service.steering.operate import operate
from service.steering.remapping.work import RemapWork
from service.steering.rounds import opens_round
from service.steering.work import FleetWork
from service.sweeper.dead_letters import DeadLetterLimits, DeadLetters
from service.sweeper.drain import Drain, DrainLimits, left_in
from service.sweeper.interventions import Interventions
from service.sweeper.sweep_limits import HOLD_S, SweepLimits
from service.sweeper.sweeper import Sweeper
from service.worker.admission.gates import Gates
from service.worker.attempts import GRACE_S
from service.worker.batch_cache import BatchCache
from service.worker.budgets.budgets import Budgets
from service.worker.rate_limit.limiter import Limiter
from service.worker.worker import Worker, WorkLimits
from tests.simulation.agent import SimulatedAgent, WorldAgents
from tests.simulation.faults import FaultInjector
from tests.simulation.loop import Owner, VirtualLoop
from tests.simulation.mappings import definition_of
from tests.simulation.monitor import Monitor
from tests.simulation.network import FaultyObjects, FaultyQueue, FaultyTable, Network
from tests.simulation.observed_ports import ObservedObjects, ObservedQueue, ObservedTable, WorldClock
from tests.simulation.operators import DirectRequests
from tests.simulation.scenario import Scenario
from tests.simulation.told_events import TARGETS, SimulatedTarget, composer
from tests.simulation.trace import Trace

RESEND_AFTER_S = 90.0
"""Age of a row at which the sweeper resends it whatever the queue holds: some first messages still wait."""

NEVER_S = 1e6
"""Results are not given up: each batch of a world ends after its faults."""


@dataclass(slots=True)
class SharedWorld:
    """The parts of a world that its processes share."""

    scenario: Scenario
    loop: VirtualLoop
    faults: FaultInjector
    trace: Trace
    monitor: Monitor
    table: ObservedTable
    objects: ObservedObjects
    queues: dict[str, ObservedQueue]
    agents: WorldAgents
    start_ms: int
    batch_ids: Sequence[str]
    direct: DirectRequests
    components: Components


class Components:
    """The classes and handlers that an ablation can replace by worse ones. These are the real ones."""

    completion: type[Completion] = Completion
    judge: type[FailureJudge] = FailureJudge
    committer: type[GroupCommitter] = GroupCommitter
    table: type[FaultyTable] = FaultyTable
    queue: type[FaultyQueue] = FaultyQueue
    objects: type[FaultyObjects] = FaultyObjects
    observed_table: type[ObservedTable] = ObservedTable
    splitter: type[Splitter] = Splitter
    worker: type[Worker] = Worker
    batches: type[BatchCache] = BatchCache
    budgets: type[Budgets] = Budgets
    interventions: type[Interventions] = Interventions
    sweeper: type[Sweeper] = Sweeper
    aggregator: type[Aggregator] = Aggregator
    sender: type[EventSender] = EventSender
    fleet_work: type[FleetWork] = FleetWork
    sweeps = True
    drains = True

    def handler(self, process: Process, handle: Handler) -> Handler:
        """The handler of the worker's consumer."""
        return handle


class Process:
    """A process with one role, from its start to its end. A restart makes another Process."""

    def __init__(self, shared: SharedWorld, role: str, name: str, skew_s: float) -> None:
        self.role = role
        self.owner = Owner(name)
        self.monitor = shared.monitor
        self.redelivery_rate = shared.scenario.redelivery_rate
        self.stall_rate = shared.scenario.stall_rate if role == "splitter" else 0.0
        self.late_rate = shared.scenario.late_rate
        self.stop_asked_at: float | None = None
        self.is_over = False
        self.metrics = Metrics()
        self.on_end: Callable[[], None] = lambda: None
        self._shared = shared
        # Not hash(), which differs between runs of Python.
        self._random = random.Random(zlib.crc32(f"{shared.scenario.seed} {name}".encode()))
        self._clock = WorldClock(shared.loop, shared.start_ms, skew_s)
        self._network = Network(
            shared.loop, shared.faults, shared.trace, self, shared.scenario.storage_faults
        )
        self._numbers = itertools.count(1)
        self._stop = asyncio.Event()
        components = shared.components
        self._table = components.table(shared.table, self._network)
        self._objects = components.objects(shared.objects, self._network)
        self._queues = {
            name_: components.queue(queue, self._network) for name_, queue in shared.queues.items()
        }
        self._ports = self._open_ports()
        self._completion = components.completion(self._ports, components.judge(self._ports))

    @property
    def is_stopping(self) -> bool:
        """True once it was told to stop."""
        return self.stop_asked_at is not None

    def start(self) -> None:
        """Start the role's tasks."""
        self._shared.trace.add(self.owner.name, "started")
        self.task = self._shared.loop.spawn(self.owner, self._main())

    def crash(self) -> None:
        """SIGKILL: none of its tasks runs any more."""
        if not self.is_over:
            self._shared.trace.add(self.owner.name, "KILLED")
            self.owner.is_frozen = True
            self._end()

    def stop(self) -> None:
        """SIGTERM: ask it to stop."""
        if self.stop_asked_at is None and not self.is_over:
            self._shared.trace.add(self.owner.name, "told to stop")
            self.stop_asked_at = self._shared.loop.time()
            self._shared.loop.spawn(self.owner, self._set_stop())

    def pause(self) -> None:
        """SIGSTOP: none of its tasks runs until it is resumed."""
        self._shared.trace.add(self.owner.name, "paused")
        self.owner.is_frozen = True

    def resume(self) -> None:
        """SIGCONT. Does nothing if it was killed meanwhile."""
        if not self.is_over:
            self._shared.trace.add(self.owner.name, "goes on")
            self._shared.loop.thaw(self.owner)

    def queue(self, name: str) -> FaultyQueue:
        """A queue as this process reaches it."""
        return self._queues[name]

    async def _set_stop(self) -> None:
        self._stop.set()

    async def _main(self) -> None:
        try:
            await getattr(self, f"_{self.role}")()
        finally:
            if not self.is_over:
                self._shared.trace.add(self.owner.name, "stopped")
                self._end()

    def _end(self) -> None:
        self.is_over = True
        self.on_end()

    # -- roles -----------------------------------------------------------------------------------------

    async def _splitter(self) -> None:
        async with self._committer() as committer:
            await self._split_with(committer)

    async def _split_with(self, committer: GroupCommitter) -> None:
        scenario = self._shared.scenario
        mappings = {file.mapping.name: file.mapping for file in scenario.files}

        def definition(name: str) -> Definition:
            is_new = 0 < scenario.new_mapping_at_s <= self._shared.loop.time()
            return definition_of(mappings[name], is_new=is_new)

        splitter = self._shared.components.splitter(
            self._ports,
            self._completion,
            definition,
            SplitLimits(
                send_concurrency=scenario.send_concurrency,
                checkpoint_bytes=scenario.checkpoint_bytes,
                lease_s=scenario.lease_s,
                read_bytes=scenario.read_bytes,
                max_message_bytes=scenario.max_message_bytes,
                opening=OpenLimits(
                    results_bucket="out",
                    ttl_s=scenario.ttl_s,
                    partition_bytes=scenario.partition_bytes,
                    checkpoint_rows=scenario.window,
                ),
            ),
            work=self._fleet_work(committer, self._recovery(committer)),
            rng=self._random,
            owners=self._new_owner,
        )  # fmt: skip
        await self._consume("ingest", splitter.handle, self._limits(4))

    async def _worker(self) -> None:
        scenario, name = self._shared.scenario, self.owner.name
        async with self._committer() as committer:
            gates = Gates(self._clock)
            batches = self._shared.components.batches(
                self._ports, self._open_agent, gates,
                max_in_flight=scenario.max_running, open_limiter=self._open_limiter,
            )  # fmt: skip
            budgets = self._shared.components.budgets(self._ports, owners=self._new_owner)
            worker = self._shared.components.worker(
                self._ports, batches, committer, ClaimCheck(self._objects),
                WorkLimits(
                    worker=name, inline_wait_s=scenario.inline_wait_s, max_lost=2 * scenario.max_receives
                ),
                budgets=budgets,
                rng=self._random,
            )  # fmt: skip
            limits = self._limits(scenario.max_running, held=scenario.max_held, pollers=scenario.pollers)
            await self._consume("rows", self._shared.components.handler(self, worker.handle), limits, gates)
            await budgets.close()
            await batches.close()

    async def _aggregator(self) -> None:
        scenario, name = self._shared.scenario, self.owner.name
        aggregator = self._shared.components.aggregator(
            self._ports,
            AggregateLimits(
                page_rows=scenario.page_rows, lease_s=scenario.lease_s, give_up_after_s=NEVER_S,
                flush_bytes=min(scenario.part_bytes, 2**18),
            ),
            owners=lambda: f"{name}/{next(self._numbers)}",
        )  # fmt: skip
        await self._consume("aggregate", aggregator.handle, self._limits(2))

    async def _operator(self) -> None:
        """Carries out requests itself, as the command line does. One that is under way dies with it."""
        await until_stopped(self._stop, self._operate_forever())

    async def _operate_forever(self) -> None:
        shared = self._shared
        while True:
            planned, request = await shared.direct.next(shared.loop)
            self._network.fatal_call = "table.operate" if planned.is_fatal else ""
            with suppress(UsageError, RetryableError, AccessError):
                if opens_round(request):
                    await ask(self._ports, request)
                else:
                    await operate(self._ports, request)
                shared.faults.happened[f"world: {request.op}"] += 1

    async def _sweeper(self) -> None:
        """The sweeper, and a drain for each dead-letter queue."""
        components, scenario = self._shared.components, self._shared.scenario
        async with self._committer() as committer, asyncio.TaskGroup() as group:
            recovery = self._recovery(committer)
            drains = self._drains(committer, recovery) if components.drains else []
            if components.sweeps:
                limits = SweepLimits(
                    interval_s=20.0, stuck_after_s=60.0, resend_after_s=RESEND_AFTER_S,
                    lease_s=scenario.lease_s, hold_s=scenario.hold_s or HOLD_S,
                    trouble_pause_s=scenario.trouble_pause_s,
                )  # fmt: skip
                interventions = components.interventions(
                    self._ports, self._completion, recovery, self._fleet_work(committer, recovery), limits,
                    left=partial(left_in, drains),
                )  # fmt: skip
                sweeper = components.sweeper(self._ports, interventions, limits, owners=self._new_owner)
                group.create_task(sweeper.run(self._stop))
            for part in [*drains, *self._senders()]:
                group.create_task(part.run(self._stop))
            await self._stop.wait()

    def _new_owner(self) -> str:
        return f"{self.owner.name}/{next(self._numbers)}"

    def _fleet_work(self, committer: GroupCommitter, recovery: Recovery) -> FleetWork:
        return self._shared.components.fleet_work(
            self._ports, recovery, self._completion,
            RemapWork(self._ports, committer, worker=self.owner.name),
            owners=self._new_owner, lease_s=self._shared.scenario.lease_s,
        )  # fmt: skip

    def _senders(self) -> list[EventSender]:
        """A sender of events for each target; it rests for longer than a real one, to save steps."""
        shared = self._shared
        if not shared.scenario.tells_events:
            return []
        limits = SendLimits(interval_s=10.0, lease_s=120.0)
        return [
            shared.components.sender(
                self._ports,
                SimulatedTarget(name, self._network, shared.monitor.told, shared.table, shared.objects),
                TARGETS,
                limits,
            )
            for name in TARGETS
        ]

    def _recovery(self, committer: GroupCommitter) -> Recovery:
        limits = RecoveryLimits(
            worker=self.owner.name, max_message_bytes=self._shared.scenario.max_message_bytes
        )
        return Recovery(self._ports, committer, limits)

    def _drains(self, committer: GroupCommitter, recovery: Recovery) -> list[Drain]:
        scenario = self._shared.scenario
        letters = DeadLetters(
            self._ports, self._completion, committer, recovery,
            DeadLetterLimits(
                *[scenario.max_receives] * 3, stuck_after_s=60.0, give_up_after_s=NEVER_S
            ),
        )  # fmt: skip
        limits = DrainLimits(visibility_s=max(90.0, scenario.visibility_s), poll_wait_s=scenario.poll_wait_s)
        handlers = {
            "ingest-dlq": letters.job, "rows-dlq": letters.row, "aggregate-dlq": letters.aggregation
        }  # fmt: skip
        return [
            Drain(self._queues[name], handle, limits, self._clock, self.metrics)
            for name, handle in handlers.items()
        ]

    def _open_ports(self) -> Ports:
        limits = LargeOutcomeLimits(bucket="out", max_item_bytes=self._shared.scenario.max_item_bytes)
        queues = Queues(
            ingest=self._queues["ingest"],
            rows=self._queues["rows"],
            aggregate=self._queues["aggregate"],
            dead_ingest=self._queues["ingest-dlq"],
            dead_rows=self._queues["rows-dlq"],
            dead_aggregate=self._queues["aggregate-dlq"],
        )
        outcomes = LargeOutcomes(self._objects, limits)
        events = composer() if self._shared.scenario.tells_events else EventComposer()
        return Ports(self._table, self._objects, queues, outcomes, self._clock, self.metrics, events)

    def _committer(self) -> GroupCommitter:
        scenario = self._shared.scenario
        return self._shared.components.committer(
            self._ports, self._completion,
            GroupCommitLimits(linger_s=scenario.commit_linger_s, max_rows=scenario.commit_rows),
            slot=zlib.crc32(self.owner.name.encode()) % scenario.slots,
            tokens=lambda: f"{self._random.getrandbits(128):036x}",
        )  # fmt: skip

    def _open_agent(self, mapping: object) -> SimulatedAgent:
        return SimulatedAgent(self._shared.agents, self._network, self._clock, self.monitor)

    def _open_limiter(self, mapping: RowMapping) -> Limiter | None:
        if mapping.rate_limit is None:
            return None
        return Limiter(
            self._table, mapping.rate_limit,
            owner=f"{self.owner.name}/{next(self._numbers)}", clock=self._clock, metrics=self.metrics,
            call_s=mapping.execution.timeout_s + GRACE_S,
        )  # fmt: skip

    def _limits(self, running: int, *, held: int | None = None, pollers: int = 1) -> ConsumeLimits:
        scenario = self._shared.scenario
        # Rows may have short leases. Those of other messages are longer, because renewals cost steps.
        return ConsumeLimits(
            visibility_s=scenario.visibility_s if held else max(90.0, scenario.visibility_s),
            poll_wait_s=scenario.poll_wait_s, pollers=pollers, max_running=running,
            max_held=held or running, drain_s=scenario.drain_s, can_resume=not held,
        )  # fmt: skip

    async def _consume(
        self, queue: str, handle: Handler, limits: ConsumeLimits, gates: Gates | None = None
    ) -> None:
        consumer = Consumer(self._queues[queue], handle, limits, self._clock, self.metrics, capacity=gates)
        await consumer.run(self._stop)
