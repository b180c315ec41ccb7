"""Step 10 of the protocol: the dead-letter queues are drained.

There is one handler for each dead-letter queue. A letter that a handler understands ends its row or batch, or
gives it another chance, and is deleted. A letter that no handler can act on stays in its queue, where an
operator sees it (`rowfleet dead-letters`): `drain` has the loop.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import structlog

from service.batch.commits.group_commit import GroupCommitter
from service.batch.completion import Completion
from service.batch.ending import (
    GIVE_UP_AFTER_S,
    fail_batch,
    give_up_at_ms,
    given_up,
    postpone_results,
    send_trigger,
)
from service.batch.job_checks import is_own_job, refusal
from service.batch.role_ports import Ports
from service.batch.row_checks import has_outcome, is_of_batch, is_superseded
from service.domain.errors import PoisonMessageError, WorkerLostError
from service.domain.events import decode_ingest
from service.domain.jobs import Job
from service.domain.model import Batch, State, batch_id, ms_of, row_id
from service.domain.operation_requests import OperationRequest, WorkRequest
from service.domain.ports import MAX_DELAY_S, OutgoingMessage, ReceivedMessage
from service.recovery.recovery import Recovery
from service.runtime.delivery import Delivery
from service.runtime.sender import send_all
from service.steering.operate import carry_out, follow_up
from service.steering.rounds import opens_round
from service.sweeper.letters import retry_of, row_letter, trigger_letter

log = structlog.get_logger(__name__)


RESEND_INTERVAL_S = 1.0
"""Pause between dead rows that are sent again. A row that crashes its worker harms those received with it."""


@dataclass(frozen=True, slots=True)
class DeadLetterLimits:
    """The deliveries that each queue allows before a message is dead, and times in seconds.

    A batch that moved within `stuck_after_s` is being worked on. Results that cannot be written are tried
    again after `stuck_after_s` and more, until `give_up_after_s` after the last row was done.
    """

    ingest_receives: int = 5
    rows_receives: int = 5
    aggregate_receives: int = 5
    stuck_after_s: float = 300.0
    give_up_after_s: float = GIVE_UP_AFTER_S
    incoming_prefix: str = "incoming/"


class DeadLetters:
    """Handles the messages of the three dead-letter queues."""

    def __init__(
        self,
        ports: Ports,
        completion: Completion,
        committer: GroupCommitter,
        recovery: Recovery,
        limits: DeadLetterLimits,
    ) -> None:
        self._ports = ports
        self._completion = completion
        self._committer = committer
        self._recovery = recovery
        self._limits = limits
        self._next_resend_at = 0.0

    # -- rows ------------------------------------------------------------------------------------------

    async def row(self, delivery: Delivery) -> None:
        """Send a dead row again for its second chance, in quarantine, or commit it as FAILED after that.

        A row that has an outcome only has its batch checked. Raises the errors that `runtime.consumer`
        documents.
        """
        row, view = await row_letter(self._ports.table, delivery.message.body)
        batch = view.batch
        with structlog.contextvars.bound_contextvars(batch_id=row.batch_id, row_id=row_id(row.number)):
            if not is_of_batch(row, batch):
                self._drop("row", "it is of an earlier batch with this id")
                return
            is_over = batch.state.is_final or batch.state is State.PAUSED or batch.is_remap
            if is_superseded(row, batch) or is_over:
                self._drop("row", f"the batch is {batch.state} in round {batch.round}")
                return
            if await has_outcome(self._ports.table, batch, row):
                await self._committer.commit(batch, row.number, None)
                self._drop("row", "the row has an outcome")
                return
            if row.lost_deliveries < self._limits.rows_receives:
                again = replace(
                    row, replay=True, lost_deliveries=row.lost_deliveries + self._limits.rows_receives
                )
                await self._recovery.resend_row(again, self._resend_delay_s())
                log.warning("dead_row_sent_again", reason="its neighbours or an outage may be the cause")
                return
            lost = WorkerLostError.after(row.lost_deliveries + self._limits.rows_receives)
            await self._recovery.fail_row(batch, row, lost)
            self._ports.metrics.count("dead_rows_committed")
            log.warning("dead_row_committed", reason=str(lost))

    async def _operation(self, request: OperationRequest | WorkRequest, message: ReceivedMessage) -> None:
        """Carry out a request, or have work sent again that its batch still has."""
        if isinstance(request, OperationRequest) and opens_round(request):
            await self._send_request_again(request, message)
            return
        if isinstance(request, OperationRequest):
            await carry_out(self._ports, request, message.id)
            self._drop("job", "the operation is carried out, or refused for good")
            return
        view = await self._ports.table.read(request.batch_id)
        if view is not None and view.batch.work is not None:
            await follow_up(self._ports, view.batch)
        self._drop("job", "the work is asked for again if it is not done")

    async def _send_request_again(self, request: OperationRequest, message: ReceivedMessage) -> None:
        """Give a request that takes a pass over its batch another chance; it is carried out once."""
        if await self._ports.table.read(request.batch_id) is None:
            raise PoisonMessageError(f"there is no batch {request.batch_id!r} to {request.op}")
        again = replace(request, request_id=request.request_id or message.id)
        delay_s = min(MAX_DELAY_S, round(self._limits.stuck_after_s))
        await send_all(self._ports.queues.ingest, [OutgoingMessage(again.encode(), delay_s=delay_s)])
        self._ports.metrics.count("jobs_resent")
        log.warning("request_sent_again", op=request.op, batch_id=request.batch_id, again_in_s=delay_s)

    def _resend_delay_s(self) -> float:
        """Seconds until a dead row is delivered: one at a time, or they would meet in one worker."""
        now = self._ports.clock.monotonic()
        self._next_resend_at = max(now, self._next_resend_at) + RESEND_INTERVAL_S
        return (self._next_resend_at - RESEND_INTERVAL_S - now) % MAX_DELAY_S

    # -- jobs ------------------------------------------------------------------------------------------

    async def job(self, delivery: Delivery) -> None:
        """Send a dead ingest message again if a batch of it is missing; fail its batches that stand still.

        Raises as `row` does.
        """
        message = delivery.message
        ingest = decode_ingest(message.body, incoming_prefix=self._limits.incoming_prefix)
        if ingest.operation is not None:
            await self._operation(ingest.operation, message)
            return
        has_missing = False
        problem: PoisonMessageError | None = None
        for job in ingest.jobs:
            view = await self._ports.table.read(batch_id(job.mapping, job.execution_id_for(message.id)))
            if view is None:
                has_missing = True
                continue
            with structlog.contextvars.bound_contextvars(batch_id=view.batch.batch_id):
                try:
                    await self._end_job(job, view.batch, message.id)
                except PoisonMessageError as error:
                    # The batches of the message's other jobs end all the same.
                    problem = problem or error
        if has_missing:
            await self._send_job_again(message)
        elif problem is not None:
            raise problem
        elif not ingest.jobs:
            self._drop("job", "asks for no run")

    async def _send_job_again(self, message: ReceivedMessage) -> None:
        """Give a job whose batch was never stored another chance: the table was out of reach, for example.

        There is no limit: a file that was dropped during an outage of days is still run.
        """
        delay_s = min(MAX_DELAY_S, round(self._limits.stuck_after_s))
        again = replace(retry_of("ingest", message, self._limits.incoming_prefix), delay_s=delay_s)
        await send_all(self._ports.queues.ingest, [again])
        self._ports.metrics.count("jobs_resent")
        log.warning(
            "job_sent_again", message_id=message.id, again_in_s=delay_s,
            reason="its message is a dead letter, and its batch was never stored",
        )  # fmt: skip

    async def _end_job(self, job: Job, batch: Batch, message_id: str) -> None:
        if job.incarnation and job.incarnation != batch.incarnation:
            self._drop("job", "it was sent again for an earlier batch with this id")
            return
        # A job that was refused must not fail the batch of another.
        if not is_own_job(batch, job, message_id) and (reason := refusal(batch, job, job.source)):
            raise PoisonMessageError(reason)
        if batch.state is not State.SPLITTING:
            self._drop("job", f"the batch is {batch.state}")
            await self._completion.check(batch.batch_id)
        elif self._is_leased(batch) or self._moved_within(batch, self._limits.stuck_after_s):
            # Another message of this job is being handled. If it is lost, the sweeper sends the job again.
            self._drop("job", "the batch is being split")
        else:
            await self._fail(
                batch,
                f"the splitter gave up: the batch's message was delivered {self._limits.ingest_receives} "
                f"times, and the source was not read beyond row {batch.checkpoint.rows}",
            )

    # -- aggregations ----------------------------------------------------------------------------------

    async def aggregation(self, delivery: Delivery) -> None:
        """Send a dead trigger again, or fail the batch once its time is over. Raises as `row` does."""
        message, view = await trigger_letter(self._ports.table, delivery.message.body)
        batch = view.batch
        with structlog.contextvars.bound_contextvars(batch_id=message.batch_id):
            is_due = batch.state is State.AGGREGATING or (batch.state is State.RUNNING and view.is_complete)
            if not message.is_for(batch) or not is_due:
                self._drop("aggregation", f"the batch is {batch.state} in round {batch.round}")
            elif batch.state is State.AGGREGATING and self._is_leased(batch):
                self._drop("aggregation", "the results are being written")
            else:
                await self._postpone(batch)

    async def _postpone(self, batch: Batch) -> None:
        """Have the results of a dead trigger tried again, or fail the batch once its time is over."""
        limits = self._limits
        reason = f"the aggregator failed or died {limits.aggregate_receives} times in a row; its log says why"
        if self._ports.clock.now_ms() >= give_up_at_ms(batch, limits.give_up_after_s):
            await self._fail(batch, given_up(batch, reason))
            return
        if batch.state is State.AGGREGATING:
            await postpone_results(self._ports, batch, reason, least_s=limits.stuck_after_s)
        else:
            await send_trigger(self._ports, batch, delay_s=round(min(MAX_DELAY_S, limits.stuck_after_s)))
        self._ports.metrics.count("aggregations_resent")
        log.warning("aggregation_sent_again", reason="it is a dead letter")

    # -- helpers ---------------------------------------------------------------------------------------

    async def _fail(self, batch: Batch, problem: str) -> None:
        await fail_batch(self._ports, batch, problem, expected=[batch.state])

    def _is_leased(self, batch: Batch) -> bool:
        return batch.lease_until_ms > self._ports.clock.now_ms()

    def _moved_within(self, batch: Batch, seconds: float) -> bool:
        if not batch.updated_at:
            return False
        return self._ports.clock.now_ms() - ms_of(batch.updated_at) < seconds * 1000

    def _drop(self, kind: str, reason: str) -> None:
        self._ports.metrics.count("dead_messages_dropped")
        log.info("dead_message_dropped", kind=kind, reason=reason)
