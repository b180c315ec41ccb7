"""Step 6 of the protocol: the completion check, which triggers the aggregation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Protocol, TypeVar

import structlog

from service.batch.role_ports import Ports
from service.domain.messages import AggregateMessage
from service.domain.model import Batch, BatchView, Counts, State, iso_time
from service.domain.ports import OutgoingMessage, Table
from service.runtime.sender import send_all

T = TypeVar("T")
log = structlog.get_logger(__name__)

RECOUNT_ROWS = 1_000
"""Outcomes that are read at a time to count them."""


class Repeat(Protocol):
    """Makes a call of a port, and may repeat it if it fails."""

    async def __call__(self, call: Callable[[], Awaitable[T]]) -> T:
        """Return the result of `call`, or raise its last error."""
        ...


class Judge(Protocol):
    """Judges the failures of a batch that is not complete."""

    async def judge(self, view: BatchView) -> bool:
        """Stop the batch if more rows fail than are tolerated; True if it was changed. Raises nothing."""
        ...

    async def release(self, view: BatchView) -> bool:
        """Let a complete batch go on that is held for rows that are left; True if it was changed."""
        ...


async def once(call: Callable[[], Awaitable[T]]) -> T:
    """Make a call without repeating it."""
    return await call()


class Completion:
    """Checks whether every row of a sealed batch has an outcome.

    Splitter, worker, sweeper and dead-letter drain check after each step that may have been the last. The
    read is consistent, so the process that commits the last outcome sees every count: one of them triggers.
    If the rows of its sample have their outcomes, the aggregator is asked to show it.

    Each check has a `judge` look at the failures of a batch that is not complete, and at the holds of one
    that is.
    """

    def __init__(self, ports: Ports, judge: Judge | None = None) -> None:
        self._ports = ports
        self._judge = judge

    async def check(self, batch_id: str, repeat: Repeat = once) -> BatchView | None:
        """The batch and its counts; triggers the aggregation if the batch is complete. Safe to repeat.

        `repeat` makes each of its calls, so that a check which is interrupted sends no further trigger.
        """
        table, queues = self._ports.table, self._ports.queues
        view = await repeat(partial(table.read, batch_id))
        # Complete wins: a batch without rows left has nothing to stop.
        if view and self._judge and not view.is_complete and await self._judge.judge(view):
            view = await repeat(partial(table.read, batch_id))
        # The last outcome may have been committed while the batch was stopped, or after that.
        if view and self._judge and view.is_complete and await self._judge.release(view):
            view = await repeat(partial(table.read, batch_id))
        if view is None or not view.is_complete:
            return view
        batch = view.batch
        trigger = OutgoingMessage(AggregateMessage.of(batch).encode())
        if view.has_its_sample:
            # The aggregator shows the sample and holds the batch, also one that is held for something else.
            await repeat(partial(send_all, queues.aggregate, [trigger]))
        if batch.state is not State.RUNNING or not view.has_all_rows:
            return view
        if view.counts.done != batch.due:
            log.error("counters_exceed_due", batch_id=batch_id, due=batch.due, counted=view.counts.done)
        # Sent before the move: a crash in between sends the trigger twice rather than never.
        await repeat(partial(send_all, queues.aggregate, [trigger]))
        moved = await repeat(
            partial(
                table.move,
                replace(batch, settled=view.spending),
                expected=State.RUNNING,
                to=State.AGGREGATING,
                now=iso_time(self._ports.clock.now_ms()),
            )
        )
        log.info("batch_complete", batch_id=batch_id, round=batch.round, total=batch.total, claimed=moved)
        if not moved:
            return view
        return replace(view, batch=replace(batch, state=State.AGGREGATING, settled=view.spending))

    async def complete(self, batch: Batch) -> None:
        """Check a batch whose rows all have an outcome, and complete it whatever its counters say."""
        table = self._ports.table
        # The last commit may have come after the batch was read.
        view = await table.read(batch.batch_id)
        if view is not None and view.batch.identity == batch.identity and not view.is_complete:
            rows = await counts_of_outcomes(table, view.batch, RECOUNT_ROWS)
            await correct_counts(table, view.batch, rows=rows, counters=view.counts)
        await self.check(batch.batch_id)


async def counts_of_outcomes(table: Table, batch: Batch, page_rows: int) -> Counts:
    """The sum of all outcomes of the batch's round, in one pass. Raises RetryableError and AccessError."""
    counts = Counts()
    for partition in range(batch.partitions):
        after: int | None = 0
        while after is not None:
            page = await table.outcomes(batch, partition, after=after, limit=page_rows)
            counts = sum(
                (outcome.counts for outcome in page.outcomes if outcome.round >= batch.round), counts
            )
            after = page.after
    return counts


async def correct_counts(table: Table, batch: Batch, *, rows: Counts, counters: Counts) -> None:
    """Store the counts of the rows as those of the batch. Raises RetryableError and AccessError.

    Every row has to have its outcome, so that the counts do not change any more.
    """
    stored = await table.recount(batch, rows)
    log.error(
        "counters_differ_from_rows",
        rows=repr(rows),
        counters=repr(counters),
        total=batch.total,
        corrected=stored,
    )
