"""A worker with a deep queue and large replies.

Consumer, worker and group commit are as the service wires them, with an agent over HTTP in another process
and ports that store nothing. The queue has a row for every receive until `rows` are gone, and commits take
`commit-s`, so that the worker holds as much as its bounds allow.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace

from aiohttp import web
from common import MIB, Usage, default_settings, definition, ports_of, resident_mib

from service.adapters.memory import MemoryObjects, MemoryQueue, MemoryTable
from service.agents import open_agent
from service.agents.options.context import AgentContext
from service.batch.commits.commit_group import GroupCommitLimits
from service.batch.commits.group_commit import GroupCommitter
from service.batch.completion import Completion
from service.batch.large_rows import ClaimCheck
from service.domain.messages import RowMessage
from service.domain.model import Batch, BatchView, Commit, Counts, Location, Source, State
from service.domain.ports import Agent, ReceivedMessage, StoredFile
from service.mapping import RowMapping
from service.runtime.clock import SystemClock
from service.runtime.consumer import ConsumeLimits, Consumer
from service.worker.admission.gates import Gates
from service.worker.batch_cache import BatchCache
from service.worker.budgets.budgets import Budgets
from service.worker.worker import Worker, WorkLimits

CHUNK_BYTES = 64 * 1024
"""Bytes of a reply that are read before it waits for its share of the reply budget."""


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


OPTIONS = {
    "rows": (100_000, "rows that wait in the queue"),
    "settle": (5_000, "rows to settle before it ends"),
    "reply_kib": (64, "size of each reply"),
    "commit_s": (0.5, "how long each commit takes"),
}


async def measure(options: argparse.Namespace) -> Usage:
    """Run a worker until enough rows are settled; its agent is a process of its own."""
    command = [sys.executable, __file__, str(options.reply_kib)]
    agent = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    assert agent.stdout is not None
    try:
        url = (await agent.stdout.readline()).decode().strip()
        return await work(url, options.rows, options.settle, options.commit_s)
    finally:
        agent.terminate()
        await agent.wait()


async def work(url: str, rows: int, settle: int, commit_s: float) -> Usage:
    """Run a worker until `settle` rows are settled."""
    settings, clock = default_settings(), SystemClock()
    compiled = definition()
    source, output = Source("in", "k", "e"), Location("out", "")
    batch = Batch(
        "bench", "e1", State.RUNNING, source, output, compiled.digest, total=rows, columns=("id", "name")
    )
    table, objects = CountingTable(commit_s), DiscardingObjects()
    await table.open(batch, compiled.text)
    queue = Backlog(clock, batch, rows)

    def agent(mapping: RowMapping) -> Agent:
        return open_agent(
            "http", {"url": url}, name=mapping.name, environ={},
            context=AgentContext(max_concurrency=settings.worker.max_inflight_rows),
        )  # fmt: skip

    idle_mib = resident_mib()
    ports = ports_of(table, objects, clock, rows=queue)
    async with GroupCommitter(
        ports, Completion(ports), GroupCommitLimits(), slot=0, tokens=lambda: "t" * 36
    ) as committer:
        gates = Gates(clock)
        batches = BatchCache(ports, agent, gates, max_in_flight=settings.worker.max_inflight_rows)
        budgets = Budgets(ports, owners=lambda: "w")
        worker = Worker(
            ports, batches, committer, ClaimCheck(objects), WorkLimits("w"),
            budgets=budgets, rng=random.Random(7),
        )  # fmt: skip
        limits = ConsumeLimits(
            pollers=settings.worker.pollers, max_running=settings.worker.max_inflight_rows,
            max_held=settings.worker.max_held_rows, max_held_bytes=settings.worker.max_held_bytes,
        )  # fmt: skip
        consumer = Consumer(queue, worker.handle, limits, clock, ports.metrics, capacity=gates)
        stop = asyncio.Event()
        running = asyncio.create_task(consumer.run(stop))
        while table.counts.done < settle:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        stop.set()
        await running
        await batches.close()
    return Usage(idle_mib, resident_mib(), table.counts.done)


def bound_mib(options: argparse.Namespace) -> float:
    """The bound of docs/architecture.md with default settings and small rows, without the idle worker."""
    settings, reply_bytes = default_settings(), options.reply_kib * 1024 + 12
    worker = settings.worker
    replies = worker.max_inflight_rows * reply_bytes
    read = min(replies, worker.max_inflight_rows * CHUNK_BYTES + settings.http.reply_budget_bytes)
    return (2 * worker.max_held_bytes + 2 * replies + 4 * read) / MIB


async def answer_calls(reply_kib: int) -> None:
    """Print the URL of an agent, and answer its calls until the process is ended."""
    body = json.dumps({"text": "x" * (reply_kib * 1024)}).encode()

    async def answer(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(body=body, content_type="application/json")

    app = web.Application()
    app.router.add_post("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(f"http://127.0.0.1:{runner.addresses[0][1]}/", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(answer_calls(int(sys.argv[1])))
