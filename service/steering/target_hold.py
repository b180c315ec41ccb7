"""The hold of a batch whose target serves nobody: when it begins, and how it is lifted.

An outage is one worker's report on a target. It holds a batch only if the batch's counters show that no
worker has got an answer for it meanwhile.
"""

from __future__ import annotations

from dataclasses import replace

import structlog

from service.batch.outages import Outage
from service.batch.role_ports import Ports
from service.domain.errors import UsageError
from service.domain.model import Batch, BatchView, Counts, Hold, HoldReason, State, iso_time
from service.domain.operation_requests import OperationRequest
from service.steering.decisions import Decision, hold_batch, without_hold
from service.steering.failures import HOLD
from service.steering.operate import ROWFLEET, decide_and_apply

log = structlog.get_logger(__name__)

NEVER_S = 2**40
"""A `trouble_pause_s` that no outage lasts."""


def is_tried(batch: Batch) -> bool:
    """True if only its target holds the batch, so that trials of the target are made."""
    return batch.state is State.PAUSED and all(hold.reason == HoldReason.TARGET for hold in batch.holds)


def answered(counts: Counts) -> int:
    """The rows that the target may have answered. Some rejected ones were not sent to it."""
    return _served(counts) + counts.rejected


def has_served(view: BatchView) -> bool:
    """True if the target has served a row since it holds the batch."""
    hold = view.batch.hold(HoldReason.TARGET)
    return hold is not None and _served(view.counts) > int(hold.detail["served"])


def _served(counts: Counts) -> int:
    return counts.succeeded - counts.reused


def can_be_held(view: BatchView) -> bool:
    """True if the target of the batch may hold it."""
    batch = view.batch
    is_open = batch.state in (State.SPLITTING, State.RUNNING)
    return is_open and not batch.cancelled_at and not view.is_complete and not batch.is_remap


async def hold_for_target(ports: Ports, judged: BatchView, outage: Outage) -> bool:
    """Hold a batch unless it has been changed, or a row answered, since it was judged. True if it is held.

    Raises RetryableError and AccessError.
    """
    batch = judged.batch

    def decide(now: BatchView, request: OperationRequest, now_ms: int) -> Decision:
        is_same = (now.batch.identity, now.batch.control) == (batch.identity, batch.control)
        if not (is_same and can_be_held(now)) or answered(now.counts) != answered(judged.counts):
            return Decision("the batch has moved since its target was judged")
        reason = f"its target serves nobody: {outage.text}"
        detail = {"reason": reason, "since": iso_time(outage.since_ms), "served": _served(now.counts)}
        held = hold_batch(now.batch, Hold(HoldReason.TARGET, request.by, iso_time(now_ms), detail))
        return Decision(reason, held)

    # All sweepers make the same request, which is carried out once.
    request_id = f"target-{batch.round}-{batch.control}"
    request = OperationRequest(HOLD, batch.batch_id, request_id, ROWFLEET, {"reason": outage.text})
    try:
        operation = await decide_and_apply(ports, request, decide)
    except UsageError:
        return False  # the batch has expired
    if operation.control:
        log.warning("target_holds_batch", batch_id=batch.batch_id, reason=outage.text)
    return bool(operation.control)


async def lift_target_hold(ports: Ports, held: Batch, reason: str, *, for_good: bool = False) -> None:
    """Lift the hold that a batch has for its target; without another one it goes on. Safe to repeat.

    With `for_good` its target does not hold it again. Raises RetryableError and AccessError.
    """

    def decide(now: BatchView, _request: OperationRequest, _now_ms: int) -> Decision:
        batch = now.batch
        is_same = (batch.identity, batch.generation) == (held.identity, held.generation)
        if not is_same or batch.state is not State.PAUSED or batch.hold(HoldReason.TARGET) is None:
            return Decision(f"its target does not hold {batch.batch_id}")
        if for_good:
            batch = replace(batch, trouble_pause_s=NEVER_S)
        return Decision(reason, without_hold(batch, HoldReason.TARGET))

    request_id = f"target-served-{held.round}-{held.generation}"
    request = OperationRequest("resume", held.batch_id, request_id, ROWFLEET, {"reason": reason})
    try:
        operation = await decide_and_apply(ports, request, decide)
    except UsageError:
        return  # the batch has expired
    if operation.control:
        log.warning("target_hold_lifted", batch_id=held.batch_id, reason=reason)
