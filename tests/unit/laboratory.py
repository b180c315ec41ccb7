"""A laboratory for tests: all roles on memory ports, a scripted agent, deliveries made by hand."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

from service.adapters.memory import MemoryClock, MemoryObjects, MemoryQueue, MemoryTable
from service.aggregator.aggregator import AggregateLimits, Aggregator
from service.batch.commits.commit_group import GroupCommitLimits
from service.batch.commits.group_commit import GroupCommitter
from service.batch.completion import Completion
from service.batch.large_outcomes import LargeOutcomeLimits, LargeOutcomes
from service.batch.large_rows import ClaimCheck
from service.batch.role_ports import Ports, Queues
from service.batch.row_checks import REPEAT_DELAY_S
from service.domain.message_format import encode
from service.domain.messages import RowMessage
from service.domain.model import Batch, BatchView, Location, Outcome, RowError, Source, State, Status
from service.domain.model.event_composer import EventComposer
from service.domain.ports import Invocation, OutgoingMessage, Queue, ReceivedMessage, Reply
from service.mapping import Catalog, Definition
from service.recovery.lost_rows import RecoveryLimits
from service.recovery.recovery import Recovery
from service.runtime.consumer import ConsumeLimits, Consumer
from service.runtime.delivery import Capacity, Delivery
from service.runtime.leases import Lease
from service.runtime.metrics import Metrics
from service.splitter.opening import OpenLimits
from service.splitter.split import SplitLimits
from service.splitter.splitter import Splitter
from service.steering.failures import FailureJudge
from service.steering.remapping.work import RemapWork
from service.steering.work import FleetWork
from service.sweeper.dead_letters import DeadLetterLimits, DeadLetters
from service.sweeper.drain import Drain, DrainLimits
from service.sweeper.interventions import Interventions
from service.sweeper.sweep_limits import SweepLimits
from service.sweeper.sweeper import Sweeper
from service.worker.admission.gates import Gates
from service.worker.batch_cache import BatchCache
from service.worker.budgets.budgets import Budgets
from service.worker.worker import Worker, WorkLimits

DEMO = """
target: {type: tool, name: demo, invoke: python, function: "demo:ask"}
input_mapping: {column_mappings: {name: name}}
output_mapping:
  type: tool
  extraction_methods: [{method: direct, field_mappings: {answer: $.answer}}]
execution:
  timeout_seconds: 10
  retry_policy: {max_attempts: 3, base_seconds: 2, cap_seconds: 60}
