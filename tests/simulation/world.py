"""A world: one scenario from its start to its end, on one loop, in virtual time."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass

from service.domain.messages import encode
from service.domain.model import OutboxKind
from service.domain.operation_requests import OperationRequest
from service.domain.ports import OutgoingMessage
from tests.simulation.agent import WorldAgents
from tests.simulation.agent_calls import AgentCalls
from tests.simulation.faults import FaultInjector
from tests.simulation.generator import generate
from tests.simulation.id_reuse import IdReuse
from tests.simulation.invariants import FinalState, Violation, final_violation
from tests.simulation.loop import MAX_STEPS, DeadlockError, StepLimitError, VirtualLoop
from tests.simulation.monitor import Monitor
from tests.simulation.observed_ports import ObservedObjects, ObservedQueue, WorldClock
from tests.simulation.operators import DirectRequests, Operators
from tests.simulation.process import Components, Process, SharedWorld
from tests.simulation.redrive import Redrives
from tests.simulation.remaps import Remaps
from tests.simulation.retries import virtual_retries
from tests.simulation.scenario import ROW_S, InputFile, PlannedProcessFault, ProcessFault, Scenario
from tests.simulation.trace import MAX_EVENTS, Trace

STEPS_PER_EVENT = 25
"""Callbacks that an event may take beyond the limit of steps. Rows that wait for a slot for hours, and come
again every ten seconds, take 14."""

START_MS = 1_700_000_000_000
"""14 November 2023, when all worlds begin."""


@dataclass(slots=True)
class Result:
    """The result of a world. `happened` counts faults and other events by name."""

    scenario: Scenario
    violation: Violation | None
    happened: Counter[str]
    trace: Trace
    virtual_s: float
    steps: int


def simulate(seed: int, components: Components | None = None) -> Result:
    """Run the world of a seed."""
    return World(generate(seed), components or Components()).run()


class World:
    """The services, processes and faults of one scenario."""

    def __init__(
        self,
        scenario: Scenario,
        components: Components,
        *,
        max_steps: int = MAX_STEPS,
        max_events: int = MAX_EVENTS,
    ) -> None:
        self.scenario = scenario
        # One generator for each purpose, so that a change of one does not shift the draws of the others.
        draws = random.Random(scenario.seed + 1)
        self._random = random.Random(scenario.seed + 2)
        self.loop = loop = VirtualLoop(draws, max_steps=max_steps)
        self.trace = trace = Trace(loop.time, max_events, self._too_many_events)
        loop.allowance = lambda: STEPS_PER_EVENT * len(trace.events)
        fault_draws = random.Random(scenario.seed + 3)
        faults = FaultInjector(scenario.fault_rates, scenario.faults_end_s, fault_draws, loop.time)
        self.happened: Counter[str] = faults.happened
        self._faults = faults
        self.violation: Violation | None = None
        self.monitor = monitor = Monitor(trace, self._violated)
        now_ms = WorldClock(loop, START_MS).now_ms
        self.table = monitor.table = components.observed_table(monitor, now_ms)
        self.objects = monitor.objects = ObservedObjects(monitor)
        self.objects.part_bytes = scenario.part_bytes
        self.queues = monitor.queues
        self._add_queues(draws)
        self.batch_ids = [f"{file.mapping.name}#file-{n}" for n, file in enumerate(scenario.files)]
        self._describe_to_monitor()
        self._shared = SharedWorld(
            scenario=scenario,
            loop=loop,
            faults=faults,
            trace=trace,
            monitor=monitor,
            table=self.table,
            objects=self.objects,
            queues=self.queues,
            agents=WorldAgents(monitor.files, scenario.target_faults, monitor.calls),
            start_ms=START_MS,
            components=components,
            batch_ids=self.batch_ids,
            direct=DirectRequests(),
        )
        self._redrives = Redrives(self._shared, self._random, self.batch_ids)
        self._remaps = Remaps(self._shared, self.batch_ids)
        self._operators = operators = Operators(self._shared, self._random, self.batch_ids)
        monitor.on_step = operators.step
        next_files = dict(zip(self.batch_ids, scenario.next_files, strict=False))
        self._id_reuse = IdReuse(self._shared, self._random, next_files, self._submit_again)
        self._present: list[Process] = []
        self._all_processes: list[Process] = []
        self._resumed_by = 0.0
        self._is_ending = False
        # Jobs that are still to be sent.
        self._jobs = 0

    def _add_queues(self, draws: random.Random) -> None:
        """Add the three queues of the service and their dead-letter queues."""
        clock = WorldClock(self.loop, START_MS)
        for name in ("ingest", "rows", "aggregate"):
            dead_letters = ObservedQueue(
                f"{name}-dlq", self.loop, clock, self.monitor, draw=draws.random, max_receives=10**9
            )
            dead_letters.keeps_receipts = self.scenario.redelivery_rate > 0
            self.queues[dead_letters.name] = dead_letters
            self.queues[name] = ObservedQueue(
                name,
                self.loop,
                clock,
                self.monitor,
                draw=draws.random,
                dead_letters=dead_letters,
                max_receives=self.scenario.max_receives,
            )
            self.queues[name].keeps_receipts = self.scenario.redelivery_rate > 0

    def _describe_to_monitor(self) -> None:
        """Tell the monitor the facts about the scenario that its checks need."""
        scenario, monitor = self.scenario, self.monitor
        monitor.on_progress = self._check_progress
        monitor.files_of_ids.update(zip(self.batch_ids, scenario.files, strict=True))
        monitor.calls = AgentCalls(self.loop.time, monitor.violated)
        monitor.target_faults = scenario.target_faults
        monitor.steering.faults = lambda: self._faults.count
        monitor.start_ms = START_MS
        monitor.is_calm = scenario.is_calm
        monitor.has_operator = "operator" in scenario.roles
        monitor.max_lost = 2 * scenario.max_receives
        monitor.clocks_differ_s = max(0.0, *scenario.clock_skews_s) - min(0.0, *scenario.clock_skews_s)

    # -- from start to end -----------------------------------------------------------------------------

    def run(self) -> Result:
        """Run until everything is done, an invariant is broken, or the time of the world is over."""
        random.seed(self.scenario.seed)  # draws the jitter of retries
        with virtual_retries():
            self.loop.spawn(self.loop.world, self._send_jobs())
            self._present += [self._start_process(index, 0) for index in range(len(self.scenario.roles))]
            for planned in self.scenario.process_faults:
                self.loop.at(planned.at_s, self._inject, planned)
            for at_s in self.scenario.message_losses_at_s:
                self.loop.at(at_s, self._lose_messages)
            for from_s, to_s in self.scenario.refusals:
                self.loop.at(from_s, self._refuse_results)
                self.loop.at(to_s, self.objects.refused.clear)
            for at_s in self.scenario.finishes_at_s:
                self.loop.at(at_s, self._finish_batches)
            self._operators.schedule(self.scenario.operations)
            self.loop.at(self.scenario.end_s, self._stop_if_over)
            self._check_regularly()
            try:
                self.loop.run()
            except DeadlockError as error:
                self.monitor.violated("nothing_stuck", str(error))
            except StepLimitError as error:
                self.monitor.violated("makes_progress", str(error))
            if self.violation is None:
                self._check_end()
            self._count_situations()
            now, steps, violation = self.loop.time(), self.loop.steps, self.violation
            self.loop.cancel_all([process.owner for process in self._all_processes])
        return Result(self.scenario, violation, self.happened, self.trace, now, steps)

    async def _send_jobs(self) -> None:
        """Put the files into the bucket, and schedule their jobs."""
        for batch_id, file in zip(self.batch_ids, self.scenario.files, strict=True):
            name = batch_id.partition("#")[2]
            await self._send_jobs_of(batch_id, file, f"{name}.csv")

    async def _send_jobs_of(self, batch_id: str, file: InputFile, key: str) -> None:
        """Put a file into the bucket, and schedule its jobs."""
        lines = ["id,name", *(f"{n},{name}" for n, name in enumerate(file.names, 1))]
        body = "\n".join(lines).encode() + b"\n"
        if file.appears_at_s:
            self.happened["world: source is late"] += 1
            self.loop.at(file.appears_at_s, self._appear, key, body)
        else:
            await self.objects.put("in", key, body, content_type="text/csv")
        job = {
            "v": 1,
            "mapping": file.mapping.name,
            "source": f"s3://in/{key}",
            "execution_id": batch_id.partition("#")[2],
            "options": dict(file.options),
        }
        for at_s in file.jobs_at_s:
            self._jobs += 1
            self.loop.at(max(self.loop.time(), at_s), self._send_job, OutgoingMessage(encode(job)))

    def _appear(self, key: str, body: bytes) -> None:
        """Put a file into the bucket."""
        put = self.objects.put("in", key, body, content_type="text/csv")
        self.loop.spawn(self.loop.world, put)

    def _send_job(self, message: OutgoingMessage) -> None:
        self._jobs -= 1
        self.queues["ingest"].duplicate(message, 0)

    def _submit_again(self, batch_id: str, file: InputFile) -> None:
        """Send the job of the second file with a batch id."""
        self.monitor.files_of_ids[batch_id] = file
        key = f"{batch_id.partition('#')[2]}-again.csv"
        self.loop.spawn(self.loop.world, self._send_jobs_of(batch_id, file, key))

    def _stop_if_over(self) -> None:
        """Stop, unless the time of rows that were sent anew is not over."""
        end_s = self.scenario.end_s + self.monitor.sent_anew * ROW_S
        if self.loop.time() >= end_s:
            self.loop.stop()
        else:
            self.loop.at(end_s, self._stop_if_over)

    def _check_end(self) -> None:
        """Check the invariants that hold at the end."""
        final = FinalState(
            scenario=self.scenario,
            table=self.table,
            objects=self.objects,
            monitor=self.monitor,
            batch_ids=self.batch_ids,
            processes=self._all_processes,
            now_s=self.loop.time(),
            is_done=self._is_done(),
        )
        if self.loop.errors:
            self.monitor.violated("orderly", self.loop.errors[0])
        elif found := final_violation(final):
            self.monitor.violated(*found)

    def _count_situations(self) -> None:
        """Count what rows met beside faults of calls: `test_simulation` requires each of them."""
        for kind in ("TargetFullError", "TargetDownError", "LimitReachedError", "CommitsWaitError"):
            name = f"rows_turned_away_{kind}"
            total = sum(process.metrics.totals[name] for process in self._all_processes)
            self.happened[f"row: {kind}"] += int(total)
        for op in ("hold", "cancel"):
            made = sum(process.metrics.totals[f"operations_{op}"] for process in self._all_processes)
            self.happened[f"batch: {op}"] += int(made)
        self.happened["row: tried"] += self.monitor.trial_calls.count
        self.happened["row: reused"] += self.monitor.reused.total()
        self.happened += self.monitor.met
        old = sum(queue.old_receipts_used for queue in self.queues.values())
        self.happened["world: old receipts"] += old
        self.happened["world: large cells"] += self.scenario.checkpoint_bytes <= 2_000
        for period in (*self.scenario.target_faults, *self.scenario.storage_faults):
            self.happened[f"world: {period.fault}"] += 1

    def _too_many_events(self) -> None:
        text = f"it has not ended after {self.trace.max_events} events"
        self._violated(Violation("makes_progress", text, self.loop.time()))

    def _violated(self, violation: Violation) -> None:
        """Keep the first violation, and end the world."""
        if self.violation is None:
            self.violation = violation
            self.loop.stop()

    # -- processes -------------------------------------------------------------------------------------

    def _start_process(self, index: int, generation: int) -> Process:
        role = self.scenario.roles[index]
        name = f"{role}-{index}.{generation}"
        process = Process(self._shared, role, name, self.scenario.clock_skews_s[index])
        process.on_end = lambda: self._restart_later(index, generation)
        self._all_processes.append(process)
        process.start()
        return process

    def _restart_later(self, index: int, generation: int) -> None:
        """Start another process in place of one that has ended, as ECS does."""
        delay_s = self._random.choice((0.1, 2.0, 30.0))
        self.loop.at(self.loop.time() + delay_s, self._restart, index, generation + 1)

    def _restart(self, index: int, generation: int) -> None:
        self._present[index] = self._start_process(index, generation)

    def _inject(self, planned: PlannedProcessFault) -> None:
        """Kill, stop or pause a process, unless it has ended or is paused already."""
        process = self._present[planned.process]
        if process.is_over or process.owner.is_frozen:
            return
        self.happened[f"process: {planned.fault}"] += 1
        self._faults.count += 1
        if planned.fault is ProcessFault.KILLED:
            process.crash()
        elif planned.fault is ProcessFault.STOPPED:
            process.stop()
        else:
            process.pause()
            self.monitor.pauses += 1
            resume_at = self.loop.time() + planned.for_s
            self._resumed_by = max(self._resumed_by, resume_at)
            self.loop.at(resume_at, process.resume)

    def _lose_messages(self) -> None:
        """Purge the rows queue, or lose one of its messages."""
        rows = self.queues["rows"]
        index = None if self._random.random() < 0.5 else self._random.randrange(100)
        lost = rows.lose(index)
        self.trace.add("world", "LOST", *lost)
        # These rows were handed on before they were lost. It is the sweeper's part to resend them.
        self.monitor.lost_rows |= {rows.key(body) for body in lost}
        self.happened["world: rows lost"] += len(lost)

    def _refuse_results(self) -> None:
        self.objects.refused.add("out/results/")
        self.happened["world: results refused"] += 1

    def _finish_batches(self) -> None:
        """Ask for the results of each batch once more, whatever its state is."""
        for batch_id in self.batch_ids:
            if self.table.batch(batch_id) is not None:
                body = OperationRequest("finish", batch_id, f"at {self.loop.time()}").encode()
                self.queues["ingest"].duplicate(OutgoingMessage(body), 0)
                self.happened["world: finish"] += 1

    # -- the end ---------------------------------------------------------------------------------------

    def _check_progress(self) -> None:
        """Redrive batches that are due, and end the world some time after everything is done."""
        if self._is_ending:
            return
        if self.scenario.redrive:
            self._redrives.schedule_due()
        self._remaps.schedule_due()
        self._id_reuse.schedule_due()
        if not self._shared.direct:
            self._operators.resume_rest()
        if self._is_done():
            self._is_ending = True
            self.loop.at(max(self.loop.time(), self._resumed_by + 60.0), self._end)

    def _end(self) -> None:
        """Stop, unless something has arrived since: a job that is sent twice, or a late message."""
        self._is_ending = False
        if self._is_done():
            self._is_ending = True
            self.loop.stop()

    def _check_regularly(self) -> None:
        """Check the progress every 50 s: of a purge or a job that stays a dead letter no event tells."""
        self._check_progress()
        self.loop.at(self.loop.time() + 50.0, self._check_regularly)

    def _is_done(self) -> bool:
        """True if every batch has ended and every queue is empty. Jobs may stay dead letters for ever."""
        has_messages = any(len(queue) for name, queue in self.queues.items() if name != "ingest-dlq")
        if self._jobs or self._faults.late_writes or has_messages:
            return False
        sequels = (self._redrives, self._remaps, self._id_reuse, self._operators)
        if any(sequel.pending for sequel in sequels):
            return False
        told = self.table.outbox(OutboxKind.EVENT).values()
        if self.scenario.has_sweeper and any(record.is_pending for record in told):
            return False
        batches = [self.table.batch(batch_id) for batch_id in self.batch_ids]
        return all(batch.state.is_final if batch else self.queues["ingest-dlq"] for batch in batches)
