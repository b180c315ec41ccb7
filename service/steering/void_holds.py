"""Holds for the sake of rows that are left, of a batch that has none left.

A hold for failures, for a target or for a budget keeps calls from being made. Calls under way end
nevertheless, and the last rows may be among them, or may have been committed at the moment of the hold.
Nothing is left to be decided on then: the batch goes on to its results by itself.
"""

from __future__ import annotations

from dataclasses import replace

import structlog

from service.batch.role_ports import Ports
from service.domain.errors import AccessError, RetryableError, UsageError
from service.domain.model import BatchView, HoldReason, State
from service.domain.operation_requests import OperationRequest
from service.steering.decisions import Decision
from service.steering.operate import ROWFLEET, decide_and_apply

log = structlog.get_logger(__name__)

FOR_ROWS_LEFT = frozenset({HoldReason.FAILURES, HoldReason.TARGET, HoldReason.BUDGET})


def is_void(view: BatchView) -> bool:
    """True if the batch is held, only for rows that are left, and none is."""
    batch = view.batch
    is_for_rows = all(hold.reason in FOR_ROWS_LEFT for hold in batch.holds)
    return batch.state is State.PAUSED and is_for_rows and view.is_complete


async def lift_void_holds(ports: Ports, view: BatchView) -> bool:
    """End the holds of a batch if they are void; True if it was changed.

    An error is only logged: the next check, or the sweeper, tries again.
    """
    if not is_void(view):
        return False
    judged = view.batch
    # Each process that sees it makes the same request, so it is carried out once.
    request_id = f"complete-{judged.round}-{judged.control}"
    request = OperationRequest("resume", judged.batch_id, request_id, ROWFLEET)

    def decide(now: BatchView, _request: OperationRequest, _now_ms: int) -> Decision:
        if now.batch.identity != judged.identity or not is_void(now):
            return Decision("the batch has changed since it was looked at")
        return Decision(
            "no row is left that it could be held for", replace(now.batch, state=State.RUNNING, holds=())
        )

    try:
        operation = await decide_and_apply(ports, request, decide)
    except (RetryableError, AccessError, UsageError) as error:
        log.warning("holds_not_lifted", batch_id=judged.batch_id, reason=str(error))
        return False
    return bool(operation.control)
