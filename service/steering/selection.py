"""The selection of a round: which rows run again, and which keep their outcome, from one consistent pass.

The pass reads the partitions of the batch, never an index. Every row that the pass does not find with an
outcome to keep is due, so a row that nobody has read yet is due as well.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from service.batch.role_ports import Ports
from service.domain.errors import BatchRejectedError, SourceError
from service.domain.model import Batch, Counts, Json, Outcome, Source, StoredPayload
from service.domain.ports import MESSAGE_BYTES
from service.recovery.earlier_outcomes import has_all_cells
from service.recovery.kept import KeptRows, KeptSelections
from service.runtime.tasks import task_group
from service.steering.filters import Filters

PAGE_ROWS = 1_000
CONCURRENT_READS = 8
"""Partitions that are read at a time, each in pages of at most 1 MB."""


@dataclass(slots=True)
class Selection:
    """The rows of a batch in two parts: those that are `kept`, with the counts of their outcomes, and others.

    `selected` rows run again although they have an outcome; `skipped` would, but cannot be read any more, and
    keep it. `in_round` counts the outcomes of the batch's present round. `cost`: what the selected rows took
    last time.
    """

    kept: KeptRows = field(default_factory=KeptRows)
    carried: Counts = field(default_factory=Counts)
    selected: int = 0
    skipped: list[int] = field(default_factory=list)
    in_round: int = 0
    by_class: Counter[str] = field(default_factory=Counter)
    by_error: Counter[str] = field(default_factory=Counter)
    cost: Counter[str] = field(default_factory=Counter)

    def keep(self, outcome: Outcome) -> None:
        """Let a row keep its outcome."""
        self.kept.keep(outcome.number)
        self.carried += outcome.counts

    def select(self, outcome: Outcome) -> None:
        """Have a row run again."""
        self.selected += 1
        if outcome.error is not None:
            self.by_class[outcome.error.failure_class or "unknown"] += 1
            self.by_error[outcome.error.type] += 1
        self.cost["calls"] += outcome.attempts if outcome.execution_time_ms else 0
        self.cost["input_tokens"] += outcome.input_tokens
        self.cost["output_tokens"] += outcome.output_tokens

    def as_json(self) -> dict[str, Json]:
        """The numbers of rows by class and error, and their costs."""
        return {
            "by_class": dict(sorted(self.by_class.items())),
            "by_error": dict(sorted(self.by_error.items())),
            "cost": {name: self.cost[name] for name in ("calls", "input_tokens", "output_tokens")},
        }


class SelectionPass:
    """One pass over the outcomes of a batch. `found` is the selection so far."""

    def __init__(self, ports: Ports, batch: Batch, filters: Filters) -> None:
        self._ports = ports
        self._batch = batch
        self._filters = filters
        self.found = Selection()
        self._present: KeptRows | None = None
        # Selected rows that run again only if the source can be read.
        self._incomplete: list[Outcome] = []

    async def run(self) -> Selection:
        """The selection. Raises RetryableError and AccessError."""
        try:
            self._present = await KeptSelections(self._ports.objects).load(self._batch)
        except BatchRejectedError:
            # The list of an earlier round is gone; every outcome counts as the last one of its row.
            self._present = None
        partitions = iter(range(self._batch.partitions))

        async def read() -> None:
            for partition in partitions:  # all readers take from the same iterator
                await self._read(partition)

        async with task_group() as group:
            for _ in range(min(CONCURRENT_READS, self._batch.partitions)):
                group.create_task(read())
        if self._incomplete:
            ordered = sorted(self._incomplete, key=lambda outcome: outcome.number)
            await self.place_incomplete(ordered)
        return self.found

    async def _read(self, partition: int) -> None:
        after: int | None = 0
        while after is not None:
            page = await self._ports.table.outcomes(self._batch, partition, after=after, limit=PAGE_ROWS)
            await self._take(page.outcomes)
            after = page.after
            await asyncio.sleep(0)

    async def _take(self, outcomes: Sequence[Outcome]) -> None:
        """Sort the outcomes of a page into those that stay and those whose rows run again."""
        found, batch = self.found, self._batch
        for outcome in outcomes:
            if outcome.round >= batch.round:
                found.in_round += 1
            elif self._present is not None and self._present.is_due(outcome.number) and not batch.is_remap:
                continue  # it was to run again in the present round and has not: it is due still
            if not self._filters.select(outcome):
                found.keep(outcome)
            elif await self.can_run_again(outcome):
                found.select(outcome)
            else:
                # its data is of no use here, and may be large
                self._incomplete.append(outcome)

    async def can_run_again(self, outcome: Outcome) -> bool:
        """True if the cells of the row can be taken from its outcome."""
        stored = outcome.stored
        if stored is None:
            return has_all_cells(outcome)
        return stored.size < MESSAGE_BYTES // 2 and await self._exists(stored)

    async def _exists(self, stored: StoredPayload) -> bool:
        try:
            await self._ports.objects.head(stored.bucket, stored.key)
        except SourceError:
            return False
        return True

    async def place_incomplete(self, incomplete: Sequence[Outcome]) -> None:
        """Have rows without cells run again if the source can be read; otherwise keep their outcomes."""
        is_readable = self._batch.dialect is not None and await can_be_read(self._ports, self._batch.source)
        for outcome in incomplete:
            if is_readable:
                self.found.select(outcome)
            else:
                self.found.keep(outcome)
                self.found.skipped.append(outcome.number)


async def can_be_read(ports: Ports, source: Source) -> bool:
    """True if the source is still the object that the batch was opened with."""
    try:
        found = await ports.objects.head(source.bucket, source.key, source.version)
    except SourceError:
        return False
    return found.is_same_object(source)
