"""The parts that the measurements of all roles share: settings, ports, sources and figures."""

from __future__ import annotations

import asyncio
import io
import json
import resource
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from service.adapters.memory import MemoryObjects, MemoryQueue
from service.app.settings import Settings
from service.batch.large_outcomes import LargeOutcomeLimits, LargeOutcomes
from service.batch.role_ports import Ports, Queues
from service.domain.model import Source
from service.domain.ports import OutgoingMessage, Queue
from service.mapping import Catalog, Definition
from service.runtime.clock import SystemClock
from service.runtime.metrics import Metrics

MIB = 2**20
HEADER = b"id,name\n"
TEXT_FACTOR = 4
"""Bytes of Python objects for each byte of a record: a text with one emoji has four for each character."""

MAPPING = """
target: {type: tool, name: bench, invoke: http, url: "http://127.0.0.1"}
output_mapping:
  type: tool
  extraction_methods: [{method: direct, field_mappings: {text: $.text}}]
"""


@dataclass(frozen=True)
class Usage:
    """Peaks of resident memory in MiB, before the work and at its end, and the rows that were worked on."""

    idle_mib: float
    peak_mib: float
    rows: int


def resident_mib() -> float:
    """Peak resident memory of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def default_settings() -> Settings:
    """The settings of a process that sets none."""
    return Settings.model_construct(**{n: f.get_default() for n, f in Settings.model_fields.items()})


def definition() -> Definition:
    """The mapping of every row."""
    return Catalog.load({"bench.yaml": MAPPING}, {}).definition("bench")


def ports_of(
    table: Any, objects: Any, clock: SystemClock, *, ingest: Queue | None = None, rows: Queue | None = None
) -> Ports:
    """Ports of a role; queues that are not given are in memory."""
    other = MemoryQueue("other", clock)
    queues = Queues(ingest or other, rows or other, other, other, other, other)
    return Ports(table, objects, queues, LargeOutcomes(objects, LargeOutcomeLimits()), clock, Metrics())


class Sources(MemoryObjects):
    """Sources that exist only while they are read: `rows` records of exactly `record_bytes` each."""

    def __init__(self, rows: int, record_bytes: int) -> None:
        super().__init__()
        self._record = b"1," + b"x" * (record_bytes - 3) + b"\n"
        self.size = len(HEADER) + rows * record_bytes

    async def head(self, bucket: str, key: str, version: str = "") -> Source:
        """Size and etag."""
        return Source(bucket, key, "etag", version, self.size)

    async def read(self, source: Source, start: int, length: int) -> bytes:  # noqa: ARG002
        """The bytes of the range."""
        await asyncio.sleep(0)
        stop = min(self.size, start + length)
        record = self._record
        if start < len(HEADER):
            return (HEADER + record * (1 + length // len(record)))[start:stop]
        place = (start - len(HEADER)) % len(record)
        return (record * (2 + length // len(record)))[place : place + stop - start]


class Calls(MemoryQueue):
    """A queue whose calls take `call_s` and whose messages are dropped.

    A call holds its request as botocore does: as text, as bytes and as a stream.
    """

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
