"""Working: a row message becomes an invocation, an outcome, and a settled row (steps 4 to 7).

Every row ends as one outcome, SUCCESS or FAILED; what is retried and what is not is decided by the class of
the error (`errors`). Nothing here knows how an agent is reached or how outcomes are stored.
"""

from __future__ import annotations

import math
import random
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial

import structlog

from service.batch.group_commit import GroupCommitter
from service.batch.large_rows import ClaimCheck
from service.batch.outcomes import LastAttempt
from service.batch.ports import Ports
from service.batch.reuse_records import CachedReply, request_key_of
from service.domain.deadlines import deadline_of
from service.domain.errors import (
    AnswerPendingError,
    BadRecordError,
    PoisonMessageError,
    RowRejectedError,
    SourceError,
    WorkerLostError,
)
from service.domain.messages import RowMessage
from service.domain.model import Batch, Outcome, State, iso_time, row_id
from service.domain.ports import OutgoingMessage
from service.runtime.delivery import Delivery
from service.runtime.sender import BatchingSender
from service.worker.admission.outages import OutageBoard
from service.worker.attempts import GRACE_S, AttemptLimits, Attempts, Requeue, RowTask
from service.worker.batch_cache import BatchCache, CachedBatch, OpenTarget
from service.worker.quarantine import Quarantine
from service.worker.reuse import RequestCoalescer

log = structlog.get_logger(__name__)

QUARANTINE_WAIT_S = 10.0
"""About how long a row whose workers died waits where the lane is full."""

ANSWER_WAIT_S = 10.0
"""About how long a row is away whose answer another row still waits for."""

TAKES_ROWS = frozenset({State.SPLITTING, State.RUNNING})


@dataclass(frozen=True, slots=True)
class WorkLimits:
    """`worker` names this process in outcomes; `inline_wait_s` and `grace_s` are those of `AttemptLimits`.

    A row that lost `max_lost` deliveries to dead workers fails; half of them are what makes it a dead letter
    first. A quarantined row starts `quarantine_pause_s` late, so that rows received in the same poll have
    been requeued before it can crash the process.
    """

    worker: str
    inline_wait_s: float = 5.0
    grace_s: float = GRACE_S
    max_lost: int = 10
    quarantine_pause_s: float = 1.0


