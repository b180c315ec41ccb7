"""Decisions on samples: approve, reject, and the hold that waits for either. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from service.domain.errors import UsageError
from service.domain.model import Batch, BatchView, Hold, HoldReason, Json, iso_time
from service.domain.operation_requests import DEFAULT_GRACE_S, OperationRequest
from service.steering.approval.gates import opened
from service.steering.budgets.limits import changes_budget, with_limits
from service.steering.decisions import (
    OPEN,
    Decide,
    Decision,
    cancelled,
    hold_batch,
    restarted,
)


def approve(view: BatchView, request: OperationRequest, now_ms: int) -> Decision:
    """Open the gate of a batch whose sample is done; without another hold the batch goes on.

    The request may state a budget, which counts what the sample has used.
    """
    batch, gate = view.batch, view.batch.gate
    if gate is None:
        raise UsageError(f"batch {batch.batch_id} has no sample to approve: it was started without --sample")
    _check_gate_id(batch, request)
    if gate.is_open:
        if changes_budget(request.args):
            raise UsageError(
                f"the sample of {batch.batch_id} was approved by {gate.opened_by} at {gate.opened_at}: "
                f"`rowfleet set {batch.batch_id}` changes its budget"
            )
        return Decision(
            f"the sample of {batch.batch_id} was approved by {gate.opened_by} at {gate.opened_at}"
        )
    _check_waits(view)
    if batch.hold(HoldReason.APPROVAL) is None:
        raise UsageError(not_ready(view))
    after = with_open_gate(with_limits(view, request.args), request.by, now_ms)
    text = f"the sample of {batch.batch_id} is approved"
    left = ", ".join(hold.reason for hold in after.holds)
    return Decision(f"{text}; it is still held ({left})" if left else f"{text}: it goes on", after)


def with_open_gate(batch: Batch, by: str, now_ms: int) -> Batch:
    """The batch with an open gate and without the hold for approval; if it has no other, it goes on."""
    left = tuple(hold for hold in batch.holds if hold.reason != HoldReason.APPROVAL)
    after = replace(opened(batch, by, iso_time(now_ms)), holds=left)
    return after if left else restarted(after)


def reject(view: BatchView, request: OperationRequest, now_ms: int) -> Decision:
    """Cancel a batch because of its sample."""
    batch, gate = view.batch, view.batch.gate
    if gate is None:
        raise UsageError(
            f"batch {batch.batch_id} has no sample to reject; `rowfleet cancel {batch.batch_id}` ends it"
        )
    _check_gate_id(batch, request)
    if batch.cancelled_at:
        return Decision(f"{batch.batch_id} was cancelled at {batch.cancelled_at}")
    if gate.is_open:
        raise UsageError(
            f"the sample of {batch.batch_id} was approved by {gate.opened_by} at {gate.opened_at}; "
            f"`rowfleet cancel {batch.batch_id}` ends it"
        )
    _check_waits(view)
    # Once the sample is done no call is under way.
    grace_s = DEFAULT_GRACE_S if batch.hold(HoldReason.APPROVAL) is None else 0
    reason = f"its sample was rejected by {request.by}"
    after = cancelled(batch, now_ms, grace_s=grace_s, reason=reason)
    return Decision(f"{batch.batch_id} is cancelled: {reason}; the results of the sample are written", after)


def not_ready(view: BatchView) -> str:
    """The reason why the sample of a batch cannot be approved yet."""
    batch, done = view.batch, view.all_counts.done
    assert batch.gate is not None
    return f"the sample of {batch.batch_id} is not ready: {done:,} of its {batch.gate.size:,} rows are done"


def held_for_approval(batch: Batch, by: str, now_ms: int, detail: Mapping[str, Json]) -> Batch:
    """The batch as held until its sample is approved."""
    return hold_batch(batch, Hold(HoldReason.APPROVAL, by, iso_time(now_ms), detail))


def _check_gate_id(batch: Batch, request: OperationRequest) -> None:
    """Raise UsageError if the request is about the gate of an earlier round."""
    asked = request.args.get("gate")
    if asked is not None and asked != batch.gate_id:
        raise UsageError(
            f"gate {asked} is not that of {batch.batch_id}, which is in round {batch.round} with the gate "
            f"{batch.gate_id}: look at the present sample first"
        )


def _check_waits(view: BatchView) -> None:
    """Raise UsageError unless rows of the batch can still be let through."""
    batch = view.batch
    if batch.state not in OPEN:
        raise UsageError(f"batch {batch.batch_id} is {batch.state}: its sample can no longer be decided on")
    if batch.cancelled_at:
        raise UsageError(f"batch {batch.batch_id} was cancelled at {batch.cancelled_at}: it is ending")


DECISIONS_ON_SAMPLES: dict[str, Decide] = {"approve": approve, "reject": reject}
