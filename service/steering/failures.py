"""Tolerated failures: a batch whose rows fail too often is held or cancelled, as its tolerance says.

The failures are read off the counters with every completion check, so the numbers are exact and cost nothing.
Only if none of the first rows has succeeded are their outcomes read, once, to see if they share their cause:
that is a wrong mapping or a wrong address, and all other rows would fail alike.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import structlog

from service.batch.replies.kept_replies import KeptReplies
from service.batch.role_ports import Ports
from service.domain.errors import AccessError, BatchRejectedError, RetryableError, UsageError
from service.domain.model import (
    Batch,
    BatchView,
    Hold,
    HoldReason,
    Json,
    OnExceeded,
    Outcome,
    RowError,
    State,
    iso_time,
    ms_of,
)
from service.domain.operation_requests import DEFAULT_GRACE_S, OperationRequest
from service.domain.tolerance import JUDGED_CLASSES, excess, judged_failures
from service.domain.truncation import truncate
from service.mapping.extraction.reply_summary import reply_paths
from service.steering.decisions import Decision, cancelled, hold_batch
from service.steering.operate import ROWFLEET, decide_and_apply
from service.steering.void_holds import lift_void_holds

log = structlog.get_logger(__name__)

HOLD = "hold"
"""The operation that makes a hold; nobody asks for it."""

EXAMPLES = 5
"""Rows that a hold names."""

READ_ROWS = 2_000
"""Outcomes that are read to judge a later round, whose first outcomes lie among those of earlier ones."""

FEWEST_ROWS = 5
"""Outcomes with one cause that are evidence if the first of a later round were not all found."""

MAX_MESSAGE_CHARS = 500
MAX_ROUNDS = 1_000
"""Rounds that a process remembers as found to begin well."""


@dataclass(frozen=True, slots=True)
class _Finding:
    """The reason why a round is not to go on, and failed rows with their outcomes."""

    reason: str
    failed: Sequence[Outcome] = ()
    reply_keys: Sequence[str] = field(default=())

    def detail(self, view: BatchView) -> Mapping[str, Json]:
        """The facts of the hold."""
        detail: dict[str, Json] = {"reason": self.reason, "failed": view.counts.by_class}
        if self.failed and (error := self.failed[0].error) is not None:
            message = truncate(error.message, MAX_MESSAGE_CHARS)
            detail["error"] = {"type": error.type, "class": error.failure_class, "message": message}
            detail["rows"] = [outcome.number for outcome in self.failed[:EXAMPLES]]
        if self.reply_keys:
            detail["reply_keys"] = list(self.reply_keys)
        return detail


class FailureJudge:
    """Judges the failures of batches; one for each process, which remembers the rounds that began well."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self._replies = KeptReplies(ports)
        # By identity and round: the failures at which the first outcomes are read again, None for never.
        self._looked: OrderedDict[tuple[str, int], int | None] = OrderedDict()

    async def judge(self, view: BatchView) -> bool:
        """Hold or cancel the batch if more rows fail than are tolerated; True if it was changed.

        An error of the table is only logged: the next check judges again.
        """
        if not self._is_judged(view):
            return False
        try:
            finding = await self._find(view)
            return finding is not None and await self._stop(view, finding)
        except (RetryableError, AccessError, UsageError) as error:
            log.warning("failures_not_judged", batch_id=view.batch.batch_id, reason=str(error))
            return False

    async def release(self, view: BatchView) -> bool:
        """End holds for rows that are left, of a batch that has none; True if it was changed."""
        return await lift_void_holds(self._ports, view)

    def _is_judged(self, view: BatchView) -> bool:
        """True if failures can hold the batch at all."""
        batch = view.batch
        if batch.state not in (State.SPLITTING, State.RUNNING) or batch.cancelled_at or view.is_complete:
            return False
        # A remap costs nothing, and its user has seen which rows fail.
        if batch.is_remap:
            return False
        tolerate = batch.tolerate
        if tolerate.on_exceeded is OnExceeded.FINISH or not (tolerate.first or tolerate.limits):
            return False
        # Rows that fail because the time of the batch is up end as its user has asked for.
        return not batch.deadline_at or self._ports.clock.now_ms() < ms_of(batch.deadline_at)

    async def _find(self, view: BatchView) -> _Finding | None:
        if reason := excess(view):
            return await self._with_reply(view.batch, reason, await self._failed_rows(view.batch))
        if not self._may_begin_badly(view):
            return None
        outcomes = await self._first_outcomes(view.batch)
        if not self._have_one_cause(view, outcomes):
            return None
        error = outcomes[0].error
        assert error is not None
        reason = f"the first {len(outcomes)} rows all failed for the same cause: {error_text(error)}"
        return await self._with_reply(view.batch, reason, outcomes)

    # -- the first outcomes of a round

    def _may_begin_badly(self, view: BatchView) -> bool:
        """True if all outcomes so far are failures, and they have not been looked at yet."""
        batch, counts = view.batch, view.counts
        first, failed = batch.tolerate.first, judged_failures(counts)
        if not first or batch.judged_round == batch.round or counts.succeeded or failed < first:
            return False
        again_at = self._looked.get((batch.identity, batch.round), 0)
        return again_at is not None and failed >= again_at

    async def _first_outcomes(self, batch: Batch) -> list[Outcome]:
        """The failed outcomes of the round with the lowest numbers, as many as are judged."""
        first = batch.tolerate.first
        limit = first if batch.round == 1 else max(first, READ_ROWS // batch.partitions)
        pages = await asyncio.gather(
            *(
                self._ports.table.outcomes(batch, partition, after=0, limit=limit)
                for partition in range(batch.partitions)
            )
        )
        found = [outcome for page in pages for outcome in page.outcomes if _counts_in(outcome, batch)]
        return sorted(found, key=lambda outcome: outcome.number)[:first]

    def _have_one_cause(self, view: BatchView, outcomes: Sequence[Outcome]) -> bool:
        """True if there are enough outcomes, and all have one cause. Otherwise it is remembered."""
        batch = view.batch
        if len(outcomes) < min(batch.tolerate.first, FEWEST_ROWS):
            self._remember(batch, 2 * judged_failures(view.counts))
            return False
        if len({outcome.error.cause for outcome in outcomes if outcome.error}) > 1:
            self._remember(batch, None)
            return False
        return True

    def _remember(self, batch: Batch, again_at: int | None) -> None:
        self._looked[batch.identity, batch.round] = again_at
        if len(self._looked) > MAX_ROUNDS:
            self._looked.popitem(last=False)

    # -- the facts of a hold

    async def _failed_rows(self, batch: Batch) -> list[Outcome]:
        """Failed rows with the most frequent cause among a few. For examples, an index that lags will do."""
        pages = await asyncio.gather(
            *(
                self._ports.table.failed(batch, partition, after=0, limit=EXAMPLES)
                for partition in range(batch.partitions)
            )
        )
        found = [outcome for page in pages for outcome in page.outcomes if _counts_in(outcome, batch)]
        causes = Counter(outcome.error.cause for outcome in found if outcome.error)
        if not causes:
            return []
        most = causes.most_common(1)[0][0]
        same = [outcome for outcome in found if outcome.error and outcome.error.cause == most]
        return sorted(same, key=lambda outcome: outcome.number)

    async def _with_reply(self, batch: Batch, reason: str, failed: Sequence[Outcome]) -> _Finding:
        """The finding with the keys of a reply that the mapping could make nothing of."""
        for outcome in failed:
            # a reply that is gone must not keep the batch from being held
            with suppress(BatchRejectedError):
                if (reply := await self._replies.load(batch, outcome)) is not None:
                    return _Finding(reason, failed, reply_paths(reply.text))
        return _Finding(reason, failed)

    # -- the operation

    async def _stop(self, view: BatchView, finding: _Finding) -> bool:
        """Hold or cancel the batch, unless it has been changed since it was judged."""
        judged = view.batch
        is_cancel = judged.tolerate.on_exceeded is OnExceeded.CANCEL
        # Each process that sees the excess makes the same request, so it is carried out once.
        request_id = f"failures-{judged.round}-{judged.control}"
        grace: dict[str, Json] = {"grace": DEFAULT_GRACE_S} if is_cancel else {}
        args = {"reason": finding.reason} | grace
        op = "cancel" if is_cancel else HOLD
        request = OperationRequest(op, judged.batch_id, request_id, ROWFLEET, args)

        def decide(now: BatchView, request: OperationRequest, now_ms: int) -> Decision:
            batch = now.batch
            is_same = (batch.identity, batch.control) == (judged.identity, judged.control)
            # It may have failed or been completed meanwhile, which are no operations.
            if not (is_same and self._is_judged(now)):
                return Decision("the batch has changed since its failures were counted")
            detail = finding.detail(view)
            if is_cancel:
                after = cancelled(batch, now_ms, grace_s=DEFAULT_GRACE_S, reason=finding.reason)
            else:
                hold = Hold(HoldReason.FAILURES, request.by, iso_time(now_ms), detail)
                after = hold_batch(batch, hold)
            return Decision(finding.reason, after, detail)

        operation = await decide_and_apply(self._ports, request, decide)
        if operation.control:
            log.warning("failures_exceeded", batch_id=judged.batch_id, op=operation.op, reason=finding.reason)
        return bool(operation.control)


def error_text(error: RowError) -> str:
    """The error of a row in a sentence on several rows."""
    return f"{error.type} ({error.failure_class}): {truncate(error.message, MAX_MESSAGE_CHARS)}"


def _counts_in(outcome: Outcome, batch: Batch) -> bool:
    """True for a failure of the batch's round that counts."""
    error = outcome.error
    return outcome.round == batch.round and error is not None and error.failure_class in JUDGED_CLASSES
