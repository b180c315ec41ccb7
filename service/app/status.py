"""Progress of a batch and causes of its failures, as commands show them. Reads only."""

from __future__ import annotations

import asyncio
from bisect import insort
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from service.batch.money_figures import cost_json, tokens_json
from service.batch.replies.kept_replies import KeptReplies, KeptReply
from service.batch.role_ports import Ports
from service.domain.errors import AccessError, RetryableError, UsageError
from service.domain.model import (
    Batch,
    BatchView,
    Hold,
    Json,
    Operation,
    OutboxKind,
    Outcome,
    RowError,
    State,
    iso_time,
    ms_of,
)
from service.domain.ports import Clock, Queue, Table
from service.domain.tolerance import excess_note, tolerance_text
from service.steering.expiry import hold_ends_ms
from service.steering.rounds import redrivable_until
from service.sweeper.sweep_limits import HOLD_S
from service.worker.budgets.records import BudgetUses, budgets_json, read_uses

WITH_RESULTS = frozenset({State.SUCCEEDED, State.COMPLETED_WITH_ERRORS, State.CANCELLED})
"""Final states of batches that have result files."""

PAGE_ROWS = 500
EXAMPLES = 5
"""Row numbers listed for each group of failures."""


@dataclass(slots=True)
class FailureGroup:
    """Failures with one cause: the same error type and, except for numbers and quotations, the same text."""

    type: str
    message: str
    count: int = 0
    rows: list[int] = field(default_factory=list)
    failure_class: str = ""

    def as_json(self) -> dict[str, Any]:
        """The group in `errors --json`."""
        return {
            "type": self.type,
            "class": self.failure_class,
            "message": self.message,
            "count": self.count,
            "rows": self.rows,
        }


async def read_batch(table: Table, batch_id: str) -> BatchView:
    """The batch. Raises UsageError if there is none."""
    view = await table.read(batch_id)
    if view is None:
        raise UsageError(f"there is no batch {batch_id!r}; `rowfleet list` shows the latest")
    return view


async def read_operations(table: Table, batch: Batch) -> Sequence[Operation]:
    """All operations on the batch, in their order. Without any, the table is not read."""
    return await table.operations(batch) if batch.control else ()


async def undelivered_events(table: Table, batch: Batch) -> int:
    """The number of the batch's events that some target has not got yet."""
    records = await table.records(batch.batch_id, OutboxKind.EVENT)
    return sum(record.is_pending and record.incarnation == batch.incarnation for record in records)


def status_json(
    view: BatchView,
    clock: Clock,
    outage: str = "",
    operations: Sequence[Operation] = (),
    undelivered: int | None = None,
    *,
    hold_s: float = HOLD_S,
    budget_uses: BudgetUses | None = None,
) -> dict[str, Any]:
    """The object that `status --json` prints; its keys are a public contract.

    Rates are rows per second since the start, or since the later round began; times are ISO 8601 in UTC.
    `outage` is the reason why the batch's target is down (`OutageBoard.read`), `undelivered` the number of
    events (`undelivered_events`), None if it was not counted. `hold_s`: the longest hold in seconds, unless
    the batch has one of its own. `exceeded`: the limit of failures that it exceeds and goes on.
    `budget_uses` (`read_uses`) are None if they were not read.
    `redrivable_until` is None before the end of a batch, and if its source was not read to the end.
    `cost` is described at `cost_json`, `tokens` at `tokens_json`; `calls` is the number of calls made.
    """
    batch, counts = view.batch, view.all_counts
    return {
        "batch_id": batch.batch_id,
        "tool_name": batch.tool_name,
        "execution_id": batch.execution_id,
        "state": str(batch.state),
        "round": batch.round,
        "total": batch.total,
        "due": batch.due,
        "succeeded": counts.succeeded,
        "failed": counts.failed,
        "reused": counts.reused,
        "calls": view.spending.calls,
        "tokens": tokens_json(view),
        "cost": cost_json(view),
        **_progress(view, clock.now_ms(), operations),
        "started_at": batch.created_at,
        "finished_at": batch.finished_at or None,
        "source": batch.source.url,
        **_result_files(view),
        "error": batch.error or None,
        "budget": budgets_json(batch, budget_uses),
        "trouble": outage if outage and not batch.state.is_final else None,
        "deadline_at": batch.deadline_at or None,
        "priority": batch.priority,
        "weight": batch.weight,
        "max_concurrency": batch.max_concurrency,
        "dialect": batch.dialect.as_json() if batch.dialect else None,
        "blank_records": batch.checkpoint.blanks,
        "holds": {hold.reason: _hold_json(batch, hold, hold_s) for hold in batch.holds},
        "operations": [operation.as_json() for operation in operations],
        "cancelled_at": batch.cancelled_at or None,
        "cancel_reason": batch.cancel_reason or None,
        "unread_from": batch.unread_from or None,
        "sample": _sample_json(batch),
        "tolerate": tolerance_text(batch.tolerate),
        "exceeded": excess_note(view) or None,
        "undelivered": undelivered,
        "redrivable_until": redrivable_until(batch) if _is_redrivable(batch) else None,
    }


async def uses_of(table: Table, view: BatchView, clock: Clock) -> BudgetUses | None:
    """The use of the batch's budgets; None if it has none. Raises RetryableError and AccessError."""
    return await read_uses(table, view.batch, clock) if view.batch.budgets else None


