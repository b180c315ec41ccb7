"""Rows per CPU second of a remap, and its CPU time beside that of the extraction alone, in one run.

    python benchmarks/remap.py [--rows 10000]

The work of the fleet is done on memory ports, whose table encodes and decodes items as that of DynamoDB does.
The replies lie in packs of 99, as group commits put them. Two kinds: a plain object with two fields, and the
reply of an agent that has called a tool, with five patterns on its result, as in `extraction.py`. Times are
those of one process; compare only the ratios between machines.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
import uuid
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, replace

from extraction import FIELDS, reply
from scale import Bench

from service.batch.commits.commit_group import GroupCommitLimits
from service.batch.commits.group_commit import GroupCommitter
from service.batch.completion import Completion
from service.batch.replies.kept_replies import KeptReplies
from service.batch.replies.pack import kept_text
from service.domain.model import Batch, BatchView, Location, Outcome, Source, State, Status
from service.domain.model import Json as Value
from service.mapping import Catalog, Definition
from service.recovery.ordered_rows import outcomes_in_row_order
from service.runtime.logs import configure_logging
from service.steering.remapping.work import RemapWork

TARGET = {"type": "tool", "name": "t", "invoke": "python", "function": "t:ask"}
PLAIN = {"method": "direct", "field_mappings": {"exchange": "$.exchange", "town": "$.town"}}
PATTERNS = {
    "method": "tool_result",
    "tool_name": "browser_broadband",
    "field_mappings": {name: f"$.content | parse('{pattern}')" for name, pattern in FIELDS.items()},
}
WANTED = 10_000
"""Rows per CPU second of plain replies, on a core with nothing else to do."""


@dataclass(frozen=True)
class Kind:
    """A kind of replies: their name, the method of the mapping, and the reply of a row."""

    name: str
    method: dict[str, Value]
    reply: Callable[[int], Value]


KINDS = (
    Kind("plain", PLAIN, lambda number: {"exchange": f"EX {number}", "town": f"Town {number % 97}" * 32}),
    Kind("agent", PATTERNS, lambda _: reply()),
)


@dataclass
class Times:
    """CPU seconds of a remap, and of some of its parts by themselves."""

    remap: float = 0.0
    read: float = 0.0
    replies: float = 0.0
    extraction: float = 0.0

    @property
    def rest(self) -> float:
        """Outcomes, their encoding and their commit."""
        return self.remap - self.replies - self.extraction


class RemapBench(Bench):
    """A batch whose replies are kept, and its next round, a remap."""

    async def measure(self, kind: Kind) -> Times:
        """Remap all rows; then the parts by themselves, on the same batch."""
        definition = _definition(kind)
        batch, times = await self._batch(kind, definition), Times()
        mapping = definition.compile()
        started = time.process_time()
        async with aclosing(outcomes_in_row_order(self.ports.table, batch)) as chunks:
            outcomes = [outcome async for chunk in chunks for outcome in chunk]
        times.read, started = time.process_time() - started, time.process_time()
        replies = KeptReplies(self.ports)
        values = [(await replies.load(batch, outcome)).value for outcome in outcomes]
        times.replies, started = time.process_time() - started + times.read, time.process_time()
        for value in values:
            mapping.extract(value)
        times.extraction, started = time.process_time() - started, time.process_time()
        async with self._committer() as committer:
            work = RemapWork(self.ports, committer, worker="w")
            await work.remap(batch, lambda: None, after=0, done=_nothing)
        times.remap = time.process_time() - started
        view = await self.memory.read(batch.batch_id)
        assert view is not None
        assert view.counts.succeeded == self.rows
        return times

    def _committer(self) -> GroupCommitter:
        limits = GroupCommitLimits(linger_s=0.0)
        return GroupCommitter(
            self.ports, Completion(self.ports), limits, slot=0, tokens=lambda: str(uuid.uuid4())
        )

    async def _batch(self, kind: Kind, definition: Definition) -> Batch:
        """The batch in its second round, without an outcome of it; it never completes."""
        batch = Batch(
            "t", "e", State.RUNNING, Source("b", "in.csv"), Location("b", "results/"),
            mapping_digest=definition.digest, total=self.rows + 1, columns=("id",), partitions=8,
            ttl=4_000_000_000, created_at="2026-01-01T00:00:00.000Z", updated_at="2023-11-14T22:13:20.000Z",
        )  # fmt: skip
        await self.memory.open(batch, definition.text)
        async with self._committer() as committer:
            for first in range(1, self.rows + 1, 99):
                numbers = range(first, min(first + 99, self.rows + 1))
                made = [_outcome(number, kept_text(kind.reply(number))) for number in numbers]
                await asyncio.gather(*[await committer.begin(batch, one.number, one) for one in made])
        second = replace(batch, round=2, total=self.rows + 1, remap_round=2)
        self.memory._batches[batch.batch_id] = second  # noqa: SLF001 -- without the pass that opens a round
        return replace(second, total=self.rows)


def _definition(kind: Kind) -> Definition:
    document = {"target": TARGET, "output_mapping": {"type": "tool", "extraction_methods": [kind.method]}}
    return Catalog.load({"t.yaml": json.dumps(document)}, {}).definition("t")


def _outcome(number: int, text: str) -> Outcome:
    return Outcome(
        number, 1, Status.SUCCESS, {"id": str(number)}, {"answer": "old"}, 5, "2026-01-01T00:00:00.000Z",
        reply=text,
    )  # fmt: skip


async def _nothing(_number: int, _view: BatchView | None) -> None:
    return None


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000)
    rows = parser.parse_args().rows
    configure_logging("error", as_json=False)
    print(f"{rows:,} rows   CPU us a row: remap = replies read + extraction + rest   ratio   rows/CPU s")
    for kind in KINDS:
        times = asyncio.run(RemapBench(rows, 0.0).measure(kind))
        us = [1e6 * seconds / rows for seconds in (times.remap, times.replies, times.extraction, times.rest)]
        parts = " ".join(f"{part:8.1f}" for part in us)
        ratio = times.remap / times.extraction
        print(f"{kind.name:>8} {parts}   {ratio:4.1f} x the extraction   {rows / times.remap:8,.0f}")


if __name__ == "__main__":
    main()
