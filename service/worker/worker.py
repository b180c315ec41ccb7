"""Worker: a row message becomes an invocation, an outcome, and a settled row (steps 4 to 7).

Every row ends with one outcome, SUCCESS or FAILED. The class of an error decides whether the row is tried
again (`errors`). The worker does not know how an agent is reached or how outcomes are stored.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace
from functools import partial

import structlog

from service.batch.commits.commit_group import Patience
from service.batch.commits.group_commit import GroupCommitter
from service.batch.large_rows import ClaimCheck
from service.batch.outages import OutageBoard
from service.batch.outcomes import LastAttempt
from service.batch.reuse_records import CachedReply, request_key_of
from service.batch.role_ports import Ports
from service.batch.row_checks import (
    check_round,
    has_outcome,
    highest_sendable_row,
    is_of_batch,
    is_superseded,
)
from service.domain.deadlines import deadline_of
from service.domain.errors import (
    AnswerPendingError,
    MappingTooNewError,
    PoisonMessageError,
    RowDroppedError,
    RowRejectedError,
    SourceError,
    WorkerLostError,
)
from service.domain.messages import RowMessage, failure_note
from service.domain.model import (
    NOTHING_SPENT,
    Batch,
    BatchView,
    Outcome,
    Spending,
    State,
    iso_time,
    row_id,
)
from service.domain.ports import OutgoingMessage
from service.runtime.delivery import Delivery
from service.runtime.sender import BatchingSender
from service.steering.cancellation import cancelled_error
from service.worker.attempts import AttemptLimits, Attempts, CallGuards
from service.worker.batch_cache import BatchCache, CachedBatch
from service.worker.budgets.budgets import Budgets
from service.worker.first_outcomes import FirstOutcomes
from service.worker.kept_outcomes import HeldMessage, keep_outcome
from service.worker.quarantine import Quarantine
from service.worker.reuse import RequestCoalescer
from service.worker.row_task import Bill, Requeue, RowTask, input_of
from service.worker.steering import takes
from service.worker.targets import OpenTarget
from service.worker.trial_calls import TrialCalls

log = structlog.get_logger(__name__)

QUARANTINE_WAIT_S = 10.0
"""Mean delay before a row is redelivered that found the quarantine full."""

PENDING_REPLY_WAIT_S = 10.0
"""Mean delay before a row is redelivered while another row is still calling the agent for the same input."""

NEWER_WORKER_WAIT_S = 20.0
"""Mean delay before a row is redelivered whose mapping this worker is too old for."""


@dataclass(frozen=True, slots=True)
class WorkLimits(AttemptLimits):
    """Limits of a worker, beside those of its attempts.

    A row fails after `max_lost` lost deliveries; after half of them it has been a dead letter once. A
    quarantined row starts `quarantine_pause_s` late, so that rows received in the same poll have been
    requeued before it can crash the process.
    """

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
        budgets: Budgets,
        rng: random.Random,
    ) -> None:
        self._ports = ports
        self._requeued = BatchingSender(ports.queues.rows)
        self._batches = batches
        self._committer = committer
        self._claim_check = claim_check
        outages = OutageBoard(ports.table, ports.clock, limits.worker)
        self._first_outcomes = FirstOutcomes()
        self._trials = TrialCalls(ports, worker=limits.worker, rng=rng)
        guards = CallGuards(self._first_outcomes, self._trials, budgets)
        self._attempts = Attempts(
            limits, ports.clock, ports.metrics, outages, batches.current, guards, rng=rng
        )
        self._limits = limits
        self._rng = rng
        # of the one line that each row has: `log` is made anew whenever it is used
        self._log = log.bind()
        self._quarantine = Quarantine()
        self._coalescer = RequestCoalescer(ports.table, ports.clock, worker=limits.worker, rng=rng)

    async def handle(self, delivery: Delivery) -> None:
        """Process one row and return when it is settled or requeued. It needs a task of its own.

        Raises PoisonMessageError, LeaseLostError, RetryableError and AccessError; the consumer handles them.
        """
        row = RowMessage.decode(delivery.message.body)
        cached = await self._batches.get(row)
        if cached is None:
            raise PoisonMessageError(f"there is no batch {row.batch_id!r} in the table")
        # For all log lines of this task: each delivery has its own.
        structlog.contextvars.bind_contextvars(batch_id=row.batch_id, row_id=row_id(row.number))
        # Nothing is awaited between `get` and `use`, so that the target is open.
        with self._batches.use(cached.target):
            if not _should_process(row, cached.batch):
                return
            try:
                await self._handle(row, cached, delivery)
            except RowDroppedError as error:
                log.info("row_dropped", reason=str(error))

    async def _handle(self, row: RowMessage, cached: CachedBatch, delivery: Delivery) -> None:
        """Process a row that its batch takes."""
        batch, target = cached.batch, cached.target
        delay_s = self._delay_if_full(row, batch, target, delivery)
        if delay_s is not None:
            await self._requeue(row, delay_s)
            return
        # A message received or sent before may be of a row whose worker crashed after the commit.
        now = self._ports.clock.monotonic()
        may_be_committed = delivery.message.receives > 1 or cached.may_be_repeat(row, now)
        if may_be_committed and await has_outcome(self._ports.table, batch, row):
            self._ports.metrics.count("rows_skipped")
            log.info("row_was_committed", receives=delivery.message.receives, replay=row.replay)
            delivery.release_slot()
            await self._commit(row, batch, None, HeldMessage(delivery))
            return
        if delivery.message.receives > 1:
            row = replace(row, lost_deliveries=row.lost_deliveries + delivery.message.receives - 1)
        if target is not None:
            await self._process(row, batch, target, delivery)
            return
        assert cached.too_new, "a batch that takes rows has a target, or needs a newer worker"
        error = MappingTooNewError(cached.too_new, retry_after_s=NEWER_WORKER_WAIT_S)
        left_s = deadline_of(batch, row.deadline_ms).left_s(self._ports.clock.now_ms())
        again = replace(row, last_failure=row.last_failure or failure_note(error))
        await self._requeue(again, self._attempts.requeue_delay_s(error, left_s))

    def _delay_if_full(
        self, row: RowMessage, batch: Batch, target: OpenTarget | None, delivery: Delivery
    ) -> int | None:
        """Delay for requeueing the row without reading its outcome, or None to process it.

        While a target is full, its rows come back again and again: this saves a read of the table each time.
        """
        # A row with lost deliveries may be the batch's last, already committed: it must not wait for its
        # completion check. A row with `reuse` may find the reply of another row by now.
        is_plain = row.replay and not row.lost_deliveries and delivery.message.receives == 1
        if target is None or not is_plain or batch.cancelled_at or target.mapping.reuse is not None:
            return None
        left_s = deadline_of(batch, row.deadline_ms).left_s(self._ports.clock.now_ms())
        if left_s <= 0:
            return None
        error = target.gate.rejection_for(batch)
        return None if error is None else self._attempts.requeue_delay_s(error, left_s)

    async def _process(self, row: RowMessage, batch: Batch, target: OpenTarget, delivery: Delivery) -> None:
        """Process the row until it is committed or requeued, in quarantine if it has lost many deliveries."""
        if not self._needs_quarantine(row):
            await self._process_admitted(row, batch, target, delivery)
            return
        # With more lost deliveries than a dead letter has, the row's worker crashed in quarantine as well.
        alone = row.lost_deliveries > self._limits.max_lost // 2
        with self._quarantine.admit(alone=alone) as is_admitted:
            if not is_admitted:
                await self._requeue(row, self._spread_s(QUARANTINE_WAIT_S))
                return
            await self._ports.clock.sleep(self._limits.quarantine_pause_s)
            await self._process_admitted(row, batch, target, delivery)

    def _needs_quarantine(self, row: RowMessage) -> bool:
        """True if the row was a dead letter, or would be one if it had never been requeued."""
        return self._limits.max_lost // 2 <= row.lost_deliveries < self._limits.max_lost

    async def _process_admitted(
        self, row: RowMessage, batch: Batch, target: OpenTarget, delivery: Delivery
    ) -> None:
        bill = Bill()
        try:
            result = await self._outcome_of(row, batch, target, delivery, bill)
            if isinstance(result, Requeue):
                await self._requeue(result.message, result.delay_s)
                return
            delivery.release_slot()
            with (
                keep_outcome(target.gate.backlog, delivery, self._ports.metrics) as patience,
                self._first_outcomes.pending(batch, result) as pending,
            ):
                pending.committed(await self._commit(row, batch, result, patience, bill.take()))
        finally:
            # Calls that gave the row no outcome here were made all the same.
            self._committer.count_spending(batch, bill.take())
        await self._trials.committed(batch, row)

    async def _commit(
        self,
        row: RowMessage,
        batch: Batch,
        outcome: Outcome | None,
        patience: Patience,
        spent: Spending = NOTHING_SPENT,
    ) -> BatchView | None:
        """Commit the outcome and check the batch, which is returned; without an outcome only check.

        `spent`: the calls that were made for the row. An outcome that cannot be stored makes the row FAILED.
        """
        started_at = self._ports.clock.monotonic()
        try:
            view = await self._committer.commit(batch, row.number, outcome, patience, spent)
        except RowRejectedError as error:
            if outcome is None:
                raise
            attempt = self._last_attempt(row, batch, outcome.attempts, outcome.execution_time_ms)
            failed = attempt.failed(error, outcome.reply)
            # The cells come from the outcome: the message of a large row has none. If the table refuses them
            # too, the row counts without them.
            candidates = [replace(failed, input_data=outcome.input_data), replace(failed, input_data={})]
            outcome, view = await self._committer.commit_first(batch, candidates, patience)
        self._batches.refresh(view, started_at)
        if outcome is not None:
            self._log_settled(outcome)
        return view

    async def _outcome_of(
        self, row: RowMessage, batch: Batch, target: OpenTarget, delivery: Delivery, bill: Bill
    ) -> Outcome | Requeue:
        """Build the agent's input and get the row's outcome; FAILED if there is no input."""
        row_with_cells = row
        try:
            row_with_cells = await self._claim_check.redeem(batch, row)
            if batch.cancelled_at:
                raise cancelled_error(batch)
            if row_with_cells.lost_deliveries >= self._limits.max_lost:
                raise WorkerLostError.after(row_with_cells.lost_deliveries)
            body = input_of(target.mapping, batch.columns, row_with_cells.cells, row_with_cells.defect)
        except (RowRejectedError, SourceError) as error:
            return self._last_attempt(row_with_cells, batch, row.attempt).failed(error)
        if row.span is not None:
            delivery.report_bytes(row.span.length)
        task = RowTask(
            message=row, row_with_cells=row_with_cells, batch=batch, target=target, body=body, bill=bill
        )
        return await self._invoke_or_reuse(task, delivery)

    async def _invoke_or_reuse(self, task: RowTask, delivery: Delivery) -> Outcome | Requeue:
        """The outcome by an invocation, or with `reuse` by the reply to another row with the same input."""
        invoke = partial(self._attempts.run, task, delivery)
        request_key = request_key_of(task.batch, task.message.number, task.target.mapping, task.body)
        left_s = self._left_s(task)
        if request_key is None or left_s <= 0:
            return await invoke()
        try:
            # Keep the consumer slot until the row really waits: it is likely to need a target slot next, and
            # another message fetched in its place would compete for that.
            result = await self._coalescer.get_or_ask(
                request_key, invoke, patience_s=left_s, on_wait=delivery.release_slot
            )
        except AnswerPendingError as error:
            if not task.message.last_failure:
                task.message = replace(task.message, last_failure=failure_note(error))
            if self._left_s(task) <= 0:
                return await invoke()
            return Requeue(task.to_requeue(), self._spread_s(PENDING_REPLY_WAIT_S))
        if isinstance(result, CachedReply):
            attempt = self._last_attempt(task.row_with_cells, task.batch, task.message.attempt)
            outcome = attempt.reused(result, request_key.row)
            if not outcome.reused_from:
                # Its worker crashed after the call: whether that was counted is not known.
                task.bill.add(result.spent)
            return outcome
        return result

    async def _requeue(self, row: RowMessage, delay_s: int) -> None:
        """Send the row again with a delay. Its present message is deleted when the handler returns.

        The new message carries `lost_deliveries`, so a row that keeps crashing workers reaches its limit even
        if it is requeued in between. If this process crashes before the old message is deleted, the row has
        two messages: `replay` makes the second reader look for an outcome before calling the agent.
        """
        again = replace(row, replay=True)
        await self._requeued.send(OutgoingMessage(again.encode(), row.batch_id, delay_s))
        self._ports.metrics.count("rows_sent_again")
        log.debug("row_sent_again", attempt=row.attempt, delay_s=delay_s)

    def _last_attempt(self, row: RowMessage, batch: Batch, number: int, elapsed_ms: int = 0) -> LastAttempt:
        """Attempt `number` of the row, ending now; the agent took `elapsed_ms`, 0 if it was not called."""
        return LastAttempt(
            row=row,
            columns=batch.columns,
            number=number,
            elapsed_ms=elapsed_ms,
            timestamp=iso_time(self._ports.clock.now_ms()),
            worker=self._limits.worker,
        )

    def _left_s(self, task: RowTask) -> float:
        return task.deadline().left_s(self._ports.clock.now_ms())

    def _spread_s(self, mean_s: float) -> int:
        """Whole seconds around `mean_s`, so that rows requeued together do not come back together."""
        return math.ceil(self._rng.uniform(0.5, 1.5) * mean_s)

    def _log_settled(self, outcome: Outcome) -> None:
        """Log the canonical line of a row."""
        error = outcome.error
        reason = {"error": error.type, "class": error.failure_class, "reason": error.message} if error else {}
        reused = {"reused_from": outcome.reused_from} if outcome.reused_from else {}
        self._log.info(
            "row_settled", status=outcome.status, agent_ms=outcome.execution_time_ms,
            attempts=outcome.attempts, **reason, **reused,
        )  # fmt: skip


def _should_process(row: RowMessage, batch: Batch) -> bool:
    """True if the row is to be processed. Raises PoisonMessageError for a row that its batch cannot have.

    `batch` is fresh enough: `BatchCache` reloads a view that does not cover the row.
    """
    if not is_of_batch(row, batch):
        log.info("row_dropped", reason="it is of an earlier batch with this id")
        return False
    check_round(row, batch)
    if is_superseded(row, batch):
        # Before its number is looked at: a row of a random sample lies beyond all rows that are sent later.
        log.info(
            "row_dropped", state=batch.state, row_round=row.round, batch_round=batch.round,
            row_generation=row.generation, batch_generation=batch.generation,
        )  # fmt: skip
        return False
    most = highest_sendable_row(batch)
    if batch.total is not None and row.number > most:
        raise PoisonMessageError(f"row {row.number} of a batch of {most} rows")
    if batch.state is State.SPLITTING and row.number > most:
        raise PoisonMessageError(f"row {row.number} of a batch that is split up to row {most} at most")
    if not takes(batch, row):
        log.info("row_dropped", state=batch.state)
        return False
    return True
