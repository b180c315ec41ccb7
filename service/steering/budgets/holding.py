"""The hold of a batch whose budget is used up: when it begins, and how it is lifted.

Each process that finds the budget used up makes the same request, which is carried out once.
"""

from __future__ import annotations

import structlog

from service.batch.role_ports import Ports
from service.domain.errors import UsageError
from service.domain.model import Batch, BatchView, HoldReason, Shortage, State
from service.domain.operation_requests import OperationRequest
from service.steering.budgets.limits import budget_hold, is_over
from service.steering.decisions import Decision, hold_batch, without_hold
from service.steering.failures import HOLD
from service.steering.operate import ROWFLEET, decide_and_apply
from service.steering.target_hold import is_tried

log = structlog.get_logger(__name__)


async def hold_for_budget(ports: Ports, judged: Batch, shortage: Shortage, *, is_day: bool) -> bool:
    """Hold a batch unless its rows are all done, or its budget was changed since it was found used up.

    One that its target holds gets this hold as well: a trial of the target is a call like any other.
    `is_day`: the budget is that of its mapping for the day. True if the batch is held by this. Raises
    RetryableError and AccessError.
    """

    def decide(now: BatchView, request: OperationRequest, now_ms: int) -> Decision:
        batch = now.batch
        is_same = (batch.identity, batch.budgets) == (judged.identity, judged.budgets)
        makes_calls = batch.state in (State.SPLITTING, State.RUNNING) or is_tried(batch)
        if not (is_same and makes_calls) or batch.cancelled_at or now.is_complete:
            return Decision("the batch has moved since its budget was found used up")
        hold = budget_hold(batch, shortage, is_day=is_day, by=request.by, now_ms=now_ms)
        return Decision(str(hold.detail["reason"]), hold_batch(batch, hold), hold.detail)

    request_id = f"budget-{judged.round}-{judged.control}"
    request = OperationRequest(HOLD, judged.batch_id, request_id, ROWFLEET)
    try:
        operation = await decide_and_apply(ports, request, decide)
    except UsageError:
        return False  # the batch has expired
    if operation.control:
        log.warning("budget_holds_batch", batch_id=judged.batch_id, reason=operation.answer["text"])
    return bool(operation.control)


async def lift_budget_hold(ports: Ports, held: Batch) -> bool:
    """Lift the hold of a daily budget whose day is over. True if it was lifted. Safe to repeat.

    Raises RetryableError and AccessError.
    """
    reason = "a new day has begun, with a budget of its own"

    def decide(now: BatchView, _request: OperationRequest, now_ms: int) -> Decision:
        batch, hold = now.batch, now.batch.hold(HoldReason.BUDGET)
        is_same = (batch.identity, batch.control) == (held.identity, held.control)
        if hold is None or not is_same or batch.state is not State.PAUSED or not is_over(hold, batch, now_ms):
            return Decision(f"its budget does not hold {batch.batch_id} any more, or still does")
        return Decision(reason, without_hold(batch, HoldReason.BUDGET))

    request_id = f"budget-day-{held.round}-{held.control}"
    request = OperationRequest("resume", held.batch_id, request_id, ROWFLEET, {"reason": reason})
    try:
        operation = await decide_and_apply(ports, request, decide)
    except UsageError:
        return False  # the batch has expired
    if operation.control:
        log.warning("budget_hold_lifted", batch_id=held.batch_id, reason=reason)
    return bool(operation.control)


def is_day_over(batch: Batch, now_ms: int) -> bool:
    """True if a daily budget holds the batch, and its day is over."""
    hold = batch.hold(HoldReason.BUDGET)
    return hold is not None and hold.detail["budget"] == "day" and is_over(hold, batch, now_ms)
