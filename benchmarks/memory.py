"""A worker's memory with a deep queue and large replies, against the bound in docs/architecture.md.

    python benchmarks/memory.py [--rows 100000] [--settle 5000] [--reply-kib 64] [--commit-s 0.5]

The worker is a process of its own: consumer, worker and group commit as the service wires them, with an agent
over HTTP in another process and ports that store nothing. The queue has a row for every receive until `rows`
are gone, and commits take `commit-s`, so that the worker holds as much as its bounds allow. Resident memory
is the figure of the operating system.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import resource
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace

from aiohttp import web

from service.adapters.memory import MemoryObjects, MemoryQueue, MemoryTable
from service.agents import open_agent
from service.agents.options.context import AgentContext
from service.app.settings import Settings
from service.batch.completion import Completion
from service.batch.group_commit import GroupCommitLimits, GroupCommitter
from service.batch.large_outcomes import LargeOutcomeLimits, LargeOutcomes
from service.batch.large_rows import ClaimCheck
from service.batch.role_ports import Ports, Queues
from service.domain.messages import RowMessage
from service.domain.model import Batch, BatchView, Commit, Counts, Location, Source, State
from service.domain.ports import Agent, ReceivedMessage, StoredFile
from service.mapping import Catalog, RowMapping
from service.runtime.clock import SystemClock
from service.runtime.consumer import ConsumeLimits, Consumer
from service.runtime.logs import configure_logging
from service.runtime.metrics import Metrics
from service.worker.admission.gate import Gates
from service.worker.batch_cache import BatchCache
from service.worker.worker import Worker, WorkLimits

MIB = 2**20
CHUNK_BYTES = 64 * 1024
"""Bytes of a reply that are read before it waits for its share of the reply budget."""

MAPPING = """
target: {type: tool, name: bench, invoke: http, url: "http://127.0.0.1"}
output_mapping:
  type: tool
  extraction_methods: [{method: direct, field_mappings: {text: $.text}}]
"""


class Backlog(MemoryQueue):
    """A queue of `rows` rows whose messages are created when they are received."""

    def __init__(self, clock: SystemClock, batch: Batch, rows: int) -> None:
        super().__init__("rows", clock)
        self._batch = batch
        self._left = rows
        self._next = 1

    async def receive(self, limit: int, *, wait_s: float, visibility_s: float) -> Sequence[ReceivedMessage]:  # noqa: ARG002
        """Return the next rows at once, or nothing after `wait_s` if all are gone."""
        await asyncio.sleep(0 if self._left else wait_s)
        numbers = range(self._next, self._next + min(limit, self._left))
        self._next, self._left = self._next + len(numbers), self._left - len(numbers)
        return [ReceivedMessage(f"m{n}", self._body(n), f"r{n}") for n in numbers]

    async def extend(self, receipts: Sequence[str], visibility_s: float) -> Sequence[int]:  # noqa: ARG002
        """Grant every extension."""
        return ()

    async def delete(self, receipts: Sequence[str]) -> Sequence[int]:  # noqa: ARG002
        """Accept the receipts; nothing is stored."""
        return ()

    def _body(self, number: int) -> str:
        return RowMessage(self._batch.batch_id, 1, number, (str(number), f"name {number}")).encode()


class CountingTable(MemoryTable):
    """A table that counts outcomes and drops them; each commit takes `commit_s`."""

    def __init__(self, commit_s: float) -> None:
        super().__init__()
        self.commit_s = commit_s
        self.counts = Counts()

    async def commit(self, commit: Commit) -> Sequence[int]:
        """Count the outcomes after `commit_s`."""
        await asyncio.sleep(self.commit_s)
        self.counts += commit.counts
        return ()

    async def read(self, batch_id: str) -> BatchView | None:
        """Return the batch with the counts so far."""
        view = await super().read(batch_id)
        return view and replace(view, counts=self.counts)


class DiscardingObjects(MemoryObjects):
    """An object store that keeps nothing."""

    async def put(self, bucket: str, key: str, body: bytes, *, content_type: str) -> StoredFile:  # noqa: ARG002
        """Accept and drop the object."""
        await asyncio.sleep(0)
        return StoredFile(bucket, key, len(body), "")


def resident_mib() -> float:
    """Peak resident memory of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def work(url: str, rows: int, settle: int, commit_s: float) -> dict[str, float]:
    """Run a worker until `settle` rows are settled; return its memory figures."""
    settings = Settings.model_construct(**{n: f.get_default() for n, f in Settings.model_fields.items()})
    clock, metrics = SystemClock(), Metrics()
    definition = Catalog.load({"bench.yaml": MAPPING}, {}).definition("bench")
    source, output = Source("in", "k", "e"), Location("out", "")
    batch = Batch(
        "bench", "e1", State.RUNNING, source, output, definition.digest, total=rows, columns=("id", "name")
    )
    table, objects = CountingTable(commit_s), DiscardingObjects()
    await table.open(batch, definition.text)
    queue = Backlog(clock, batch, rows)

    def agent(mapping: RowMapping) -> Agent:
        return open_agent(
            "http", {"url": url}, name=mapping.name, environ={},
            context=AgentContext(max_concurrency=settings.worker.max_inflight_rows),
        )  # fmt: skip

    base = resident_mib()
    held = 0
    other = MemoryQueue("other", clock)
    queues = Queues(other, queue, other, other, other, other)
    outcomes = LargeOutcomes(objects, LargeOutcomeLimits())
    ports = Ports(table, objects, queues, outcomes, clock, metrics)
    async with GroupCommitter(
        ports, Completion(ports), GroupCommitLimits(), slot=0, tokens=lambda: "t" * 36
    ) as committer:
        gates = Gates(clock)
        batches = BatchCache(ports, agent, gates, max_in_flight=settings.worker.max_inflight_rows)
        worker = Worker(ports, batches, committer, ClaimCheck(objects), WorkLimits("w"), rng=random.Random(7))
        limits = ConsumeLimits(
            pollers=settings.worker.pollers, max_running=settings.worker.max_inflight_rows,
            max_held=settings.worker.max_held_rows, max_held_bytes=settings.worker.max_held_bytes,
        )  # fmt: skip
        consumer = Consumer(queue, worker.handle, limits, clock, metrics, capacity=gates)
        stop = asyncio.Event()
        running = asyncio.create_task(consumer.run(stop))
        while table.counts.done < settle:
            await asyncio.sleep(0.05)
            held = max(held, consumer.held_bytes)
        stop.set()
        await running
        await batches.close()
    return {
        "base_mib": base,
        "peak_mib": resident_mib(),
        "held_mib": held / MIB,
        "settled": table.counts.done,
    }


