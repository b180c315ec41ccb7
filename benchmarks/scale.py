"""Calls of AWS, CPU time and duration of a large batch, and what they come to for ten million rows.

    python benchmarks/scale.py [--rows 100000] [--query-ms 10]

The real roles work on the memory ports, with pages and parts as DynamoDB and S3 have, and each call is
counted: an aggregation in one go; one that is interrupted in its middle, from there on; the recovery of every
tenth row, whose message is lost; the resume of a batch in its middle; and the redrive of every hundredth row,
which failed. For the last two the time until the first row is sent is printed as well. Outcomes have about
1 KB, as in docs/deploy.md. A query of the table takes `query-ms` beside its CPU time. Durations are those of
a machine with nothing else to do.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import selectors
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from service.adapters.memory import MemoryClock, MemoryObjects, MemoryQueue, MemoryTable
from service.aggregator.aggregator import AggregateLimits, Aggregator
from service.batch.commits.commit_group import GroupCommitLimits
from service.batch.commits.group_commit import GroupCommitter
from service.batch.completion import Completion
from service.batch.large_outcomes import LargeOutcomeLimits, LargeOutcomes
from service.batch.role_ports import Ports, Queues
from service.domain.errors import MappingError, UnreachableError
from service.domain.messages import AggregateMessage
from service.domain.model import (
    Batch,
    Commit,
    Dialect,
    Hold,
    HoldReason,
    Location,
    Outcome,
    RowError,
    Source,
    State,
    Status,
)
from service.domain.operation_requests import OperationRequest, WorkRequest
from service.domain.ports import ReceivedMessage
from service.mapping import Definition
from service.recovery.recovery import Recovery, RecoveryLimits
from service.runtime.delivery import Delivery
from service.runtime.leases import Lease
from service.runtime.logs import configure_logging
from service.runtime.metrics import Metrics
from service.steering.operate import operate
from service.steering.redrive import Redrive
from service.steering.remapping.work import RemapWork
from service.steering.work import FleetWork

TEN_MILLION = 10_000_000
PARTITIONS = 64


QUERIES = frozenset({"outcomes", "done_numbers"})


class Counted:
    """A port whose calls are counted by name; `outcomes` fails after row `fail_after`.

    Queries take `query_s`.
    """

    def __init__(self, port: Any, calls: Counter[str], query_s: float = 0.0) -> None:
        self._port = port
        self._calls = calls
        self._query_s = query_s
        self.fail_after: int | None = None
        self.first_at: dict[str, float] = {}

    def __getattr__(self, name: str) -> Any:
        target = getattr(self._port, name)
        if not asyncio.iscoroutinefunction(target):
            return target

        async def call(*arguments: Any, **named: Any) -> Any:
            self._calls[name] += 1
            self.first_at.setdefault(name, asyncio.get_running_loop().time())
            if self._query_s and name in QUERIES:
                await asyncio.sleep(self._query_s)
            if name == "outcomes" and self.fail_after is not None and named["after"] > self.fail_after:
                raise UnreachableError("interrupted")
            return await target(*arguments, **named)

        return call


class Holder:
    """The consumer of a delivery that is made by hand."""

    is_draining = False

    def slot_released(self) -> None:
        """Nothing waits for it."""

    def report_bytes(self, lease: Lease, size: int) -> None:
        """Nothing bounds them."""


@dataclass
class Bench:
    """A batch on memory ports, all rows of which have outcomes but `lost`."""

    rows: int
    query_s: float
    calls: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.clock = MemoryClock()
        self.memory = MemoryTable()
        self.table = Counted(self.memory, self.calls, self.query_s)
        self.store = MemoryObjects()
        self.objects = Counted(self.store, self.calls)
        self.queues = [MemoryQueue(name, self.clock) for name in "abcdef"]
        self.messages = self.queues[1]
        counted = [Counted(queue, self.calls) for queue in self.queues]
        self.rows_queue = counted[1]
        queues = Queues(*counted)
        large = LargeOutcomes(self.objects, LargeOutcomeLimits("b"))
        self.ports = Ports(self.table, self.objects, queues, large, self.clock, Metrics())

    async def fill(
        self, *, lost: int = 0, failed: int = 0, done: int | None = None, state: State | None = None
    ) -> Batch:
        """Store source, batch and outcomes; every `lost`-th row has none, and none after `done`.

        Every `failed`-th is FAILED. 0: none is lost or failed.
        """
        text = "".join(f"{n},{'x' * 300}\n" for n in range(1, self.rows + 1))
        body = b"id,name\n" + text.encode()
        await self.store.put("b", "in.csv", body, content_type="text/csv")
        source = Source("b", "in.csv", size=len(body))
        held = (Hold(HoldReason.USER, "ada", "2026-01-01T00:00:00.000Z"),) if state is State.PAUSED else ()
        batch = Batch(
            "t", "e", state or (State.RUNNING if lost else State.AGGREGATING), source,
            Location("b", "results/"), total=self.rows, columns=("id", "name"), output_fields=("answer",),
            partitions=PARTITIONS, dialect=Dialect("utf-8", ","), ttl=4_000_000_000,
            created_at="2026-01-01T00:00:00.000Z", updated_at="2023-11-14T22:13:20.000Z", holds=held,
        )  # fmt: skip
        await self.memory.open(batch, "{}")
        numbers = [n for n in range(1, (done or self.rows) + 1) if not lost or n % lost]
        for start in range(0, len(numbers), 99):
            outcomes = tuple(
                _outcome(n, is_failed=bool(failed) and n % failed == 0) for n in numbers[start : start + 99]
            )
            await self.memory.commit(Commit("t#e", 1, PARTITIONS, 0, outcomes, f"{start:036d}", batch.ttl))
        return batch

    async def aggregate(self) -> None:
        """Deliver the trigger once."""
        owner = f"owner-{random.random()}"
        aggregator = Aggregator(self.ports, AggregateLimits(), owners=lambda: owner)
        message = ReceivedMessage("m", AggregateMessage("t#e", 1).encode(), "r")
        await aggregator.handle(Delivery(Lease(message, 0.0), Holder()))

    async def operate(self, op: str, batch: Batch) -> float:
        """Resume or redrive the batch, and do the work that it leaves. Return when the first row was sent."""
        completion, tokens = Completion(self.ports), iter(range(10**9))
        committer = GroupCommitter(
            self.ports, completion, GroupCommitLimits(), slot=0, tokens=lambda: f"{next(tokens):036d}"
        )
        recovery = Recovery(self.ports, committer, RecoveryLimits("w"))
        remaps = RemapWork(self.ports, committer, worker="w")
        work = FleetWork(self.ports, recovery, completion, remaps, owners=lambda: "owner", lease_s=300.0)
        request = OperationRequest(op, batch.batch_id, "request", "ada")
        if op == "redrive":
            await Redrive(self.ports, _no_definition).open_round(request)
        else:
            await operate(self.ports, request)
        view = await self.ports.table.read(batch.batch_id)
        assert view is not None
        assert view.batch.work is not None
        asked = WorkRequest(batch.batch_id, batch.incarnation, view.batch.control)
        message = ReceivedMessage("m", asked.encode(), "r")
        async with committer:
            await work.handle(asked, Delivery(Lease(message, 0.0), Holder()))
        return self.rows_queue.first_at["send"]


def _no_definition(name: str) -> Definition:
    raise MappingError(f"there is no {name}")


def _outcome(number: int, *, is_failed: bool = False) -> Outcome:
    data = {"id": str(number), "name": "x" * 300}
    error = RowError("AgentUnavailableError", "HTTP 503", "transient") if is_failed else None
    return Outcome(
        number=number, round=1, status=Status.FAILED if is_failed else Status.SUCCESS, input_data=data,
        output_data={} if is_failed else {"answer": "y" * 500}, error=error,
        execution_time_ms=5, timestamp="2026-01-01T00:00:00.000Z", attempts=1, worker="w",
    )  # fmt: skip


class IdleSelector(selectors.DefaultSelector):
    """Never blocks: a wait for the next timer is added to `waited_s`."""

    waited_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """The files that are ready now."""
        self.waited_s += timeout or 0.0
        return super().select(0)


class IdleLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is the CPU time of this process and its waits, however busy the machine is."""

    def __init__(self) -> None:
        self._waits = IdleSelector()
        super().__init__(self._waits)

    def time(self) -> float:
        """Seconds."""
        return time.process_time() + self._waits.waited_s


