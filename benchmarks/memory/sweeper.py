"""A sweeper that sends every row of several batches again, as many as it recovers at a time."""

from __future__ import annotations

import argparse
import asyncio

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

from service.adapters.memory import MemoryTable
from service.batch.commits.commit_group import GroupCommitLimits
from service.batch.commits.group_commit import GroupCommitter
from service.batch.completion import Completion
from service.domain.model import Batch, Dialect, Location, Source, State
from service.domain.ports import MESSAGE_BYTES
from service.recovery.recovery import Recovery, RecoveryLimits
from service.runtime.clock import SystemClock

OPTIONS = {
    "rows": (100, "lost rows of each batch"),
    "cell_kib": (300, "size of a record"),
    "call_s": (0.05, "how long each call of SQS takes"),
}


async def measure(options: argparse.Namespace) -> Usage:
    """Recover the batches."""
    settings, clock = default_settings(), SystemClock()
    many = settings.sweep.concurrent_batches
    calls = Calls(clock, options.call_s, options.rows * many)
    sources = Sources(options.rows, options.cell_kib * 1024)
    ports = ports_of(MemoryTable(), sources, clock, rows=calls)
    committer = GroupCommitter(ports, Completion(ports), GroupCommitLimits(), slot=0, tokens=lambda: "t" * 36)
    split = settings.split
    limits = RecoveryLimits(
        "w", max_bytes=split.checkpoint_bytes, send_concurrency=split.send_concurrency,
        read_bytes=split.read_bytes, max_record_bytes=split.max_record_bytes,
    )  # fmt: skip
    digest = definition().digest
    batches = [
        Batch(
            "bench", f"e{number}", State.RUNNING, Source("in", "k", "etag", size=sources.size),
            Location("out", ""), digest, total=options.rows, columns=("id", "name"), partitions=64,
            dialect=Dialect("utf-8", ","),
        )
        for number in range(many)
    ]  # fmt: skip
    idle_mib = resident_mib()
    async with committer:
        recovery = Recovery(ports, committer, limits)
        await asyncio.gather(*(recovery.resend(batch, lambda: None) for batch in batches))
    return Usage(idle_mib, resident_mib(), calls.sent)


def bound_mib(options: argparse.Namespace) -> float:
    """The bound of docs/architecture.md with default settings, without the idle process."""
    settings, record_bytes = default_settings(), options.cell_kib * 1024
    split = settings.split
    window = max(split.checkpoint_bytes, record_bytes)
    batch = 2 * split.read_bytes + 2 * MESSAGE_BYTES + TEXT_FACTOR * (window + 2 * record_bytes)
    return (settings.sweep.concurrent_batches * batch + 4 * RecoveryLimits("w").send_bytes) / MIB
