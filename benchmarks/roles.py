"""CPU time of splitter and aggregator for each row, from ten thousand rows to a million.

    python benchmarks/roles.py [--rows 10000 100000 1000000] [--quoted 7]

Both roles work on ports in memory that cost next to nothing: the source is a file, messages are counted and
dropped, outcomes are decoded from items of DynamoDB as they are asked for, and uploads are hashed. Rows have
100 bytes. `--quoted N` makes every N-th of them one with a quoted comma. Each measurement is a process of its
own, and beside it a plain loop does the same with `csv` and `json`: ratios to it say more than times.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import json
import multiprocessing
import os
import random
import resource
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from service.adapters.aws.table.row_items import outcome_of, row_items
from service.adapters.memory import MemoryObjects, MemoryQueue, MemoryTable
from service.aggregator.aggregator import AggregateLimits, Aggregator
from service.aggregator.digests import HashedUpload, HashingStore
from service.batch.completion import Completion
from service.batch.large_outcomes import LargeOutcomeLimits, LargeOutcomes
from service.batch.role_ports import Ports, Queues
from service.domain.message_format import encode
from service.domain.messages import AggregateMessage
from service.domain.model import (
    Batch,
    BatchView,
    Commit,
    Counts,
    Dialect,
    Location,
    Outcome,
    Source,
    State,
    Status,
    row_id,
)
from service.domain.ports import OutcomePage, OutgoingMessage, ReceivedMessage
from service.mapping import Catalog
from service.runtime.clock import SystemClock
from service.runtime.delivery import Delivery
from service.runtime.leases import Lease
from service.runtime.logs import configure_logging
from service.runtime.metrics import Metrics
from service.splitter.split import SplitLimits
from service.splitter.splitter import Splitter

MAPPING = """
target: {type: tool, name: bench, invoke: http, url: "http://127.0.0.1"}
output_mapping:
  type: tool
  extraction_methods: [{method: direct, field_mappings: {text: $.text, score: $.score}}]
"""
COLUMNS = ("id", "name", "city", "note")
PARTITIONS = 16
PAGE_BYTES = 1_000_000


@dataclass(frozen=True)
class Measured:
    """CPU seconds of a role and of the plain loop, and the peak of resident memory in MiB."""

    role: str
    rows: int
    cpu_s: float
    plain_s: float
    idle_mib: float
    peak_mib: float


def cells_of(number: int, quoted: int) -> list[str]:
    """The cells of a row of about 100 bytes."""
    note = "a, b" if quoted and number % quoted == 0 else "none"
    return [str(number), f"name of number {number}", "Köln", f"{note} {'x' * 50}"]


class FileSource(MemoryObjects):
    """The source is a file; uploads are hashed."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = os.open(path, os.O_RDONLY)
        self._size = path.stat().st_size

    async def head(self, bucket: str, key: str, version: str = "") -> Source:
        """Size and etag."""
        return Source(bucket, key, "etag", version, self._size)

    async def read(self, source: Source, start: int, length: int) -> bytes:
        """The bytes of the range."""
        if source.bucket != "in":
            return await super().read(source, start, length)
        await asyncio.sleep(0)
        return os.pread(self._file, length, start)

    def upload(self, bucket: str, key: str, **named: Any) -> HashedUpload:  # type: ignore[override]
        """Hash an object."""
        return HashingStore().upload(bucket, key, **named)


class CountingQueue(MemoryQueue):
    """Drops what it is sent."""

    sent = 0

    async def send(self, messages: Sequence[OutgoingMessage]) -> Sequence[int]:
        """Count the messages."""
        await asyncio.sleep(0)
        self.sent += len(messages)
        return ()


class OutcomeTable(MemoryTable):
    """A table whose outcomes exist only while they are read."""

    def __init__(self, rows: int, quoted: int) -> None:
        super().__init__()
        self._rows = rows
        self._templates = []
        for number in range(1, max(1, quoted) + 1):
            outcome = Outcome(
                number=number, round=1, status=Status.SUCCESS,
                input_data=dict(zip(COLUMNS, cells_of(number, quoted), strict=True)),
                output_data={"text": "a reply", "score": number}, execution_time_ms=5,
                timestamp="2026-01-01T00:00:00.000Z", attempts=1, worker="w",
            )  # fmt: skip
            self._templates += row_items(Commit("bench#e", 1, 1, 0, (outcome,), "t" * 36, 4_000_000_000))

    async def read(self, batch_id: str) -> BatchView | None:
        """The batch, complete."""
        view = await super().read(batch_id)
        return view and replace(view, counts=Counts(succeeded=self._rows, agent_ms=5 * self._rows))

    async def outcomes(self, batch: Batch, partition: int, *, after: int, limit: int) -> OutcomePage:  # noqa: ARG002
        """A page of a partition, about 1 MB at most."""
        await asyncio.sleep(0)
        first = after + 1 + (partition - after - 1) % PARTITIONS
        numbers = range(first, self._rows + 1, PARTITIONS)[: min(limit, 2_500)]
        templates = self._templates
        found = [
            outcome_of({**templates[number % len(templates) - 1], "row_id": {"S": row_id(number)}})
            for number in numbers
        ]
        is_last = not numbers or numbers[-1] + PARTITIONS > self._rows
        return OutcomePage(found, None if is_last else numbers[-1])


class Holder:
    """The consumer of a delivery that is made by hand."""

    is_draining = False

    def slot_released(self) -> None:
        """Nothing waits for it."""

    def report_bytes(self, lease: Lease, size: int) -> None:
        """Nothing bounds them."""


def ports_of(table: Any, objects: Any, rows: Any) -> Ports:
    """Ports of a role."""
    clock = SystemClock()
    other = MemoryQueue("other", clock)
    large = LargeOutcomes(objects, LargeOutcomeLimits())
    return Ports(table, objects, Queues(other, rows, other, other, other, other), large, clock, Metrics())


