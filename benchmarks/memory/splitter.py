"""A splitter with large cells in as many sources at once as a process splits at a time."""

from __future__ import annotations

import argparse
import asyncio
import random
import uuid

from common import (
    MIB,
    TEXT_FACTOR,
    Calls,
    Sources,
    Usage,
    default_settings,
    definition,
    ports_of,
    resident_mib,
)

from service.adapters.memory import MemoryQueue, MemoryTable
from service.batch.completion import Completion
from service.domain.message_format import encode
from service.domain.ports import MESSAGE_BYTES, OutgoingMessage
from service.runtime.clock import SystemClock
from service.runtime.consumer import ConsumeLimits, Consumer
from service.splitter.split import SplitLimits
from service.splitter.splitter import SEND_BYTES, Splitter

OPTIONS = {
    "rows": (300, "rows of each source"),
    "cell_kib": (300, "size of a record"),
    "call_s": (0.05, "how long each call of SQS takes"),
}


async def measure(options: argparse.Namespace) -> Usage:
    """Split the sources."""
    limits, clock = default_settings().split, SystemClock()
    ingest = MemoryQueue("ingest", clock)
    calls = Calls(clock, options.call_s, options.rows * limits.concurrent_batches)
    sources = Sources(options.rows, options.cell_kib * 1024)
    ports = ports_of(MemoryTable(), sources, clock, ingest=ingest, rows=calls)
    compiled = definition()
    splitter = Splitter(
        ports, Completion(ports), lambda _: compiled,
        SplitLimits(
            send_concurrency=limits.send_concurrency, checkpoint_bytes=limits.checkpoint_bytes,
            read_bytes=limits.read_bytes, max_record_bytes=limits.max_record_bytes,
        ),
        rng=random.Random(7), owners=lambda: uuid.uuid4().hex,
    )  # fmt: skip
    for number in range(limits.concurrent_batches):
        job = {"v": 1, "mapping": "bench", "source": f"s3://in/{number}.csv", "execution_id": f"e{number}"}
        await ingest.send([OutgoingMessage(encode(job))])
    idle_mib = resident_mib()
    consumer = Consumer(
        ingest, splitter.handle, ConsumeLimits(max_running=limits.concurrent_batches), clock, ports.metrics
    )
    stop = asyncio.Event()
    running = asyncio.create_task(consumer.run(stop))
    await calls.are_all_sent.wait()
    stop.set()
    await running
    return Usage(idle_mib, resident_mib(), calls.sent)


def bound_mib(options: argparse.Namespace) -> float:
    """The bound of docs/architecture.md with default settings, without the idle process."""
    limits, record_bytes = default_settings().split, options.cell_kib * 1024
    window = max(limits.checkpoint_bytes, record_bytes)
    source = 2 * limits.read_bytes + 2 * MESSAGE_BYTES + TEXT_FACTOR * (window + 2 * record_bytes)
    return (limits.concurrent_batches * source + 4 * SEND_BYTES) / MIB