"""
BUCKET = "in"
KEY = "files/rows.csv"


def definition_of(yaml: str, name: str = "demo") -> Definition:
    """The definition of a mapping, as the catalog compiles it."""
    return Catalog.load({f"{name}.yaml": yaml}, {}).definition(name)


class ScriptedAgent:
    """Replies by a function of the invocation, which may be async; an exception that it returns is raised."""

    def __init__(self, script: Callable[[Invocation], object] | None = None) -> None:
        self.script = script or (lambda invocation: {"answer": f"re: {invocation.body['name']}"})
        self.calls: list[Invocation] = []
        self.running = self.most_running = 0
        self.closed = 0

    async def invoke(self, invocation: Invocation) -> Reply:
        """Call the script."""
        self.calls.append(invocation)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            answer = self.script(invocation)
            if inspect.isawaitable(answer):
                answer = await answer
        finally:
            self.running -= 1
        if isinstance(answer, Exception):
            raise answer
        return Reply(answer)

    async def close(self) -> None:
        """Count it."""
        self.closed += 1


class StubConsumer:
    """Stands for the consumer of a delivery made by hand; records the calls of the delivery."""

    def __init__(self) -> None:
        self.slots_released = self.max_bytes = 0
        self.is_draining = False

    def slot_released(self) -> None:
        """Count it."""
        self.slots_released += 1

    def report_bytes(self, lease: Lease, size: int) -> None:
        """Keep the largest size."""
        self.max_bytes = max(self.max_bytes, size)


class Lab:
    """Memory ports, and every role on them. `table`, `rows` and other ports may be replaced before use."""

    def __init__(self, clock=None, table=None) -> None:
        self.clock = clock or MemoryClock()
        self.table = table or MemoryTable()
        self.objects = MemoryObjects()
        self.dead = {name: MemoryQueue(f"{name}-dlq", self.clock) for name in ("ingest", "rows", "aggregate")}
        self.ingest: Queue = self.queue("ingest")
        self.rows: Queue = self.queue("rows")
        self.aggregate: Queue = self.queue("aggregate")
        self.metrics = Metrics()
        self.events = EventComposer(status=lambda view: {"state": str(view.batch.state)})
        self.large_outcome_limits = LargeOutcomeLimits("out")
        self.definitions = {"demo": definition_of(DEMO)}
        self.agent = ScriptedAgent()
        self.gates = Gates(self.clock)
        self.tokens = (f"{number:036d}" for number in itertools.count(1))
        self.rng = random.Random(7)
        self._ids = itertools.count(1)

    def queue(self, name: str, max_receives: int = 5) -> MemoryQueue:
        """A queue with its dead-letter queue."""
        return MemoryQueue(name, self.clock, dead_letters=self.dead[name], max_receives=max_receives)

    # -- roles -----------------------------------------------------------------------------------------

    def find(self, name: str) -> Definition:
        """The definition of a mapping, as the catalog finds it."""
        return Catalog().definition(name) if name not in self.definitions else self.definitions[name]

    @property
    def large_outcomes(self) -> LargeOutcomes:
        """The claim check for outcomes."""
        return LargeOutcomes(self.objects, self.large_outcome_limits)

    @property
    def ports(self) -> Ports:
        """The ports as they stand now."""
        queues = Queues(
            ingest=self.ingest,
            rows=self.rows,
            aggregate=self.aggregate,
            dead_ingest=self.dead["ingest"],
            dead_rows=self.dead["rows"],
            dead_aggregate=self.dead["aggregate"],
        )
        ports = (self.table, self.objects, queues, self.large_outcomes, self.clock, self.metrics)
        return Ports(*ports, events=self.events)

    @property
    def completion(self) -> Completion:
        """The completion check."""
        return Completion(self.ports, FailureJudge(self.ports))

    def committer(self, *, slot: int = 0, **limits) -> GroupCommitter:
        """A group committer without a linger: that takes real time, in which much virtual time may pass."""
        limits = GroupCommitLimits(**{"linger_s": 0.0, "timeout_s": 5.0} | limits)
        return GroupCommitter(
            self.ports,
            self.completion,
            limits,
            slot=slot,
            tokens=lambda: next(self.tokens),
        )

    def batch_cache(self, open_agent=None, *, max_in_flight: int = 64) -> BatchCache:
        """A batch cache whose agent is `self.agent`."""
        return BatchCache(
            self.ports, open_agent or (lambda _: self.agent), self.gates, max_in_flight=max_in_flight
        )

    def worker(
        self,
        committer: GroupCommitter,
        batches: BatchCache | None = None,
        *,
        name="w1",
        budgets: Budgets | None = None,
        **limits,
    ) -> Worker:
        """A worker. Its budgets are not closed."""
        return Worker(
            self.ports,
            batches or self.batch_cache(),
            committer,
            ClaimCheck(self.objects),
            WorkLimits(name, **{"quarantine_pause_s": 0.0} | limits),
            budgets=budgets or self.budgets(),
            rng=random.Random(7),
        )

    def budgets(self) -> Budgets:
        """The budgets of one process."""
        return Budgets(self.ports, owners=lambda: f"budget-{next(self._ids)}")

    @asynccontextmanager
    async def working(self, batches: BatchCache | None = None, **options) -> AsyncIterator[Worker]:
        """A worker with a group committer of its own."""
        async with self.committer() as committer:
            yield self.worker(committer, batches, **options)

    def splitter(self, committer: GroupCommitter | None = None, **limits) -> Splitter:
        """A splitter with small windows."""
        names = ("partition_bytes", "max_partitions", "checkpoint_rows")
        opening = {name: limits.pop(name) for name in names if name in limits}
        opened = OpenLimits(**{"results_bucket": "out", "checkpoint_rows": 10} | opening)
        return Splitter(
            self.ports,
            self.completion,
            self.find,
            SplitLimits(**{"read_bytes": 64, "opening": opened} | limits),
            work=self.fleet_work(committer or self.committer()),
            rng=self.rng,
            owners=lambda: f"splitter-{next(self._ids)}",
        )

    def fleet_work(self, committer: GroupCommitter) -> FleetWork:
        """The work that operations leave; only that of `cancel` needs an open committer."""
        return FleetWork(
            self.ports,
            self.recovery(committer),
            self.completion,
            RemapWork(self.ports, committer, worker="w9"),
            owners=lambda: f"work-{next(self._ids)}",
            lease_s=40.0,
        )

    def aggregator(self, page_rows: int = 1_000, **limits) -> Aggregator:
        """An aggregator."""
        return Aggregator(
            self.ports,
            AggregateLimits(page_rows, **limits),
            owners=lambda: f"aggregator-{next(self._ids)}",
        )

    def recovery(self, committer: GroupCommitter, **limits) -> Recovery:
        """The part that sweeper and dead letters share."""
        limits = RecoveryLimits(**{"worker": "s1", "read_bytes": 64} | limits)
        return Recovery(self.ports, committer, limits)

    def sweeper(
        self, committer: GroupCommitter, recovery: Recovery | None = None, *, left=lambda _: 0, **limits
    ) -> Sweeper:
        """A sweeper."""
        made = SweepLimits(**limits)
        interventions = Interventions(
            self.ports,
            self.completion,
            recovery or self.recovery(committer),
            self.fleet_work(committer),
            made,
            left=left,
        )
        return Sweeper(self.ports, interventions, made, owners=lambda: f"sweeper-{next(self._ids)}")

    def dead_letters(self, committer: GroupCommitter, **limits) -> DeadLetters:
        """The handlers of dead letters."""
        return DeadLetters(
            self.ports,
            self.completion,
            committer,
            self.recovery(committer),
            DeadLetterLimits(**limits),
        )

    def drain(self, name: str, handle, **limits) -> Drain:
        """The drain of the dead letters of the queue `name`, without a linger."""
        limits = DrainLimits(**{"poll_wait_s": 1.0, "delete_linger_s": 0.0} | limits)
        return Drain(self.dead[name], handle, limits, self.clock, self.metrics)

    def consumer(self, queue: Queue, handle, *, capacity: Capacity | None = None, **limits) -> Consumer:
        """A consumer without lingers."""
        defaults = {"poll_wait_s": 1.0, "receive_linger_s": 0.0, "delete_linger_s": 0.0, "drain_s": 5.0}
        limits = ConsumeLimits(**defaults | limits)
        return Consumer(queue, handle, limits, self.clock, self.metrics, capacity=capacity)

    @asynccontextmanager
    async def consuming(self, *consumers: Consumer | Drain) -> AsyncIterator[asyncio.Event]:
        """Run the consumers. At the end they are told to stop, and time passes until they have stopped."""
        stop = asyncio.Event()
        tasks = [asyncio.create_task(consumer.run(stop)) for consumer in consumers]
        try:
            yield stop
        finally:
            stop.set()
            await self.until(lambda: all(task.done() for task in tasks), step_s=1.0)
            await asyncio.gather(*tasks)

    async def until(self, is_true: Callable[[], bool], *, step_s: float = 0.0) -> None:
        """Let tasks run, and time pass in steps of `step_s`, until the condition is true."""
        while not is_true():
            await self.pass_time(step_s)

    async def pass_time(self, seconds: float) -> None:
        """Let time pass; on the system's clock only let other tasks run."""
        if isinstance(self.clock, MemoryClock):
            await self.clock.advance(seconds)
        else:
            await asyncio.sleep(0)

    # -- data ------------------------------------------------------------------------------------------

    async def put(self, text: str | bytes, key: str = KEY) -> Source:
        """Upload a source."""
        body = text.encode() if isinstance(text, str) else text
        await self.objects.put(BUCKET, key, body, content_type="text/csv")
        return await self.objects.head(BUCKET, key)

    def job(self, execution_id: str = "e1", key: str = KEY, **more) -> str:
        """A job message for the source."""
        return encode(
            {"v": 1, "mapping": "demo", "source": f"s3://{BUCKET}/{key}", "execution_id": execution_id} | more
        )

    def delivery(
        self, body: str, *, receives: int = 1, message_id: str = "", consumer: StubConsumer | None = None
    ) -> Delivery:
        """The delivery of a message to a handler; of a new message unless it is named."""
        id_ = message_id or f"m{next(self._ids)}"
        message = ReceivedMessage(id_, body, f"r{next(self._ids)}", receives)
        return Delivery(Lease(message, self.clock.monotonic()), consumer or StubConsumer())

    async def batch(
        self, total: int | None = 3, *, execution_id="e1", state=State.RUNNING, definition=None, **changes
    ) -> Batch:
        """A batch as the splitter leaves it; with `total` None it is still being split."""
        definition = definition or self.definitions["demo"]
        mapping = definition.compile()
        batch = Batch(
            tool_name="demo",
            execution_id=execution_id,
            state=State.SPLITTING,
            source=Source(BUCKET, KEY, "etag"),
            output=Location("out", f"results/demo/{execution_id}/"),
            mapping_digest=definition.digest,
            columns=("id", "name"),
            output_fields=mapping.output_fields,
            created_at="2026-11-23T07:00:00.000Z",
            ttl=2_000_000_000,
        )
        batch = replace(batch, **changes)
        if total is not None:
            batch = replace(batch, total=total, state=state)
        return await self.table.open(batch, definition.text)

    def row(self, number: int, batch: Batch, **more) -> RowMessage:
        """The message of row `number`."""
        cells = (str(number), f"name {number}")
        of_batch = {"incarnation": batch.incarnation, "sender": batch.sender}
        return RowMessage(batch.batch_id, batch.round, number, cells, **of_batch | more)

    def outcome(self, number: int, *, failed: str = "", round_: int = 1, **more) -> Outcome:
        """An outcome; FAILED with this text if there is one."""
        return Outcome(
            number=number,
            round=round_,
            status=Status.FAILED if failed else Status.SUCCESS,
            input_data={"id": str(number), "name": f"name {number}"},
            output_data={} if failed else {"answer": f"re: name {number}"},
            execution_time_ms=5,
            timestamp="2026-11-23T07:00:01.000Z",
            worker="w1",
            error=RowError("AgentRejectedError", failed) if failed else None,
            **more,
        )

    async def view(self, batch_id: str = "demo#e1") -> BatchView:
        """The batch and its counts as they stand."""
        view = await self.table.read(batch_id)
        assert view is not None
        return view

    async def outcomes(self, batch: Batch) -> dict[int, Outcome]:
        """All outcomes by number."""
        found: dict[int, Outcome] = {}
        for partition in range(batch.partitions):
            after: int | None = 0
            while after is not None:
                page = await self.table.outcomes(batch, partition, after=after, limit=1_000)
                found |= {outcome.number: outcome for outcome in page.outcomes}
                after = page.after
        return found

    async def waiting(self, queue: Queue) -> list[str]:
        """The bodies of all visible messages. Reading them hides them for an hour."""
        bodies: list[str] = []
        while messages := await queue.receive(10, wait_s=0, visibility_s=3600):
            bodies += [message.body for message in messages]
        return bodies

    async def sent_rows(self) -> list[RowMessage]:
        """The visible row messages, ordered by number. Time passes until a splitter's repeats are visible."""
        entries = self.rows._entries.values()
        if any(entry.outgoing.delay_s == REPEAT_DELAY_S and not entry.receives for entry in entries):
            await self.pass_time(REPEAT_DELAY_S)
        rows = [RowMessage.decode(body) for body in await self.waiting(self.rows)]
        return sorted(rows, key=lambda row: row.number)

    async def send(self, queue: Queue, *bodies: str) -> None:
        """Send messages as they are."""
        for body in bodies:
            await queue.send([OutgoingMessage(body)])
