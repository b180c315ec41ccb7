"""Decisions on requests: the batch that each operation makes of a batch, or the reason why nothing changes.

Pure. A decision says in one sentence what stands now; asking for what already holds is success.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from service.domain.errors import UsageError
from service.domain.model import (
    Batch,
    BatchBudgets,
    BatchView,
    EventKind,
    Hold,
    HoldReason,
    Json,
    State,
    Tolerance,
    Work,
    WorkKind,
    iso_time,
)
from service.domain.operation_requests import DEFAULT_GRACE_S, OperationRequest
from service.domain.tolerance import ToleranceError, parse_tolerance, tolerance_text
from service.steering.approval.gates import sealed_at_sample, sealed_whole
from service.steering.budgets.limits import changes_budget, describe_budget, is_over, raised, with_limits

OPEN = frozenset({State.SPLITTING, State.RUNNING, State.PAUSED})
"""States in which rows are still sent or served."""

LIFTED_BY_RESUME = frozenset({HoldReason.USER, HoldReason.FAILURES, HoldReason.TARGET})
"""Holds that `resume` ends. Others need a decision of their own."""


@dataclass(frozen=True, slots=True)
class News:
    """An event of a change. `detail` tells events of one kind apart; `status` has keys of its status."""

    kind: EventKind
    detail: str
    status: Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class Decision:
    """The batch as it is to be, None if nothing changes, and a sentence on it. `facts` are for `--json`.

    `news` is told to others beside what the change itself says.
    """

    text: str
    after: Batch | None = None
    facts: Mapping[str, Json] = field(default_factory=dict)
    news: News | None = None


Decide = Callable[[BatchView, OperationRequest, int], Decision]
"""Decides on a request at a time in milliseconds since 1970. Raises UsageError if it is refused."""


def open_state(batch: Batch) -> State:
    """The state of a batch without holds whose rows are not all done."""
    return State.SPLITTING if batch.total is None else State.RUNNING


def pause(view: BatchView, request: OperationRequest, now_ms: int) -> Decision:
    """Hold the batch for its user. With `now`, calls under way are cut."""
    batch, is_now = view.batch, bool(request.args.get("now"))
    _require_open(view, "paused")
    _require_not_cancelled(batch)
    held = batch.hold(HoldReason.USER)
    if held is not None and (not is_now or held.detail.get("now")):
        return Decision(f"{batch.batch_id} was paused by {held.by} at {held.at}")
    detail: dict[str, Json] = {"now": True} if is_now else {}
    hold = Hold(HoldReason.USER, request.by, iso_time(now_ms), detail)
    others = tuple(other for other in batch.holds if other.reason != HoldReason.USER)
    ends = "no row is mapped anew" if batch.is_remap else "no call begins"
    return Decision(
        f"{batch.batch_id} is paused: {ends} later than in 10 s; `rowfleet resume {batch.batch_id}` "
        "goes on with it",
        replace(batch, state=State.PAUSED, holds=(*others, hold)),
    )


def hold_batch(batch: Batch, hold: Hold) -> Batch:
    """The batch with one more hold; one with the same reason stays. A cancelled batch is not held."""
    if batch.hold(hold.reason) is not None or batch.cancelled_at:
        return batch
    return replace(batch, state=State.PAUSED, holds=(*batch.holds, hold))


def resume(view: BatchView, request: OperationRequest, now_ms: int) -> Decision:
    """End the holds that a resume ends. If none is left, all rows without an outcome are sent again.

    The hold of a budget ends if the budget, which the request may raise, has room again.
    """
    batch = view.batch
    _require_open(view, "resumed")
    if batch.state is not State.PAUSED:
        if changes_budget(request.args):
            raise UsageError(f"{batch.batch_id} is {batch.state}: `rowfleet set` changes its budget")
        return Decision(f"{batch.batch_id} is {batch.state}: there is nothing to resume")
    batch = raised(view, request.args)
    if batch.hold(HoldReason.FAILURES) is not None:
        # Its user goes on in spite of the failures so far; only later ones hold it again.
        batch = replace(batch, judged_round=batch.round, forgiven=view.counts)
    left = tuple(hold for hold in batch.holds if not _ends(hold, batch, now_ms))
    if left and left == batch.holds:
        remedy = f"; `rowfleet approve {batch.batch_id}` goes on" if batch.hold(HoldReason.APPROVAL) else ""
        raise UsageError(f"batch {batch.batch_id} is held: {'; '.join(map(describe_hold, left))}{remedy}")
    if left:
        return Decision(
            f"{batch.batch_id} is still held: {'; '.join(map(describe_hold, left))}",
            replace(batch, holds=left),
        )
    return Decision(f"{batch.batch_id} goes on", restarted(replace(batch, holds=())))


def _ends(hold: Hold, batch: Batch, now_ms: int) -> bool:
    """True if a resume ends the hold of the batch, whose budget is the present one."""
    if hold.reason == HoldReason.BUDGET:
        return is_over(hold, batch, now_ms)
    return hold.reason in LIFTED_BY_RESUME


def without_hold(batch: Batch, reason: HoldReason) -> Batch:
    """The batch without its hold of that reason; if it has no other, it goes on as after a resume."""
    left = tuple(hold for hold in batch.holds if hold.reason != reason)
    after = replace(batch, holds=left)
    return after if left else restarted(after)


def restarted(batch: Batch) -> Batch:
    """The batch with a new generation of row messages, which are still to be sent; a remap has none."""
    kind = WorkKind.REMAP if batch.is_remap else WorkKind.SEND
    return replace(
        batch,
        state=open_state(batch),
        generation=batch.generation + 1,
        work=Work(kind, batch.control + 1),
    )


def cancel(view: BatchView, request: OperationRequest, now_ms: int) -> Decision:
    """End the batch: rows without an outcome are FAILED as cancelled, and the results are written.

    In a remap they keep the outcome that they have.
    """
    batch = view.batch
    if batch.state.is_final:
        return Decision(f"{batch.batch_id} had finished: it is {batch.state}")
    if batch.cancelled_at:
        return Decision(f"{batch.batch_id} was cancelled at {batch.cancelled_at}")
    if _is_written(view):
        raise UsageError(
            f"every row of {batch.batch_id} has an outcome and its results are being written: there is "
            "nothing left to cancel"
        )
    grace_s = request.args.get("grace")
    after = cancelled(batch, now_ms, grace_s=DEFAULT_GRACE_S if grace_s is None else grace_s)
    if batch.is_remap:
        return Decision(
            f"the remap of {batch.batch_id} is cancelled: rows that are not mapped anew keep their outcome",
            after,
        )
    return Decision(
        f"{batch.batch_id} is cancelled: no call begins later than in 10 s, those under way have "
        f"{after.grace_s} s; the results of what is done are written",
        after,
    )


def cancelled(batch: Batch, now_ms: int, *, grace_s: int, reason: str = "") -> Batch:
    """The batch as cancelled at `now_ms`. `reason`: "" if a user has cancelled it.

    The rows behind a closed gate were not read, unless its sample has lapsed: then they have to fail.
    """
    if batch.sample and batch.gate is not None:
        batch = sealed_whole(batch) if batch.gate.has_lapsed else sealed_at_sample(batch)
    return replace(
        batch,
        state=open_state(batch),
        holds=(),
        cancelled_at=iso_time(now_ms),
        cancel_reason=reason,
        grace_s=grace_s,
        work=Work(WorkKind.CANCEL, batch.control + 1),
    )


def change_settings(view: BatchView, request: OperationRequest, now_ms: int) -> Decision:
    """Change how the batch is served from now on."""
    batch, args = view.batch, request.args
    _require_open(view, "changed")
    _require_not_cancelled(batch)
    if batch.is_remap:
        raise UsageError(f"{batch.batch_id} is being remapped, which calls no agent: there is nothing to set")
    changes: dict[str, Any] = {
        name: args[name] for name in ("priority", "weight") if args.get(name) is not None
    }
    if "max_concurrency" in args:
        changes["max_concurrency"] = args["max_concurrency"] or None
    if args.get("deadline") is not None:
        changes["deadline_at"] = iso_time(now_ms + args["deadline"] * 1000)
    if args.get("tolerate"):
        changes["tolerate"] = _tolerance(args["tolerate"], batch)
    if changes_budget(args):
        changes["budgets"] = with_limits(view, args).budgets
    if not changes:
        raise UsageError(
            "nothing to set: give --max-concurrency, --priority, --weight, --deadline, --tolerate, "
            "--budget-usd, --budget-tokens or --max-calls"
        )
    after = replace(batch, **changes)
    shown = ", ".join(_describe_setting(name, value) for name, value in changes.items())
    if after == batch:
        return Decision(f"{batch.batch_id} has {shown} already")
    return Decision(f"{batch.batch_id} has {shown}; workers follow within 10 s", after)


def _tolerance(text: str, batch: Batch) -> Tolerance:
    """The tolerance of the batch with the parts that the text names. Raises UsageError."""
    try:
        return parse_tolerance(text, batch.tolerate)
    except ToleranceError as error:
        raise UsageError(f"--tolerate: {error}") from None


def _describe_setting(name: str, value: object) -> str:
    if isinstance(value, BatchBudgets):
        return describe_budget(value)
    label = {"max_concurrency": "max-concurrency", "deadline_at": "the deadline"}.get(name, name)
    if value is None:
        return f"the {label} of its mapping"
    return f"{label} {tolerance_text(value) if isinstance(value, Tolerance) else value}"


def finish(view: BatchView, _request: OperationRequest, _now_ms: int) -> Decision:
    """Have the results written again from the outcomes."""
    batch = view.batch
    text = f"the results of {batch.batch_id} are being written: `rowfleet watch {batch.batch_id}` follows it"
    if batch.state is State.AGGREGATING:
        return Decision(text, replace(batch, trouble=None))
    _check_finishable(view)
    return Decision(
        text,
        replace(
            batch,
            state=State.AGGREGATING,
            trouble=None,
            error="",
            finished_at="",
            settled=batch.settled or view.spending,
        ),
    )


def _check_finishable(view: BatchView) -> None:
    """Raise UsageError unless the batch has ended and every row has an outcome."""
    batch = view.batch
    if not batch.state.is_final:
        raise UsageError(
            f"batch {batch.batch_id} is {batch.state}: its results are written once every row has an outcome"
        )
    if batch.total is None:
        raise UsageError(
            f"batch {batch.batch_id} is {batch.state} and its source was not read to its end, so there are "
            "no results to write; start a new run"
        )
    if not view.has_all_rows:
        raise UsageError(
            f"batch {batch.batch_id} is {batch.state}, and {batch.total - view.all_counts.done:,} of its "
            f"{batch.total:,} rows have no outcome; start a new run"
        )


def _require_not_cancelled(batch: Batch) -> None:
    if batch.cancelled_at:
        raise UsageError(f"batch {batch.batch_id} was cancelled at {batch.cancelled_at}: it is ending")


def _require_open(view: BatchView, done: str) -> None:
    """Raise UsageError unless rows of the batch are still sent or served."""
    batch = view.batch
    if batch.state.is_final:
        has_failed_rows = batch.state in (State.COMPLETED_WITH_ERRORS, State.CANCELLED)
        remedy = (
            f"; `rowfleet redrive {batch.batch_id}` runs its failed rows again" if has_failed_rows else ""
        )
        raise UsageError(
            f"batch {batch.batch_id} has ended, it is {batch.state}: it cannot be {done}{remedy}"
        )
    if _is_written(view):
        raise UsageError(
            f"every row of {batch.batch_id} has an outcome and its results are being written: it cannot be "
            f"{done}"
        )


def _is_written(view: BatchView) -> bool:
    """True if the results of the batch are being written, or are about to be."""
    return view.batch.state is State.AGGREGATING or (view.batch.state is State.RUNNING and view.has_all_rows)


def describe_hold(hold: Hold) -> str:
    """A hold in words."""
    reason = hold.detail.get("reason")
    return f"{hold.reason} (by {hold.by} at {hold.at}" + (f": {reason}" if reason else "") + ")"


DECISIONS: dict[str, Decide] = {
    "pause": pause,
    "resume": resume,
    "cancel": cancel,
    "set": change_settings,
    "finish": finish,
}
"""The operations that are decided and done at once."""