async def split(path: Path, rows: int, quoted: int) -> float:  # noqa: ARG001
    """Split a file; return the CPU seconds."""
    queue = CountingQueue("rows", SystemClock())
    ports = ports_of(MemoryTable(), FileSource(path), queue)
    definition = Catalog.load({"bench.yaml": MAPPING}, {}).definition("bench")
    splitter = Splitter(
        ports, Completion(ports), lambda _: definition, SplitLimits(),
        work=None, rng=random.Random(7), owners=lambda: uuid.uuid4().hex,  # type: ignore[arg-type]
    )  # fmt: skip
    job = encode({"v": 1, "mapping": "bench", "source": "s3://in/k.csv", "execution_id": "e"})
    started = time.process_time()
    await splitter.handle(Delivery(Lease(ReceivedMessage("m", job, "r"), 0.0), Holder()))
    used = time.process_time() - started
    assert queue.sent == rows, queue.sent
    return used


async def aggregate(_: Path, rows: int, quoted: int) -> float:
    """Write the results of a batch; return the CPU seconds."""
    table = OutcomeTable(rows, quoted)
    ports = ports_of(table, FileSource(Path(os.devnull)), MemoryQueue("rows", SystemClock()))
    definition = Catalog.load({"bench.yaml": MAPPING}, {}).definition("bench")
    batch = Batch(
        "bench", "e", State.AGGREGATING, Source("in", "k", "etag"), Location("out", "r/"), definition.digest,
        total=rows, columns=COLUMNS, output_fields=("text", "score"), partitions=PARTITIONS,
        dialect=Dialect("utf-8", ","), ttl=4_000_000_000,
    )  # fmt: skip
    await table.open(batch, definition.text)
    aggregator = Aggregator(ports, AggregateLimits(), owners=lambda: uuid.uuid4().hex)
    message = ReceivedMessage("m", AggregateMessage.of(batch).encode(), "r")
    started = time.process_time()
    await aggregator.handle(Delivery(Lease(message, 0.0), Holder()))
    used = time.process_time() - started
    assert ports.metrics.totals["batches_finished"] == 1
    return used


def plain_split(path: Path) -> float:
    """CPU seconds of a loop that makes a JSON text of each record."""
    started = time.process_time()
    with path.open(encoding="utf-8", newline="") as file:
        size = sum(len(json.dumps(row)) for row in csv.reader(file))
    assert size
    return time.process_time() - started


def plain_aggregate(path: Path) -> float:
    """CPU seconds of a loop that reads records of JSON and writes rows of CSV."""
    with path.open(encoding="utf-8", newline="") as file:
        texts = [json.dumps(row) for row in csv.reader(file)]
    started = time.process_time()
    with Path(os.devnull).open("w", encoding="utf-8", newline="") as target:
        writer = csv.writer(target)
        for text in texts:
            row = json.loads(text)
            writer.writerow([*row, "a reply", "7", row[0], "SUCCESS", "5", "2026-01-01T00:00:00.000Z", ""])
    return time.process_time() - started


def write_source(path: Path, rows: int, quoted: int) -> None:
    """Write the source."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(cells_of(number, quoted) for number in range(1, rows + 1))


def resident_mib() -> float:
    """Peak resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


ROLES = {"splitter": (split, plain_split), "aggregator": (aggregate, plain_aggregate)}
PLAIN_ROWS = 20_000


def measure(role: str, rows: int, quoted: int, profile: str) -> Measured:
    """Measure one role; runs in a process of its own."""
    configure_logging("error", as_json=True)
    run, plain = ROLES[role]
    with tempfile.TemporaryDirectory() as folder:
        source, small = Path(folder) / "source.csv", Path(folder) / "small.csv"
        write_source(small, PLAIN_ROWS, quoted)
        if role == "splitter":
            write_source(source, rows, quoted)
        idle_mib = resident_mib()
        work: Callable[[], float] = lambda: asyncio.run(run(source, rows, quoted))  # noqa: E731
        cpu_s = _profiled(work, profile) if profile else work()
        peak_mib = resident_mib()
        plain_s = min(plain(small) for _ in range(3)) * rows / PLAIN_ROWS
    return Measured(role, rows, cpu_s, plain_s, idle_mib, peak_mib)


def _profiled(work: Callable[[], float], sort: str) -> float:
    import cProfile  # noqa: PLC0415
    import pstats  # noqa: PLC0415

    profiler = cProfile.Profile()
    used = profiler.runcall(work)
    pstats.Stats(profiler).sort_stats(sort).print_stats(35)
    return used


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--role", choices=ROLES, nargs="+", default=list(ROLES))
    parser.add_argument("--quoted", type=int, default=0)
    parser.add_argument("--profile", default="", help="print a profile, sorted by `tottime` or `cumtime`")
    options = parser.parse_args()
    table = Table("role", "rows", "rows per CPU s", "µs a row", "of the plain loop", "idle MiB", "peak MiB")
    for column in table.columns[1:]:
        column.justify = "right"
    context = multiprocessing.get_context("spawn")
    for role in options.role:
        for rows in options.rows:
            with context.Pool(1) as pool:
                found = pool.apply(measure, (role, rows, options.quoted, options.profile))
            table.add_row(
                role, f"{rows:,}", f"{rows / found.cpu_s:,.0f}", f"{found.cpu_s * 1e6 / rows:.1f}",
                f"{found.plain_s / found.cpu_s:.2f}", f"{found.idle_mib:.0f}", f"{found.peak_mib:.0f}",
            )  # fmt: skip
    Console().print(table)


if __name__ == "__main__":
    main()
