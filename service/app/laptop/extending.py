"""A finished run of the first rows of a file is extended: only the rows after them are called for."""

from __future__ import annotations

import uuid
from dataclasses import replace

from service.app.submit import SubmitRequest
from service.batch.role_ports import Ports
from service.domain.budgets.options import budget_options
from service.domain.model import Batch, BatchView, State, iso_time
from service.domain.operation_requests import OperationRequest
from service.steering.budgets.limits import with_limits
from service.steering.decisions import Decision
from service.steering.operate import decide_and_apply

_ENDED = (State.SUCCEEDED, State.COMPLETED_WITH_ERRORS)


def may_extend(view: BatchView, limit: int | None) -> bool:
    """True if the batch has finished the first rows of its file, and `limit` asks for more (None: all)."""
    batch = view.batch
    if batch.state not in _ENDED or batch.round > 1 or batch.limit is None or batch.total is None:
        return False
    return batch.total == batch.limit and (limit is None or limit > batch.limit)


async def extend(ports: Ports, view: BatchView, asked: SubmitRequest, by: str) -> None:
    """Have the file read on, from the row after the last.

    A budget that is asked for replaces the present one. Raises UsageError, RetryableError and AccessError.
    """
    limit, budget = asked.limit, budget_options(asked.budget)
    args = ({"limit": limit} if limit else {}) | budget
    request = OperationRequest("resume", view.batch.batch_id, f"extend-{uuid.uuid4().hex}", by, args)

    def decide(view: BatchView, _request: OperationRequest, now_ms: int) -> Decision:
        if not may_extend(view, limit):
            return Decision(f"{view.batch.batch_id} has its rows already")
        batch = with_limits(view, budget)
        return Decision(f"{batch.batch_id} reads on", _extended(batch, limit, now_ms))

    await decide_and_apply(ports, request, decide)


def _extended(batch: Batch, limit: int | None, now_ms: int) -> Batch:
    return replace(
        batch,
        state=State.SPLITTING,
        limit=limit,
        total=None,
        generation=batch.generation + 1,
        sender="",
        work=None,
        finished_at="",
        deadline_at=iso_time(now_ms + batch.deadline_s * 1000) if batch.deadline_s else "",
    )
