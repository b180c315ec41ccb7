"""A splitter's memory with large cells in several sources at once, against the bound in docs/architecture.md.

    python benchmarks/memory_splitter.py [--rows 300] [--cell-kib 300] [--call-s 0.05]

As many sources as a process splits at a time, each of `rows` rows of `cell-kib`. Sources are made while they
are read and messages are dropped, so that the memory is the splitter's own. A call of SQS takes `call-s` and
holds its request as botocore does: as text, as bytes and as a stream.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import random
import resource
import sys
import uuid
from collections.abc import Sequence

from service.adapters.memory import MemoryObjects, MemoryQueue, MemoryTable
from service.app.settings import Settings
from service.batch.completion import Completion
from service.batch.large_outcomes import LargeOutcomeLimits, LargeOutcomes
from service.batch.role_ports import Ports, Queues
from service.domain.message_format import encode
from service.domain.model import Source
from service.domain.ports import MESSAGE_BYTES, OutgoingMessage
from service.mapping import Catalog
from service.runtime.clock import SystemClock
from service.runtime.consumer import ConsumeLimits, Consumer
from service.runtime.logs import configure_logging
from service.runtime.metrics import Metrics
from service.splitter.split import SplitLimits
from service.splitter.splitter import SEND_BYTES, Splitter

MIB = 2**20
HEADER = b"id,name\n"
RESERVE = 4
"""Bytes of Python objects for each byte of a record: a text with one emoji has four for each character."""

MAPPING = """
target: {type: tool, name: bench, invoke: http, url: "http://127.0.0.1"}
output_mapping:
  type: tool
  extraction_methods: [{method: direct, field_mappings: {text: $.text}}]
"""


class Sources(MemoryObjects):
    """Sources that exist only while they are read: `rows` records of exactly `record_bytes` each."""

    def __init__(self, rows: int, record_bytes: int) -> None:
        super().__init__()
        self._record = b"1," + b"x" * (record_bytes - 3) + b"\n"
        self._size = len(HEADER) + rows * record_bytes

    async def head(self, bucket: str, key: str, version: str = "") -> Source:
        """Size and etag."""
        return Source(bucket, key, "etag", version, self._size)

    async def read(self, source: Source, start: int, length: int) -> bytes:  # noqa: ARG002
        """The bytes of the range."""
        await asyncio.sleep(0)
        stop = min(self._size, start + length)
        record = self._record
        if start < len(HEADER):
            return (HEADER + record * (1 + length // len(record)))[start:stop]
        place = (start - len(HEADER)) % len(record)
        return (record * (2 + length // len(record)))[place : place + stop - start]


class Calls(MemoryQueue):
    """A queue whose calls take `call_s` and whose messages are dropped."""

    def __init__(self, clock: SystemClock, call_s: float, expected: int) -> None:
        super().__init__("rows", clock)
        self._call_s = call_s
        self._expected = expected
        self.sent = 0
        self.are_all_sent = asyncio.Event()

    async def send(self, messages: Sequence[OutgoingMessage]) -> Sequence[int]:
        """Hold the request for `call_s`."""
        request = json.dumps([message.body for message in messages]).encode()
        stream = io.BytesIO(request)
        stream.seek(0, io.SEEK_END)
        await asyncio.sleep(self._call_s)
        self.sent += len(messages)
        if self.sent == self._expected:
            self.are_all_sent.set()
        del request, stream
        return ()


def resident_mib() -> float:
    """Peak resident memory of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def split(rows: int, record_bytes: int, call_s: float) -> dict[str, float]:
    """Split the sources; return the memory figures."""
    settings = Settings.model_construct(**{n: f.get_default() for n, f in Settings.model_fields.items()})
    limits, clock, metrics = settings.split, SystemClock(), Metrics()
    definition = Catalog.load({"bench.yaml": MAPPING}, {}).definition("bench")
    objects = Sources(rows, record_bytes)
    calls = Calls(clock, call_s, rows * limits.concurrent_batches)
    ingest, other = MemoryQueue("ingest", clock), MemoryQueue("other", clock)
    ports = Ports(
        MemoryTable(), objects, Queues(ingest, calls, other, other, other, other),
        LargeOutcomes(objects, LargeOutcomeLimits()), clock, metrics,
    )  # fmt: skip
    splitter = Splitter(
        ports, Completion(ports), lambda _: definition,
        SplitLimits(
            send_concurrency=limits.send_concurrency, checkpoint_bytes=limits.checkpoint_bytes,
            read_bytes=limits.read_bytes, max_record_bytes=limits.max_record_bytes,
        ),
        rng=random.Random(7), owners=lambda: uuid.uuid4().hex,
    )  # fmt: skip
    for number in range(limits.concurrent_batches):
        job = {"v": 1, "mapping": "bench", "source": f"s3://in/{number}.csv", "execution_id": f"e{number}"}
        await ingest.send([OutgoingMessage(encode(job))])
    base = resident_mib()
    consumer = Consumer(
        ingest, splitter.handle, ConsumeLimits(max_running=limits.concurrent_batches), clock, metrics
    )
    stop = asyncio.Event()
    running = asyncio.create_task(consumer.run(stop))
    await calls.are_all_sent.wait()
    stop.set()
    await running
    return {"base_mib": base, "peak_mib": resident_mib(), "settled": calls.sent}


def bound_mib(record_bytes: int) -> float:
    """The bound of docs/architecture.md with default settings, without the idle process."""
    split_ = Settings.model_fields["split"].get_default()
    window = max(split_.checkpoint_bytes, record_bytes)
    source = 2 * split_.read_bytes + 2 * MESSAGE_BYTES + RESERVE * (window + 2 * record_bytes)
    return (split_.concurrent_batches * source + 4 * SEND_BYTES) / MIB


def main() -> None:
    """Run, print, and exit with 1 if the bound is exceeded."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=300, help="rows of each source")
    parser.add_argument("--cell-kib", type=int, default=300, help="size of a record")
    parser.add_argument("--call-s", type=float, default=0.05, help="how long each call of SQS takes")
    arguments = parser.parse_args()
    configure_logging("error", as_json=True)
    size = arguments.cell_kib * 1024
    used = asyncio.run(split(arguments.rows, size, arguments.call_s))
    grown, bound = used["peak_mib"] - used["base_mib"], bound_mib(size)
    print(
        f"splitter: {used['settled']:,.0f} rows of {arguments.cell_kib:,} KiB from several sources: idle "
        f"{used['base_mib']:.0f} MiB, grown by {grown:.0f} MiB (bound: {bound:.0f} MiB)"
    )
    sys.exit(grown > bound)


if __name__ == "__main__":
    main()
