"""A chaos run: real processes on one embedded endpoint, behind a proxy that spoils calls.

The agent paces the main batch so that it lasts as long as the chaos. Small batches are submitted meanwhile.
When the faults have ceased every batch must end by itself. `verdict` compares the results with the input and
with those of a quiet run of the same files.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from service.adapters.aws.provision.queues import QueueOptions
from service.adapters.aws.provision.resources import ResourceNames
from service.cli.embedded import EmbeddedProcess
from tests.acceptance.support import Deployment, stop_fork_server
from tests.chaos.agent import PACED, ChaosAgent, in_thread
from tests.chaos.faults import Rates
from tests.chaos.fleet import ENOUGH_RECEIVES, VISIBILITY_S, Fleet
from tests.chaos.operations.calls import LAG_S, late_calls, repeats
from tests.chaos.operations.operators import Operators
from tests.chaos.operations.rounds import Stands, check_operated
from tests.chaos.operations.script import script
from tests.chaos.operations.sightings import FINAL, Sightings
from tests.chaos.plan import Act, Job, Plan
from tests.chaos.proxy import FaultProxy
from tests.chaos.verdict import Files, check_batch, check_nothing_left, check_same, results, within

AFTERWARDS_S = 480.0
"""Limit for the end of all batches after the last fault.