class Stopwatch:
    """CPU seconds, and those of the loop, since it was made."""

    def __init__(self) -> None:
        self._cpu, self._loop = time.process_time(), asyncio.get_running_loop().time()

    def read(self) -> tuple[float, float]:
        """CPU seconds and the loop's seconds."""
        return time.process_time() - self._cpu, asyncio.get_running_loop().time() - self._loop


def report(name: str, bench: Bench, watch: Stopwatch) -> None:
    """Print calls, CPU time and duration, and all of them for ten million rows."""
    cpu_s, duration_s = watch.read()
    factor = TEN_MILLION / bench.rows
    parts = sum(len(found.body) for key, found in bench.store.stored.items() if "results/" in key[1])
    calls = ", ".join(f"{count} {call}" for call, count in sorted(bench.calls.items()))
    print(f"{name}: {duration_s:.1f} s, {cpu_s:.1f} CPU s, {calls}, {parts / 2**20:.0f} MiB of results")
    total = sum(bench.calls.values()) * factor
    print(
        f"    10 M rows: {duration_s * factor / 60:.0f} min, {cpu_s * factor / 60:.0f} CPU min, "
        f"{total:,.0f} calls without those for parts"
    )


async def measure(rows: int, query_s: float) -> None:
    """An aggregation, an interrupted one, and a recovery."""
    bench = Bench(rows, query_s)
    await bench.fill(lost=0)
    watch = Stopwatch()
    await bench.aggregate()
    report("aggregation", bench, watch)

    bench = Bench(rows, query_s)
    await bench.fill(lost=0)
    bench.table.fail_after = rows // 2
    await bench.aggregate()
    bench.table.fail_after = None
    bench.calls.clear()
    await bench.clock.advance(60)
    watch = Stopwatch()
    await bench.aggregate()
    report("aggregation, from its middle", bench, watch)

    bench = Bench(rows, query_s)
    batch = await bench.fill(lost=10)
    completion = Completion(bench.ports)
    tokens = iter(range(10**9))
    committer = GroupCommitter(
        bench.ports, completion, GroupCommitLimits(), slot=0, tokens=lambda: f"{next(tokens):036d}"
    )
    watch = Stopwatch()
    async with committer:
        recovered = await Recovery(bench.ports, committer, RecoveryLimits("w")).resend(batch, lambda: None)
    report(f"recovery of {recovered.rows} rows", bench, watch)
    await measure_operations(rows, query_s)


async def measure_operations(rows: int, query_s: float) -> None:
    """The resume of a batch in its middle, and the redrive of every hundredth row."""
    for op, state, filled in (
        ("resume", State.PAUSED, {"done": rows // 2}),
        ("redrive", State.COMPLETED_WITH_ERRORS, {"failed": 100}),
    ):
        bench = Bench(rows, query_s)
        batch = await bench.fill(state=state, **filled)
        bench.calls.clear()
        watch, began = Stopwatch(), asyncio.get_running_loop().time()
        first_s = await bench.operate(op, batch) - began
        report(op, bench, watch)
        print(f"    first row sent after {first_s:.1f} s; 1 M rows: {first_s * 1e6 / rows:.0f} s")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--query-ms", type=float, default=10.0)
    arguments = parser.parse_args()
    configure_logging("error", as_json=True)
    with asyncio.Runner(loop_factory=IdleLoop) as runner:
        runner.run(measure(arguments.rows, arguments.query_ms / 1_000))


if __name__ == "__main__":
    main()
