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
from pathlib import Path

from service.adapters.aws.provision.resources import QueueOptions, ResourceNames
from service.cli.embedded import EmbeddedProcess
from tests.acceptance.support import Deployment
from tests.chaos.agent import PACED, ChaosAgent, in_thread
from tests.chaos.faults import Rates
from tests.chaos.fleet import VISIBILITY_S, Fleet
from tests.chaos.plan import Act, Job, Plan
from tests.chaos.proxy import FaultProxy
from tests.chaos.verdict import Files, check_batch, check_nothing_left, check_same, results, within

ENOUGH_RECEIVES = 1_000
"""So many deliveries that kills alone do not make a row a dead letter."""

AFTERWARDS_S = 480.0
"""Limit for the end of all batches after the last fault.

A job that could not be split again and again comes after a pause of five minutes; the rest is for a busy
machine.
"""

_PACE = 0.75
_STORM_S = 2.0
_STORM_FACTOR = 8.0
_FINAL = frozenset({"SUCCEEDED", "COMPLETED_WITH_ERRORS", "FAILED", "CANCELLED"})


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
    longest_end_s: float = 0.0
    problems: list[str] = field(default_factory=list)

    def line(self) -> str:
        """The report in one line."""
        acts = ", ".join(f"{count} {act}" for act, count in sorted(self.acts.items()))
        faults = " ".join(f"{fault}={count}" for fault, count in sorted(self.faults.items()))
        found, raced = self.events["row_was_committed"], self.events["outcomes_already_committed"]
        return (
            f"seed {self.plan.seed}: {'FAILED' if self.problems else 'ok'} in {self.seconds:.0f} s; "
            f"{self.rows} rows in {self.batches} batches; {acts}; drained within {self.longest_end_s:.1f} s; "
            f"{sum(self.faults.values())} faults in {self.requests} calls ({faults}); "
            f"{self.invocations} invocations, {self.invocations - self.rows} of them repeated, "
            f"{found} redelivered rows found committed, "
            f"{raced} transactions met a row committed meanwhile, "
            f"{self.orphans} uploads left to the bucket's rule"
        )


class ChaosError(AssertionError):
    """A promise was broken. The text names it; `report` is the report of the run."""

    def __init__(self, report: Report) -> None:
        super().__init__("\n".join([report.line(), *report.problems]))
        self.report = report


def run(plan: Plan, folder: Path) -> Report:
    """Run a plan quietly and with chaos. Raises ChaosError if the results differ."""
    jobs = plan.jobs()
    quiet = _quiet(plan, jobs, folder / "quiet")
    return _chaotic(plan, jobs, folder / "chaotic", quiet)


def _quiet(plan: Plan, jobs: list[Job], folder: Path) -> dict[str, Files]:
    agent = ChaosAgent()
    with _deployment(folder) as (endpoint, deployment), in_thread(agent.serving):
        _mappings(deployment, agent)
        fleet = Fleet(deployment, endpoint, 1)
        for job in jobs:
            _submit(deployment, job)
        within(AFTERWARDS_S, lambda: _all_ended(deployment, jobs), "the quiet run")
        fleet.stop()
        fleet.count_events()
        assert not fleet.problems, fleet.problems
        return {job.batch_id: results(deployment, job) for job in jobs}


def _chaotic(plan: Plan, jobs: list[Job], folder: Path, quiet: dict[str, Files]) -> Report:
    report = Report(plan, sum(job.rows for job in jobs), len(jobs))
    with _deployment(folder) as (endpoint, deployment):
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
            fleet = Fleet(deployment, proxy.url, plan.workers)
            started = time.monotonic()
            try:
                within(AFTERWARDS_S, lambda: fleet.is_up, "the start of the processes")
                chaos = _Chaos(plan, jobs, deployment, fleet, rates)
                within(plan.seconds + AFTERWARDS_S, chaos.step, "the end of the chaos")
                chaos.cease()
                agent.hurry()
                within(
                    AFTERWARDS_S,
                    lambda: fleet.is_up and _all_ended(deployment, jobs),
                    "the end of all batches",
                )
                report.orphans = check_nothing_left(deployment)
                fleet.stop()
                for job in jobs:
                    files = results(deployment, job)
                    check_batch(deployment, job, files)
                    check_same(job, files, quiet[job.batch_id])
            except AssertionError as error:
                states = {job.batch_id: deployment.state(job.batch_id) for job in jobs}
                report.problems.append(f"{error}\nbatches: {states}")
            report.seconds = time.monotonic() - started
            report.events = fleet.count_events()
            report.acts, report.faults = fleet.done, proxy.produced
            report.requests, report.invocations = proxy.requests, sum(agent.calls.values())
            report.longest_end_s = fleet.longest_end_s
            report.problems += fleet.problems
    if report.problems:
        raise ChaosError(report)
    return report


class _Chaos:
    """Performs what the plan has for each moment: acts, submissions, the end of a storm."""

    def __init__(
        self, plan: Plan, jobs: list[Job], deployment: Deployment, fleet: Fleet, rates: Rates
    ) -> None:
        self._seconds = plan.seconds
        self._acts = plan.acts()
        self._next = next(self._acts, None)
        self._jobs = sorted(jobs, key=lambda job: job.at_s)
        self._deployment = deployment
        self._fleet = fleet
        self._rates = rates
        self._calm_at = 0.0
        self._started = time.monotonic()

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
        return now >= self._seconds and not self._jobs

    def cease(self) -> None:
        """Stop all faults and resume frozen processes."""
        self._rates.factor = 0.0
        self._fleet.wake_all()

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
def _deployment(folder: Path) -> Iterator[tuple[str, Deployment]]:
    """An endpoint for the run with the resources of `setup`, always under the same names."""
    folder.mkdir(parents=True)
    endpoint = EmbeddedProcess.start()
    try:
        names = ResourceNames("chaos-bucket", "chaos-table", "chaos")
        deployment = Deployment(folder, {}, endpoint.url, names)
        try:
            deployment.provision(QueueOptions(VISIBILITY_S, ENOUGH_RECEIVES))
            yield endpoint.url, deployment
        finally:
            deployment.close()
    finally:
        endpoint.stop()


def _mappings(deployment: Deployment, agent: ChaosAgent) -> None:
    deployment.env["AGENT_URL"] = agent.url
    deployment.mapping("main", f"invoke: http, url: '${{AGENT_URL}}{PACED}'")
    deployment.mapping("small")


def _submit(deployment: Deployment, job: Job) -> None:
    source = deployment.put(f"chaos/{job.mapping}/{job.execution_id}.csv", job.content)
    deployment.send_job(mapping=job.mapping, source=source, execution_id=job.execution_id)


def _all_ended(deployment: Deployment, jobs: list[Job]) -> bool:
    return all(deployment.state(job.batch_id) in _FINAL for job in jobs)
