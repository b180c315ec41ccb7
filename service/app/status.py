"""What users ask of a batch: how far it is, and why rows failed. Reads only."""

from __future__ import annotations

import re
from bisect import insort
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from service.batch.large_outcomes import LargeOutcomes
from service.domain.errors import UsageError
from service.domain.model import Batch, BatchView, Outcome, RowError, State
from service.domain.ports import Clock, Table

PAGE_ROWS = 500
EXAMPLES = 5
"""Rows named per group of failures."""


@dataclass(slots=True)
class FailureGroup:
    """Failures with one cause: the same error type, and the same text but for numbers and quoted values."""

    type: str
    message: str
    count: int = 0
    rows: list[int] = field(default_factory=list)
    failure_class: str = ""

    def as_json(self) -> dict[str, Any]:
        """For `errors --json`."""
        return {
            "type": self.type,
            "class": self.failure_class,
            "message": self.message,
            "count": self.count,
            "rows": self.rows,
        }


async def require(table: Table, batch_id: str) -> BatchView:
    """The batch, or UsageError."""
    view = await table.read(batch_id)
    if view is None:
        raise UsageError(f"there is no batch {batch_id!r}; `rowfleet list` shows the latest")
    return view


def status_json(view: BatchView, clock: Clock, trouble: str = "") -> dict[str, Any]:
    """The contract of `status --json`. Rates are rows per second since the start; times are ISO 8601, UTC.

    `trouble` is why its target is down, if it is (`Troubles.read`).
    """
    batch, counts = view.batch, view.counts
    ended = batch.state.is_final
    seconds = _seconds(batch.created_at, batch.finished_at if ended else "", clock.now_ms())
    rate = counts.done / seconds if seconds > 0 else None
    left = batch.total - counts.done if batch.total is not None else None
    written = batch.state in (State.SUCCEEDED, State.COMPLETED_WITH_ERRORS)
    return {
        "batch_id": batch.batch_id,
        "tool_name": batch.tool_name,
        "execution_id": batch.execution_id,
        "state": str(batch.state),
        "round": batch.round,
        "total": batch.total,
        "succeeded": counts.succeeded,
        "failed": counts.failed,
        "reused": counts.reused,
        "in_progress": left if not ended else 0,
        "rate_per_s": round(rate, 2) if rate is not None else None,
        "eta_s": _eta(left, rate) if not ended else 0,
        "started_at": batch.created_at,
        "finished_at": batch.finished_at or None,
        "source": batch.source.url,
        "output": batch.results.url("output.csv") if written else None,
        "failures": batch.results.url("failures.csv") if written and counts.failed else None,
        "manifest": batch.results.url("manifest.json") if written else None,
        "error": batch.error or None,
        "trouble": trouble if trouble and not ended else None,
        "deadline_at": batch.deadline_at or None,
        "priority": batch.priority,
        "weight": batch.weight,
    }


async def failures(table: Table, batch: Batch) -> list[FailureGroup]:
    """All failed rows, grouped by cause, the commonest first."""
    groups: dict[tuple[str, str], FailureGroup] = {}
    async for outcome in _failed(table, batch):
        error = outcome.error or RowError("Unknown", "")
        key = (error.type, _pattern(error.message))
        group = groups.setdefault(
            key, FailureGroup(error.type, error.message, failure_class=error.failure_class)
        )
        group.count += 1
        insort(group.rows, outcome.number)  # partitions come one after the other
        del group.rows[EXAMPLES:]
    return sorted(groups.values(), key=lambda group: (-group.count, group.type, group.message))


async def failed_row(table: Table, large_outcomes: LargeOutcomes, batch: Batch, number: int) -> Outcome:
    """The outcome of a failed row, whole. Raises UsageError where it has none, or did not fail."""
    outcome = await table.outcome(batch, number)
    if outcome is None:
        raise UsageError(f"row {number} of {batch.batch_id} has no outcome")
    if outcome.error is None:
        raise UsageError(f"row {number} of {batch.batch_id} did not fail")
    return await large_outcomes.load(outcome)


async def _failed(table: Table, batch: Batch) -> AsyncIterator[Outcome]:
    for partition in range(batch.partitions):
        after: int | None = 0
        while after is not None:
            page = await table.failed(batch, partition, after=after, limit=PAGE_ROWS)
            for outcome in page.outcomes:
                yield outcome
            after = page.after


def _pattern(message: str) -> str:
    """The message without what differs from row to row."""
    return re.sub(r"'[^']*'|\"[^\"]*\"|\d+", "…", message)


def _seconds(start: str, end: str, now_ms: int) -> float:
    end_s = datetime.fromisoformat(end).timestamp() if end else now_ms / 1000
    return end_s - datetime.fromisoformat(start).timestamp() if start else 0.0


def _eta(left: int | None, rate: float | None) -> float | None:
    if left is None or not rate:
        return None
    return round(left / rate, 1)