def can_be_redriven(batch: Batch, now_ms: int) -> bool:
    """True if a round of the batch can be opened now."""
    until = redrivable_until(batch)
    return _is_redrivable(batch) and (until is None or now_ms < ms_of(until))


def _is_redrivable(batch: Batch) -> bool:
    """True for a batch that has ended, and whose rows are all known."""
    return batch.state.is_final and batch.total is not None


def _hold_json(batch: Batch, hold: Hold, hold_s: float) -> dict[str, Json]:
    """A hold, and the time at which the batch is cancelled if nobody lifts it."""
    ends_ms = hold_ends_ms(batch, hold, hold_s)
    until = None if ends_ms is None else iso_time(ends_ms)
    return {"by": hold.by, "at": hold.at, "until": until, "detail": dict(hold.detail)}


async def calls_that_may_end(rows: Queue, view: BatchView) -> int:
    """The most calls of the batch that can be under way. `rows` is the queue of rows.

    Messages that workers hold, of which only some have a call; or the rows of the batch that may have been
    sent and have no outcome, if those are fewer, or if the queue cannot be asked.
    """
    batch = view.batch
    sent = batch.total if batch.total is not None else batch.checkpoint.rows + batch.window
    open_rows = max(0, sent - view.all_counts.done)
    try:
        return min(open_rows, await rows.in_flight())
    except (AccessError, RetryableError):
        return open_rows


async def sample_failures(table: Table, batch: Batch) -> list[RowError]:
    """Errors of a few failed rows of each partition, enough to see that they have several causes."""
    pages = await asyncio.gather(
        *(table.failed(batch, partition, after=0, limit=EXAMPLES) for partition in range(batch.partitions))
    )
    return [outcome.error for page in pages for outcome in page.outcomes if outcome.error]


async def group_failures(table: Table, batch: Batch) -> list[FailureGroup]:
    """All failed rows, grouped by cause, the most frequent first."""
    groups: dict[tuple[str, str, str], FailureGroup] = {}
    async for outcome in _failed_outcomes(table, batch):
        error = outcome.error or RowError("Unknown", "")
        group = groups.setdefault(
            error.cause, FailureGroup(error.type, error.message, failure_class=error.failure_class)
        )
        group.count += 1
        # a later partition may have lower row numbers
        insort(group.rows, outcome.number)
        del group.rows[EXAMPLES:]
    return sorted(groups.values(), key=lambda group: (-group.count, group.type, group.message))


async def read_failed_row(ports: Ports, batch: Batch, number: int) -> tuple[Outcome, KeptReply | None]:
    """The outcome of a failed row, or of one that ran in several rounds, with its data and its kept reply.

    Raises UsageError if the row has no outcome or never failed.
    """
    outcome = await ports.table.outcome(batch, number)
    if outcome is None:
        raise UsageError(f"row {number} of {batch.batch_id} has no outcome")
    if outcome.error is None and not outcome.history:
        raise UsageError(f"row {number} of {batch.batch_id} did not fail")
    reply = await KeptReplies(ports).load(batch, outcome)
    return await ports.large_outcomes.load(outcome), reply


def _sample_json(batch: Batch) -> dict[str, Json] | None:
    """The sample of a batch and its approval; None for a batch that asks for none."""
    gate = batch.gate
    if gate is None:
        return None
    return {
        "gate": batch.gate_id,
        "rows": gate.size,
        "random": gate.is_random,
        "approve_by_s": gate.approve_by_s,
        "approve_if": dict(gate.conditions),
        "approved_by": gate.opened_by or None,
        "approved_at": gate.opened_at or None,
    }


def _progress(view: BatchView, now_ms: int, operations: Sequence[Operation]) -> dict[str, Any]:
    batch = view.batch
    has_ended = batch.state.is_final
    began_at = next(
        (made.at for made in operations if made.answer.get("round") == batch.round), batch.created_at
    )
    seconds = _duration_s(began_at, batch.finished_at if has_ended else "", now_ms)
    # at the start, or without a start time, there is no rate yet
    rate = view.counts.done / seconds if seconds > 0 else None
    # Rows behind a closed gate make no progress.
    left = batch.due - view.counts.done if batch.due is not None else None
    return {
        "in_progress": 0 if has_ended else left,
        "rate_per_s": round(rate, 2) if rate is not None else None,
        "eta_s": 0 if has_ended else _eta_s(left, rate),
    }


def _result_files(view: BatchView) -> dict[str, str | None]:
    batch = view.batch
    if batch.state not in WITH_RESULTS:
        return {"output": None, "failures": None, "manifest": None}
    return {
        "output": batch.results.url("output.csv"),
        "failures": batch.results.url("failures.csv") if view.all_counts.failed else None,
        "manifest": batch.results.url("manifest.json"),
    }


async def _failed_outcomes(table: Table, batch: Batch) -> AsyncIterator[Outcome]:
    for partition in range(batch.partitions):
        after: int | None = 0
        while after is not None:
            page = await table.failed(batch, partition, after=after, limit=PAGE_ROWS)
            for outcome in page.outcomes:
                yield outcome
            after = page.after


def _duration_s(start: str, end: str, now_ms: int) -> float:
    end_s = datetime.fromisoformat(end).timestamp() if end else now_ms / 1000
    return end_s - datetime.fromisoformat(start).timestamp() if start else 0.0


def _eta_s(left: int | None, rate: float | None) -> float | None:
    if left is None or not rate:
        return None
    return round(left / rate, 1)
