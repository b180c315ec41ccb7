"""The end of holds: no batch is held for ever.

A hold ends when its time is over: the batch is cancelled, so that its rows are written before they expire. A
batch whose deadline passes while it is held goes on, so that its rows fail by the deadline.
"""

from __future__ import annotations

from dataclasses import replace

from service.batch.ending import spare_until_ms
from service.domain.deadlines import deadline_of
from service.domain.model import Batch, BatchView, Hold, HoldReason, State, iso_time, ms_of
from service.domain.operation_requests import OperationRequest
from service.steering.approval.gates import passed, sealed_whole
from service.steering.decisions import Decide, Decision, cancelled, describe_hold, open_state


def hold_ends_ms(batch: Batch, hold: Hold, hold_s: float) -> int | None:
    """The time (ms since 1970) at which a hold ends that nobody has lifted; None if it never does.

    `hold_s`: the longest hold in seconds, unless the batch has one of its own. It does not bound the hold of
    a user.
    """
    ends = [] if hold.reason == HoldReason.USER else [ms_of(hold.at) + round((batch.hold_s or hold_s) * 1000)]
    if hold.reason == HoldReason.APPROVAL and batch.gate is not None:
        ends.append(ms_of(hold.at) + batch.gate.approve_by_s * 1000)
    # The results have to be written before the outcomes expire.
    if batch.ttl:
        ends.append(spare_until_ms(batch))
    return min(ends, default=None)


def expired_hold(batch: Batch, hold_s: float, now_ms: int) -> Hold | None:
    """The first hold of a batch whose time is over."""
    for hold in batch.holds:
        ends_ms = hold_ends_ms(batch, hold, hold_s)
        if ends_ms is not None and ends_ms <= now_ms:
            return hold
    return None


def is_overdue(batch: Batch, now_ms: int) -> bool:
    """True if the deadline of the batch has passed."""
    return deadline_of(batch, None).left_s(now_ms) <= 0


def end_of_hold(hold_s: float) -> Decide:
    """The decision to end a hold whose time is over."""

    def decide(view: BatchView, request: OperationRequest, now_ms: int) -> Decision:
        batch = view.batch
        if batch.state is not State.PAUSED:
            return Decision(f"{batch.batch_id} is {batch.state}")
        if is_overdue(batch, now_ms):
            after = _overdue(batch, request.by, iso_time(now_ms))
            return Decision(f"the deadline of {batch.batch_id} has passed: it goes on", after)
        hold = expired_hold(batch, hold_s, now_ms)
        if hold is None:
            return Decision(f"{batch.batch_id} is held: {'; '.join(map(describe_hold, batch.holds))}")
        reason = _reason(batch, hold)
        if hold.reason == HoldReason.APPROVAL and batch.gate is not None:
            batch = replace(batch, gate=replace(batch.gate, has_lapsed=True))
        after = cancelled(batch, now_ms, grace_s=0, reason=reason)
        return Decision(f"{batch.batch_id} is cancelled: {reason}", after)

    return decide


def _overdue(batch: Batch, by: str, at: str) -> Batch:
    """The batch without holds. Nothing is sent again: the sweeper fails the rows once all are read."""
    if batch.sample:
        # The rows behind the gate fail as well.
        batch = passed(sealed_whole(batch), by, at)
    return replace(batch, state=open_state(batch), holds=(), work=None, generation=batch.generation + 1)


def _reason(batch: Batch, hold: Hold) -> str:
    if hold.reason == HoldReason.APPROVAL:
        return f"nobody has approved the sample of {batch.batch_id} in time: it was ready at {hold.at}"
    text = f"it was held and nobody went on with it: {describe_hold(hold)}"
    return f"{text}; its rows expire at {iso_time(batch.ttl * 1000)}" if batch.ttl else text
