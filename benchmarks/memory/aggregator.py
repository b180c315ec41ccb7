"""An aggregator that writes as many results as a process writes at a time, with the real uploads to S3.

Pages of the table are decoded from JSON, as botocore gets them. S3 is a stand-in that drops what it gets.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import uuid
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from botocore.exceptions import ClientError
from common import MIB, Usage, default_settings, definition, ports_of, resident_mib

from service.adapters.aws.s3 import S3Objects
from service.adapters.aws.table.row_items import outcome_of, row_items
from service.adapters.memory import MemoryQueue, MemoryTable
from service.aggregator.aggregator import AggregateLimits, Aggregator
from service.aggregator.ordered_outcomes import AHEAD_BYTES, CONCURRENT_READS
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
)
from service.domain.ports import OutcomePage, OutgoingMessage
from service.runtime.clock import SystemClock
from service.runtime.consumer import ConsumeLimits, Consumer

PARTITIONS = 64
PAGE_BYTES = 2**20
OBJECT_FACTOR = 4
"""Bytes of Python objects for each byte of an outcome, which has a dictionary of its cells."""

PAGE_FACTOR = 12
"""Bytes for each byte of a page that is being decoded: its JSON, the values of DynamoDB, the outcomes."""

PART_COPIES = 6
"""Parts in memory for each file: the one being filled, the one being sent, and the copies of a checkpoint."""

OPTIONS = {
    "rows": (40_000, "rows of each batch"),
    "outcome_bytes": (1_000, "size of an outcome"),
    "call_s": (0.01, "how long each call of DynamoDB and S3 takes"),
}


class Table(MemoryTable):
    """A table whose outcomes exist only while they are read."""

    def __init__(self, rows: int, outcome_bytes: int, call_s: float) -> None:
        super().__init__()
        self._rows, self._call_s = rows, call_s
        half = "x" * (outcome_bytes // 2)
        outcome = Outcome(
            number=1, round=1, status=Status.SUCCESS, input_data={"id": "1", "name": half},
            output_data={"text": half}, execution_time_ms=5, timestamp="2026-01-01T00:00:00.000Z",
            attempts=1, worker="w",
        )  # fmt: skip
        (item,) = row_items(Commit("bench#e", 1, 1, 0, (outcome,), "t" * 36, 4_000_000_000))
        self._item = json.dumps(item)

    async def read(self, batch_id: str) -> BatchView | None:
        """The batch, complete."""
        view = await super().read(batch_id)
        return view and replace(view, counts=Counts(succeeded=self._rows))

    async def outcomes(self, batch: Batch, partition: int, *, after: int, limit: int) -> OutcomePage:  # noqa: ARG002
        """A page of at most 1 MB."""
        await asyncio.sleep(self._call_s)
        first = after + 1 + (partition - after - 1) % PARTITIONS
        numbers = list(range(first, self._rows + 1, PARTITIONS))
        page = numbers[: min(limit, max(1, PAGE_BYTES // len(self._item)))]
        body = json.dumps({"Items": [json.loads(self._item) for _ in page]}).encode()
        items = json.loads(body)["Items"]
        found = [replace(outcome_of(item), number=n) for item, n in zip(items, page, strict=True)]
        return OutcomePage(found, page[-1] if len(page) < len(numbers) else None)


class S3:
    """The calls of S3 that an aggregator makes; nothing is stored."""

    def __init__(self, call_s: float) -> None:
        self._call_s = call_s

    def __getattr__(self, name: str) -> Any:
        async def call(**parameters: Any) -> dict[str, Any]:
            if name == "get_object":
                raise ClientError({"Error": {"Code": "NoSuchKey"}}, name)
            await asyncio.sleep(self._call_s)
            del parameters
            return {"UploadId": uuid.uuid4().hex, "ETag": '"e"', "Uploads": []}

        return call


async def measure(options: argparse.Namespace) -> Usage:
    """Write the results."""
    settings, clock = default_settings(), SystemClock()
    aggregate = settings.aggregate
    table = Table(options.rows, options.outcome_bytes, options.call_s)
    aws = SimpleNamespace(call_timeout_s=60.0, endpoint="")
    objects = S3Objects(SimpleNamespace(s3=S3(options.call_s), options=aws), part_bytes=aggregate.part_bytes)
    ports = ports_of(table, objects, clock)
    triggers = MemoryQueue("aggregate", clock)
    for number in range(aggregate.concurrent_batches):
        batch = Batch(
            "bench", f"e{number}", State.AGGREGATING, Source("in", "k", "etag"),
            Location("out", f"{number}/"), definition().digest, total=options.rows,
            columns=("id", "name"), output_fields=("text",),
            partitions=PARTITIONS, dialect=Dialect("utf-8", ","), ttl=4_000_000_000,
        )  # fmt: skip
        await table.open(batch, definition().text)
        await triggers.send([OutgoingMessage(AggregateMessage.of(batch).encode())])
    aggregator = Aggregator(
        ports, AggregateLimits(page_rows=aggregate.page_rows), owners=lambda: uuid.uuid4().hex
    )
    idle_mib = resident_mib()
    limits = ConsumeLimits(max_running=aggregate.concurrent_batches)
    stop = asyncio.Event()
    running = asyncio.create_task(
        Consumer(triggers, aggregator.handle, limits, clock, ports.metrics).run(stop)
    )
    while ports.metrics.totals["batches_finished"] < aggregate.concurrent_batches:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    stop.set()
    await running
    return Usage(idle_mib, resident_mib(), options.rows * aggregate.concurrent_batches)


def bound_mib(_: argparse.Namespace) -> float:
    """The bound of docs/architecture.md with default settings, without the idle process."""
    aggregate = default_settings().aggregate
    ahead = OBJECT_FACTOR * AHEAD_BYTES + PAGE_FACTOR * CONCURRENT_READS * PAGE_BYTES
    return aggregate.concurrent_batches * (ahead + PART_COPIES * aggregate.part_bytes) / MIB
