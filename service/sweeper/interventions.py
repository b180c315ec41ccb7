"""The steps by which a sweeper moves a batch on. Each is safe to repeat."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog

from service.batch.completion import Completion
from service.batch.ending import send_trigger
from service.batch.lease import BatchLease
from service.batch.outages import OutageBoard
from service.batch.role_ports import Ports
from service.domain.deadlines import deadline_of
from service.domain.errors import RowRejectedError
from service.domain.jobs import Job
from service.domain.model import Batch, BatchView, State, WorkKind
from service.domain.ports import OutgoingMessage, Queue
from service.recovery.recovery import Recovery
from service.runtime.sender import send_all
from service.steering.cancellation import cancelled_error, work_due_ms
from service.steering.work import FleetWork
from service.sweeper.emptiness import EmptinessCheck
from service.sweeper.observations import Observation
from service.sweeper.sweep_limits import SweepLimits
from service.sweeper.target_watch import TargetWatch

log = structlog.get_logger(__name__)

MAX_DOUBLINGS = 5
"""Doublings of `resend_after_s` for a batch that does not move although its messages were sent again."""

LongWork = Callable[[BatchLease, BatchView], Awaitable[None]]
"""Work on a batch under its lease, which may take minutes."""


class Interventions:
    """Moves batches on. `left` returns the number of messages that the drain of a queue has left there."""

    def __init__(
        self,
        ports: Ports,
        completion: Completion,
        recovery: Recovery,
        work: FleetWork,
        limits: SweepLimits,
        *,
        left: Callable[[Queue], int],
    ) -> None:
        self._ports = ports
        queues = ports.queues
        self._jobs_queue = EmptinessCheck("ingest", queues.ingest, queues.dead_ingest, left)
        self._rows_queue = EmptinessCheck("rows", queues.rows, queues.dead_rows, left)
        self._completion = completion
        self._recovery = recovery
        self._work = work
        self._outages = OutageBoard(ports.table, ports.clock)
        self._limits = limits
        self.targets = TargetWatch(ports, recovery, limits)

    async def count_queues(self) -> None:
        """Learn which queues are empty; once for each sweep."""
        await self._jobs_queue.count()
        await self._rows_queue.count()

    def due_work(self, view: BatchView) -> LongWork | None:
        """The work that a RUNNING batch needs at once, however it moves; None if it needs none."""
        batch, now_ms = view.batch, self._ports.clock.now_ms()
        if batch.state is not State.RUNNING or view.is_complete:
            return None
        if batch.work is not None and batch.work.kind is WorkKind.CANCEL and now_ms >= work_due_ms(batch):
            return self._do_work
        return self._fail_overdue_rows if deadline_of(batch, None).left_s(now_ms) <= 0 else None

    def stuck_work(self, view: BatchView, observed: Observation, still_s: float) -> LongWork | None:
        """The work that a RUNNING batch needs that stood still for `still_s` seconds, if it is time."""
        batch = view.batch
        if batch.state is not State.RUNNING or view.is_complete:
            return None
        if batch.work is not None:
            return self._do_work
        is_due = self._rows_queue.is_empty or self._is_late(observed, still_s)
        return self._resend_rows if is_due else None

    async def move_on(self, view: BatchView, observed: Observation, still_s: float) -> bool:
        """Move a batch on by a message or a check. Return True if that was done."""
        match view.batch.state:
            case State.SPLITTING:
                return await self._resend_job(view.batch, is_late=self._is_late(observed, still_s))
            case State.RUNNING if view.is_complete:
                return await self.check_again(view.batch)
            case State.AGGREGATING:
                return await self._resend_trigger(view.batch)
        return False

    def _is_late(self, observed: Observation, still_s: float) -> bool:
        """True if messages are sent again though their queue is not empty."""
        doublings = min(observed.interventions, MAX_DOUBLINGS)
        return still_s >= self._limits.resend_after_s * float(2**doublings)

    async def _resend_job(self, batch: Batch, *, is_late: bool) -> bool:
        """Send the job again, as its message may be lost. The splitter resumes at the checkpoint."""
        if not (self._jobs_queue.is_empty or is_late):
            return False
        await send_all(self._ports.queues.ingest, [OutgoingMessage(Job.again_for(batch).encode())])
        self._ports.metrics.count("jobs_resent")
        log.warning("job_sent_again", rows=batch.checkpoint.rows, reason=self._jobs_queue.reason)
        return True

    async def check_again(self, batch: Batch) -> bool:
        """Repeat the completion check of a batch whose rows are all done."""
        log.warning("completion_checked_again", reason="every row has an outcome and nobody said so")
        await self._completion.check(batch.batch_id)
        return True

    async def _resend_trigger(self, batch: Batch) -> bool:
        """Send the trigger again: it may be lost, or its aggregator dead."""
        now_ms = self._ports.clock.now_ms()
        # The trigger of results that wait is delayed in the queue until then.
        if batch.trouble and now_ms < batch.trouble.again_at_ms + self._limits.stuck_after_s * 1000:
            return False
        await send_trigger(self._ports, batch)
        self._ports.metrics.count("aggregations_resent")
        log.warning("aggregation_sent_again", reason="nobody writes the results", last=batch.lease_owner)
        return True

    async def _resend_rows(self, lease: BatchLease, view: BatchView) -> None:
        """Send the rows without an outcome again; those of a remap get theirs from their kept replies."""
        batch, reason = view.batch, self._rows_queue.reason
        if batch.is_remap:
            await self._work.remap_rest(batch, lease.check)
            await self._completion.complete(batch)
            return
        sent = await self._recovery.resend(batch, lease.check)
        if sent.rows:
            lacking = (batch.due or 0) - view.counts.done
            log.warning(
                "rows_sent_again", rows=sent.rows, lacking=lacking, first=sent.first, last=sent.last,
                reason=reason,
            )  # fmt: skip
        else:
            await self._completion.complete(batch)

    async def _do_work(self, lease: BatchLease, view: BatchView) -> None:
        """Do the work that an operation has left on the batch, whose message is lost or late."""
        batch = view.batch
        if batch.work is None:
            return
        log.warning("work_done_by_sweeper", kind=batch.work.kind, control=batch.work.control)
        await self._work.do(batch, lease.check)
        await self._completion.check(batch.batch_id)

    async def _fail_overdue_rows(self, lease: BatchLease, view: BatchView) -> None:
        """Commit every row without an outcome as FAILED, so that the results are written."""
        batch = view.batch
        error: RowRejectedError
        if batch.cancelled_at:
            error = cancelled_error(batch)
        else:
            error = deadline_of(batch, None).missed(earlier=await self._outages.read(batch))
        failed = await self._recovery.fail(batch, error, lease.check)
        if failed.rows:
            log.warning("batch_overdue", rows=failed.rows, reason=str(error))
            self._ports.metrics.count("rows_overdue", failed.rows)