class Worker:
    """Handles row messages. `rng` spreads waits; seeded in tests."""

    def __init__(
        self,
        ports: Ports,
        batches: BatchCache,
        committer: GroupCommitter,
        claim_check: ClaimCheck,
        limits: WorkLimits,
        *,
        rng: random.Random,
    ) -> None:
        self._ports = ports
        self._again = BatchingSender(ports.queues.rows)
        self._batches = batches
        self._committer = committer
        self._claim_check = claim_check
        self._attempts = Attempts(
            AttemptLimits(limits.worker, limits.inline_wait_s, limits.grace_s),
            ports.clock,
            ports.metrics,
            OutageBoard(ports.table, ports.clock, limits.worker),
            rng=rng,
        )
        self._limits = limits
        self._rng = rng
        self._quarantine = Quarantine()
        self._answers = RequestCoalescer(ports.table, ports.clock, worker=limits.worker, rng=rng)

    async def handle(self, delivery: Delivery) -> None:
        """Process one row and return when it is settled. Raises what `consume` understands."""
        row = RowMessage.decode(delivery.message.body)
        run = await self._batches.get(row.batch_id, row.round, row.number)
        if run is None:
            raise PoisonMessageError(f"there is no batch {row.batch_id!r} in the table")
        with structlog.contextvars.bound_contextvars(batch_id=row.batch_id, row_id=row_id(row.number)):
            if not _concerns(row, run.batch):
                return
            if (away_s := self._away_again_s(row, run, delivery)) is not None:
                await self._send_again(row, away_s)
                return
            suspect = row.replay or delivery.message.receives > 1
            if suspect and await self._is_committed(run.batch, row):
                self._ports.metrics.count("rows_skipped")
                log.info("row_was_committed", receives=delivery.message.receives, replay=row.replay)
                delivery.release_slot()
                await self._settle(row, run, None)
            elif run.target is not None:
                await self._work(row, run, run.target, delivery)

    def _away_again_s(self, row: RowMessage, run: CachedBatch, delivery: Delivery) -> int | None:
        """For how long a row that was sent again is away again, its target being full; None where it is not.

        Before anything is read for it: the rows of a target that stands still come again and again. It is
        looked up when there is room for it. One whose worker died is looked up at once, since it may be
        its batch's last; so is one that may have got another row's answer by now.
        """
        target = run.target
        is_plain = row.replay and not row.lost_deliveries and delivery.message.receives == 1
        if not is_plain or target is None or target.mapping.reuse is not None:
            return None
        left_s = deadline_of(run.batch, row.deadline_ms).left_s(self._ports.clock.now_ms())
        full = target.gate.rejection(run.batch) if left_s > 0 else None
        return None if full is None else self._attempts.away_s(full, left_s)

    async def _work(self, row: RowMessage, run: CachedBatch, target: OpenTarget, delivery: Delivery) -> None:
        """Process and settle; a row whose workers died, in the lane, until it is committed."""
        row = replace(row, lost_deliveries=row.lost_deliveries + delivery.message.receives - 1)
        with self._place_for(row) as has_place:
            if has_place:
                if self._is_for_lane(row):
                    await self._ports.clock.sleep(self._limits.quarantine_pause_s)
                outcome = await self._process(row, run, target, delivery)
                if outcome is not None:
                    delivery.release_slot()
                    await self._settle(row, run, outcome)
                return
        await self._send_again(row, math.ceil(self._rng.uniform(0.5, 1.5) * QUARANTINE_WAIT_S))

    def _place_for(self, row: RowMessage) -> AbstractContextManager[bool]:
        if not self._is_for_lane(row):
            return nullcontext(True)
        return self._quarantine.admit(alone=row.lost_deliveries > self._limits.max_lost // 2)

    def _is_for_lane(self, row: RowMessage) -> bool:
        """Whether it was a dead letter, or would be one had it never been sent again."""
        return self._limits.max_lost // 2 <= row.lost_deliveries < self._limits.max_lost

    async def _is_committed(self, batch: Batch, row: RowMessage) -> bool:
        outcome = await self._ports.table.outcome(batch, row.number)
        return outcome is not None and outcome.round >= row.round

    async def _settle(self, row: RowMessage, run: CachedBatch, outcome: Outcome | None) -> None:
        """Commit and check. An outcome that cannot be stored is one more way to fail."""
        try:
            view = await self._committer.commit(run.batch, row.number, outcome)
        except RowRejectedError as error:
            if outcome is None:
                raise
            attempt = replace(self._attempt(row, run, outcome.attempts), elapsed_ms=outcome.execution_time_ms)
            outcome = attempt.failed(error)
            view = await self._committer.commit(run.batch, row.number, outcome)
        self._batches.refresh(view)
        if outcome is not None:
            self._report(outcome)

    async def _process(
        self, row: RowMessage, run: CachedBatch, target: OpenTarget, delivery: Delivery
    ) -> Outcome | None:
        """The row's outcome, or None where it was re-sent to be tried later."""
        whole = row
        try:
            whole = await self._claim_check.redeem(run.batch, row)
            if whole.lost_deliveries >= self._limits.max_lost:
                raise WorkerLostError.after(whole.lost_deliveries)
            if whole.defect:
                raise BadRecordError(whole.defect)
            body = target.mapping.build_input(run.batch.columns, whole.cells)
        except (RowRejectedError, SourceError) as error:
            return self._attempt(whole, run, row.attempt).failed(error)
        if row.span is not None:
            delivery.report_bytes(row.span.length)
        ended = await self._ended(RowTask(row, whole, run, target, body), delivery)
        if isinstance(ended, Requeue):
            await self._send_again(ended.message, ended.delay_s)
            return None
        return ended

    async def _ended(self, task: RowTask, delivery: Delivery) -> Outcome | Requeue:
        """What its agent makes of it, or another row's answer, which is waited for without a place."""
        row, run, deadline = task.whole, task.run, task.deadline()
        ask = partial(self._attempts.run, task, delivery)
        question = request_key_of(run.batch, row.number, task.target.mapping, task.body)
        left_s = deadline.left_s(self._ports.clock.now_ms())
        if question is None or left_s <= 0:
            return await ask()
        try:
            # Until it waits its place is taken: nobody else is fetched for the place that it is about to need
            found = await self._answers.get_or_ask(
                question, ask, patience_s=left_s, on_wait=delivery.release_slot
            )
        except AnswerPendingError:
            if deadline.left_s(self._ports.clock.now_ms()) <= 0:
                return await ask()
            return Requeue(task.message, math.ceil(self._rng.uniform(0.5, 1.5) * ANSWER_WAIT_S))
        if isinstance(found, CachedReply):
            return self._attempt(row, run, task.message.attempt).reused(found, question.row)
        return found

    async def _send_again(self, row: RowMessage, delay_s: int) -> None:
        """Put the row, as it is to be tried next, back with a delay; its present message is then deleted.

        What it has lost goes with it: one that kills its workers, and is turned away in between, ends too.
        Where it is not, since this process dies first, the row has two messages: marked as such, so that who
        comes second looks before the agent is paid.
        """
        again = replace(row, replay=True)
        await self._again.send(OutgoingMessage(again.encode(), row.batch_id, delay_s))
        self._ports.metrics.count("rows_sent_again")
        log.debug("row_sent_again", attempt=row.attempt, delay_s=delay_s)

    def _attempt(self, row: RowMessage, run: CachedBatch, number: int) -> LastAttempt:
        """An attempt that ends now, without the agent."""
        return LastAttempt(
            row=row,
            columns=run.batch.columns,
            number=number,
            elapsed_ms=0,
            timestamp=iso_time(self._ports.clock.now_ms()),
            worker=self._limits.worker,
        )

    def _report(self, outcome: Outcome) -> None:
        """The canonical line of a row."""
        error = outcome.error
        reason = {"error": error.type, "class": error.failure_class, "reason": error.message} if error else {}
        reused = {"reused_from": outcome.reused_from} if outcome.reused_from else {}
        log.info(
            "row_settled", status=outcome.status, agent_ms=outcome.execution_time_ms,
            attempts=outcome.attempts, **reason, **reused,
        )  # fmt: skip


def _concerns(row: RowMessage, batch: Batch) -> bool:
    """Whether the row is still to be processed. Raises PoisonMessageError for an impossible one.

    `BatchCache` has read the batch after this row arrived, unless what it knew was enough.
    """
    if row.round > batch.round:
        raise PoisonMessageError(f"round {row.round} of a batch whose round is {batch.round}")
    if batch.total is not None and row.number > batch.total:
        raise PoisonMessageError(f"row {row.number} of a batch of {batch.total} rows")
    if batch.state is State.SPLITTING and row.number > batch.checkpoint.rows + batch.window:
        known = batch.checkpoint.rows + batch.window
        raise PoisonMessageError(f"row {row.number} of a batch that is split up to row {known} at most")
    if row.round < batch.round or batch.state not in TAKES_ROWS:
        log.info("row_dropped", row_round=row.round, batch_round=batch.round, state=batch.state)
        return False
    return True