A job that could not be split again and again comes after a pause of five minutes; the rest is for a busy
machine.
"""

MOST_TOLD = 20
"""Late calls that a report lists."""

_PACE = 0.75
_STORM_S = 2.0
_STORM_FACTOR = 8.0


@dataclass
class Report:
    """The events of a run, and the broken promises."""

    plan: Plan
    rows: int
    batches: int
    acts: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    invocations: int = 0
    orphans: int = 0
    seconds: float = 0.0
    closing_s: float = 0.0
    silence: tuple[float, str] = (0.0, "")
    longest_end_s: float = 0.0
    operations: Counter[str] = field(default_factory=Counter)
    repeated: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def line(self) -> str:
        """The report in one line."""
        acts = ", ".join(f"{count} {act}" for act, count in sorted(self.acts.items()))
        faults = " ".join(f"{fault}={count}" for fault, count in sorted(self.faults.items()))
        found, raced = self.events["row_was_committed"], self.events["outcomes_already_committed"]
        return (
            f"seed {self.plan.seed}: {'FAILED' if self.problems else 'ok'} in {self.seconds:.0f} s, "
            f"{self.closing_s:.0f} s of it after the chaos, "
            f"there the longest silence was {self.silence[0]:.0f} s before {self.silence[1]}; "
            f"{self.rows} rows in {self.batches} batches; {acts}; drained within {self.longest_end_s:.1f} s; "
            f"{sum(self.faults.values())} faults in {self.requests} calls ({faults}); "
            f"operations: {_listed(self.operations)}; "
            f"{self.invocations} invocations, rows called again: {_listed(self.repeated)}; "
            f"{found} redelivered rows found committed, "
            f"{raced} transactions met a row committed meanwhile, "
            f"{self.orphans} uploads left to the bucket's rule"
        )


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "none"


class ChaosError(AssertionError):
    """A promise was broken. The text names it; `report` is the report of the run."""

    def __init__(self, report: Report) -> None:
        super().__init__("\n".join([report.line(), *report.problems]))
        self.report = report


def run(plan: Plan, folder: Path) -> Report:
    """Run a plan quietly and with chaos. Raises ChaosError if the results differ.

    With operations results are compared with the input alone.
    """
    jobs = plan.jobs()
    quiet = {} if plan.operations else _quiet(plan, jobs, folder / "quiet")
    return _chaotic(plan, jobs, folder / "chaotic", quiet)


def _quiet(plan: Plan, jobs: list[Job], folder: Path) -> dict[str, Files]:
    agent = ChaosAgent()
    with _deployment(folder, plan.slowness) as (endpoint, deployment), in_thread(agent.serving):
        _mappings(deployment, agent)
        fleet = Fleet(deployment, endpoint, 1, slowness=plan.slowness)
        for job in jobs:
            _submit(deployment, job)
        within(AFTERWARDS_S, lambda: _all_ended(deployment, jobs), "the quiet run")
        fleet.stop()
        fleet.count_events()
        assert not fleet.problems, fleet.problems
        return {job.batch_id: results(deployment, job) for job in jobs}


def _chaotic(plan: Plan, jobs: list[Job], folder: Path, quiet: dict[str, Files]) -> Report:
    report = Report(plan, sum(job.rows for job in jobs), len(jobs))
    with _deployment(folder, plan.slowness) as (endpoint, deployment):
        rates = Rates(plan.seed)
        proxy = FaultProxy(endpoint, rates)
        agent = ChaosAgent(interval_s=plan.seconds * _PACE / plan.rows)

        @asynccontextmanager
        async def context() -> AsyncIterator[None]:
            async with AsyncExitStack() as stack:
                await stack.enter_async_context(proxy.serving())
                await stack.enter_async_context(agent.serving())
                yield

        with in_thread(context):
            _mappings(deployment, agent)
            fleet = Fleet(deployment, proxy.url, plan.workers, slowness=plan.slowness)
            chaos = _Chaos(plan, jobs, deployment, fleet, rates)
            started = time.monotonic()
            try:
                chaos.run(agent, report)
                report.orphans = check_nothing_left(deployment)
                fleet.stop()
                _check(deployment, jobs, agent, quiet)
            except AssertionError as error:
                states = {job.batch_id: deployment.state(job.batch_id) for job in jobs}
                report.problems.append(f"{error}\nbatches: {states}")
            report.seconds = time.monotonic() - started
            chaos.tell(agent, report)
            report.faults, report.requests = proxy.produced, proxy.requests
    if report.problems:
        raise ChaosError(report)
    return report


def _check(deployment: Deployment, jobs: list[Job], agent: ChaosAgent, quiet: dict[str, Files]) -> None:
    """Check every batch against its input; those that no operation has changed also against a quiet run."""
    for job in jobs:
        files = results(deployment, job)
        stands = Stands.read(deployment, job, files)
        check_operated(deployment, stands, agent.calls)
        if not stands.was_operated_on:
            check_batch(deployment, job, files)
        if job.batch_id in quiet:
            check_same(job, files, quiet[job.batch_id])


class _Chaos:
    """Performs what the plan has for each moment: acts, submissions, operations, the end of a storm."""

    def __init__(
        self, plan: Plan, jobs: list[Job], deployment: Deployment, fleet: Fleet, rates: Rates
    ) -> None:
        self._seconds = plan.seconds
        self._slowness = plan.slowness
        self._acts = plan.acts()
        self._next = next(self._acts, None)
        self._jobs = sorted(jobs, key=lambda job: job.at_s)
        self._batches = [job.batch_id for job in jobs]
        self._deployment = deployment
        self._fleet = fleet
        self._rates = rates
        self._calm_at = 0.0
        self._started = 0.0
        steps = script(plan, jobs) if plan.operations else []
        self._sightings = Sightings(deployment, self._batches)
        environment = {
            "AWS_ENDPOINT_URL": fleet.endpoint_url,
            "ROWFLEET_AWS__READ_TIMEOUT_S": str(5 * plan.slowness),
        }
        self._operators = Operators(deployment, self._sightings, steps, environment)

    def run(self, agent: ChaosAgent, report: Report) -> None:
        """Run to the end of all batches. Raises AssertionError if they do not end in time."""
        within(AFTERWARDS_S, lambda: self._fleet.is_up, "the start of the processes")
        self._started = time.monotonic()
        within(self._seconds + AFTERWARDS_S, self.step, "the end of the chaos")
        self._rates.factor = 0.0
        self._fleet.wake_all()
        agent.hurry()
        ceased, ceased_at = time.monotonic(), datetime.now(UTC)
        try:
            within(AFTERWARDS_S, self.close, "the end of all batches")
        except AssertionError as error:
            raise AssertionError(f"{error}; {self._operators.waits_for}") from None
        finally:
            report.closing_s = time.monotonic() - ceased
            report.silence = self._fleet.longest_silence(ceased_at, datetime.now(UTC))

    def step(self) -> bool:
        """Do what is due. True once the chaos is over."""
        now = time.monotonic() - self._started
        while self._jobs and self._jobs[0].at_s <= now:
            _submit(self._deployment, self._jobs.pop(0))
        self._fleet.tend()
        if self._next is not None and self._next[0] <= now:
            self._do(self._next[1], now)
        if self._calm_at and now >= self._calm_at:
            self._rates.factor, self._calm_at = 1.0, 0.0
        self._operators.act(now)
        return now >= self._seconds and not self._jobs

    def close(self) -> bool:
        """True once all batches have ended and nobody operates on them."""
        is_closed = self._operators.close(self._batches, time.monotonic() - self._started)
        return self._fleet.is_up and is_closed

    def tell(self, agent: ChaosAgent, report: Report) -> None:
        """Report what was done and seen, and the calls that should not have been made."""
        fleet, operators, sightings = self._fleet, self._operators, self._sightings
        report.events = fleet.count_events()
        report.acts, report.longest_end_s = fleet.done, fleet.longest_end_s
        report.operations, report.invocations = operators.done, len(agent.calls)
        for repeat in repeats(agent.calls, sightings, fleet.absences):
            report.repeated[" and ".join(sorted(set(repeat.causes))) or "without a cause"] += 1
        late = late_calls(agent.calls, sightings.quiets(), fleet.absences, lag_s=LAG_S * self._slowness)
        report.problems += [*fleet.problems, *operators.problems, *late[:MOST_TOLD]]

    def _do(self, act: Act, now: float) -> None:
        """Perform an act, or leave it for the next step if no process is in a state for it."""
        assert self._next is not None
        if act is Act.STORM:
            self._fleet.done[act] += 1
            self._rates.factor, self._calm_at = _STORM_FACTOR, now + _STORM_S
        elif not self._fleet.act(act, self._next[0] % 1.0):
            return
        self._next = next(self._acts, None)


@contextmanager
def _deployment(folder: Path, slowness: float) -> Iterator[tuple[str, Deployment]]:
    """An endpoint for the run with the resources of `setup`, always under the same names."""
    folder.mkdir(parents=True)
    endpoint = EmbeddedProcess.start()
    try:
        names = ResourceNames("chaos-bucket", "chaos-table", "chaos")
        deployment = Deployment(folder, {}, endpoint.url, names)
        try:
            deployment.provision(QueueOptions(round(VISIBILITY_S * slowness), ENOUGH_RECEIVES))
            yield endpoint.url, deployment
        finally:
            deployment.close()
            stop_fork_server()
    finally:
        endpoint.stop()


def _mappings(deployment: Deployment, agent: ChaosAgent) -> None:
    deployment.env["AGENT_URL"] = agent.url
    deployment.mapping("main", f"invoke: http, url: '${{AGENT_URL}}/{PACED}'")
    deployment.mapping("small")


def _submit(deployment: Deployment, job: Job) -> None:
    source = deployment.put(f"chaos/{job.mapping}/{job.execution_id}.csv", job.content)
    deployment.send_job(mapping=job.mapping, source=source, execution_id=job.execution_id)


def _all_ended(deployment: Deployment, jobs: list[Job]) -> bool:
    return all(deployment.state(job.batch_id) in FINAL for job in jobs)
