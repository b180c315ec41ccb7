"""A world: one scenario from its start to its end, on one loop, in virtual time."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace

import stamina.instrumentation
import tenacity

from service.domain.message_format import encode
from service.domain.ports import OutgoingMessage
from tests.simulation.agent import WorldAgents
from tests.simulation.agent_calls import AgentCalls
from tests.simulation.faults import FaultInjector
from tests.simulation.invariants import FinalState, Violation, final_violation
from tests.simulation.loop import DeadlockError, StepLimitError, VirtualLoop
from tests.simulation.monitor import Monitor
from tests.simulation.observed_ports import ObservedObjects, ObservedQueue, WorldClock
from tests.simulation.process import Components, Process, SharedWorld
from tests.simulation.redrive import Redrives
from tests.simulation.scenario import PlannedProcessFault, ProcessFault, Scenario, scenario
from tests.simulation.trace import Trace

START_MS = 1_700_000_000_000
"""14 November 2023, when all worlds begin."""


@dataclass(slots=True)
class Result:
    """What became of a world."""

    scenario: Scenario
    violation: Violation | None
    happened: Counter[str]
    trace: Trace
    virtual_s: float
    steps: int


def simulate(seed: int, components: Components | None = None) -> Result:
    """Run the world of a seed."""
    return World(scenario(seed), components or Components()).run()


class World:
    """All that there is."""

    def __init__(self, scenario: Scenario, components: Components) -> None:
        self.scenario = scenario
        draws = random.Random(scenario.seed + 1)
        self._random = random.Random(scenario.seed + 2)
        self.loop = loop = VirtualLoop(draws)
        self.trace = trace = Trace(loop.time)
        faults = FaultInjector(scenario.rates, scenario.until_s, random.Random(scenario.seed + 3), loop.time)
        self.happened: Counter[str] = faults.happened
        self.violation: Violation | None = None
        self.monitor = monitor = Monitor(trace, self._violated)
        monitor.on_progress = self._look
        clock = WorldClock(loop, START_MS)
        self.table = monitor.table = components.observed_table(monitor)
        self.objects = monitor.objects = ObservedObjects(monitor)
        for name in ("ingest", "rows", "aggregate"):
            dead = ObservedQueue(f"{name}-dlq", loop, clock, monitor, draw=draws.random, max_receives=10**9)
            monitor.queues[dead.name] = dead
            monitor.queues[name] = ObservedQueue(
                name, loop, clock, monitor, draw=draws.random, dead_letters=dead,
                max_receives=scenario.max_receives,
            )  # fmt: skip
        self.queues = monitor.queues
        self.batch_ids = [f"{file.mapping.name}#file-{n}" for n, file in enumerate(scenario.files)]
        monitor.files.update(zip(self.batch_ids, scenario.files, strict=True))
        monitor.calls = AgentCalls(loop.time, monitor.broken)
        monitor.target_faults = scenario.target_faults
        monitor.start_ms = START_MS
        monitor.max_lost = 2 * scenario.max_receives
        monitor.clocks_differ_s = max(0.0, *scenario.clock_skews_s) - min(0.0, *scenario.clock_skews_s)
        self._shared = SharedWorld(
            scenario, loop, faults, trace, monitor, self.table, self.objects, self.queues,
            WorldAgents(monitor.files, scenario.target_faults, monitor.calls), START_MS, components,
        )  # fmt: skip
        self._redrives = Redrives(
            self.batch_ids, self.table, self.queues, monitor, loop, self._random, faults.happened
        )
        self._present: list[Process] = []
        self._everyone: list[Process] = []
        self._resumed_by = 0.0
        self._is_ending = False

    # -- from start to end -----------------------------------------------------------------------------

    def run(self) -> Result:
        """Until everything is done, an invariant is broken, or time is up."""
        with _third_parties(self.loop, self.scenario.seed):
            self.loop.spawn(self.loop.world, self._begin())
            self._present += [self._born(index, 0) for index in range(len(self.scenario.roles))]
            for plan in self.scenario.process_faults:
                self.loop.at(plan.at_s, self._strike, plan)
            for when in self.scenario.message_losses_at_s:
                self.loop.at(when, self._lose)
            self.loop.at(self.scenario.end_s, self.loop.stop)
            self._look_now_and_then()
            try:
                self.loop.run()
            except DeadlockError as error:
                self.monitor.broken("nothing_stuck", str(error))
            except StepLimitError as error:
                self.monitor.broken("orderly", str(error))
            if self.violation is None:
                self._judge()
            self._count_turned_away()
            now, steps, violation = self.loop.time(), self.loop.steps, self.violation
            self.loop.cancel_all([process.owner for process in self._everyone])
        return Result(self.scenario, violation, self.happened, self.trace, now, steps)

    async def _begin(self) -> None:
        """Put the files where they belong, and have their jobs sent."""
        for number, file in enumerate(self.scenario.files):
            lines = ["id,name", *(f"{n},{name}" for n, name in enumerate(file.names, 1))]
            body = "\n".join(lines).encode() + b"\n"
            await self.objects.put("in", f"file-{number}.csv", body, content_type="text/csv")
            job = {
                "v": 1, "mapping": file.mapping.name, "source": f"s3://in/file-{number}.csv",
                "execution_id": f"file-{number}", "options": dict(file.options),
            }  # fmt: skip
            for when in file.jobs_at_s:
                self.loop.at(when, self.queues["ingest"].copy, OutgoingMessage(encode(job)), 0)

    def _judge(self) -> None:
        """Everything is over, or should be."""
        final = FinalState(
            self.scenario, self.table, self.objects, self.monitor, self.batch_ids, self._everyone,
            self.loop.time(), self._is_done(),
        )  # fmt: skip
        if self.loop.errors:
            self.monitor.broken("orderly", self.loop.errors[0])
        elif found := final_violation(final):
            self.monitor.broken(*found)

    def _count_turned_away(self) -> None:
        """What the rows met, beside faults."""
        for kind in ("TargetFullError", "TargetDownError", "LimitReachedError"):
            name = f"rows_turned_away_{kind}"
            self.happened[f"row: {kind}"] += int(sum(x.metrics.totals[name] for x in self._everyone))
        self.happened["row: reused"] += self.monitor.reused.total()
        self.happened += self.monitor.met
        for period in self.scenario.target_faults:
            self.happened[f"world: {period.target_fault}"] += 1

    def _violated(self, violation: Violation) -> None:
        if self.violation is None:
            self.violation = violation
            self.loop.stop()

    # -- processes -------------------------------------------------------------------------------------

    def _born(self, index: int, generation: int) -> Process:
        role = self.scenario.roles[index]
        process = Process(
            self._shared, role, f"{role}-{index}.{generation}", self.scenario.clock_skews_s[index]
        )
        process.on_end = lambda: self._ended(index, generation)
        self._everyone.append(process)
        process.start()
        return process

    def _ended(self, index: int, generation: int) -> None:
        """Whatever ends is started again, soon, under another name."""
        delay = self._random.choice((0.1, 2.0, 30.0))
        self.loop.at(self.loop.time() + delay, self._replace, index, generation + 1)

    def _replace(self, index: int, generation: int) -> None:
        self._present[index] = self._born(index, generation)

    def _strike(self, plan: PlannedProcessFault) -> None:
        process = self._present[plan.process]
        if process.is_over or process.owner.is_frozen:
            return
        self.happened[f"process: {plan.what}"] += 1
        if plan.what is ProcessFault.KILLED:
            process.crash()
        elif plan.what is ProcessFault.STOPPED:
            process.stop()
        else:
            process.pause()
            self.monitor.pauses += 1
            back_at = self.loop.time() + plan.for_s
            self._resumed_by = max(self._resumed_by, back_at)
            self.loop.at(back_at, process.resume)

    def _lose(self) -> None:
        """The rows queue is purged, or loses a message."""
        rows = self.queues["rows"]
        wanted = None if self._random.random() < 0.5 else self._random.randrange(100)
        lost = rows.lose(wanted)
        self.trace.add("world", "LOST", *lost)
        self.monitor.purged_rows |= {
            rows.key(body) for body in lost
        }  # handed on, and then lost: the sweeper's
        self.happened["world: rows lost"] += len(lost)

    # -- the end ---------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Something has moved: perhaps that was all."""
        if self._is_ending:
            return
        if self.scenario.redrive:
            self._redrives.look()
        if self._is_done():
            self._is_ending = True
            self.loop.at(max(self.loop.time(), self._resumed_by + 60.0), self._end)

    def _end(self) -> None:
        """Stop, unless something has come meanwhile: a job that is sent twice, a late message."""
        self._is_ending = False
        if self._is_done():
            self._is_ending = True
            self.loop.stop()

    def _look_now_and_then(self) -> None:
        """Some ends nobody tells of: a purge, a job that stays a dead letter."""
        self._look()
        self.loop.at(self.loop.time() + 50.0, self._look_now_and_then)

    def _is_done(self) -> bool:
        """Every batch has ended, and every message is gone; but a job may be a dead letter for ever."""
        if self._redrives.pending or any(len(q) for name, q in self.queues.items() if name != "ingest-dlq"):
            return False
        batches = [self.table.batch(batch_id) for batch_id in self.batch_ids]
        return all(batch.state.is_final if batch else self.queues["ingest-dlq"] for batch in batches)


@contextmanager
def _third_parties(loop: VirtualLoop, seed: int) -> Iterator[None]:
    """Have stamina and tenacity wait in virtual time, with jitter from the seed, and tell nobody."""
    hooks, time = stamina.instrumentation.get_on_retry_hooks(), tenacity.time
    stamina.instrumentation.set_on_retry_hooks([])
    tenacity.time = SimpleNamespace(monotonic=loop.time)  # type: ignore[assignment]
    random.seed(seed)
    try:
        yield
    finally:
        tenacity.time = time
        stamina.instrumentation.set_on_retry_hooks(hooks)