async def measure(arguments: argparse.Namespace) -> dict[str, float]:
    """Start a worker process, answer its calls, and return the figures that it prints."""
    body = json.dumps({"text": "x" * (arguments.reply_kib * 1024)}).encode()

    async def answer(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(body=body, content_type="application/json")

    app = web.Application()
    app.router.add_post("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    command = [sys.executable, __file__, "--worker", url, "--rows", str(arguments.rows)]
    command += ["--settle", str(arguments.settle), "--commit-s", str(arguments.commit_s)]
    child = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    out, _ = await child.communicate()
    await runner.cleanup()
    if child.returncode:
        sys.exit(f"the worker ended with {child.returncode}")
    figures: dict[str, float] = json.loads(out)
    return figures


def bound_mib(reply_bytes: int) -> float:
    """The bound of docs/architecture.md with default settings and small rows, without the idle worker."""
    worker, http = (Settings.model_fields[name].get_default() for name in ("worker", "http"))
    replies = worker.max_inflight_rows * reply_bytes
    read = min(replies, worker.max_inflight_rows * CHUNK_BYTES + http.reply_budget_bytes)
    return (2 * worker.max_held_bytes + 2 * replies + 4 * read) / MIB


def main() -> None:
    """Run, print, and exit with 1 if the bound is exceeded."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=100_000, help="rows that wait in the queue")
    parser.add_argument("--settle", type=int, default=5_000, help="rows to settle before it ends")
    parser.add_argument("--reply-kib", type=int, default=64, help="size of each reply")
    parser.add_argument("--commit-s", type=float, default=0.5, help="how long each commit takes")
    parser.add_argument("--worker", default="", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        configure_logging("error", as_json=True)
        taken = asyncio.run(work(arguments.worker, arguments.rows, arguments.settle, arguments.commit_s))
        print(json.dumps(taken))
        return
    used = asyncio.run(measure(arguments))
    grown, bound = used["peak_mib"] - used["base_mib"], bound_mib(arguments.reply_kib * 1024 + 12)
    print(
        f"{arguments.rows:,} rows queued, {used['settled']:,.0f} settled, replies of {arguments.reply_kib} "
        f"KiB, commits of {arguments.commit_s:g} s: idle {used['base_mib']:.0f} MiB, "
        f"peak {used['peak_mib']:.0f} MiB, grown by {grown:.0f} MiB "
        f"(bound: {bound:.0f} MiB); most held {used['held_mib']:.0f} MiB"
    )
    sys.exit(grown > bound)


if __name__ == "__main__":
    main()
