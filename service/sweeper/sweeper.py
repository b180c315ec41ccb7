"""Step 9 of the protocol: batches that have not moved for a while are moved on.

Messages can be lost: to a purged queue, to retention, to an operator. The table then holds a batch that no
message will move. The sweeper goes through all batches that are not final, remembers in memory when each of
them last moved, and repeats the step that moves it on. Every action is safe to repeat, so any number of
sweepers may run and none of them keeps a record.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from dataclasses import dataclass

import structlog

from service.batch.completion import Completion
from service.batch.outages import OutageBoard
from service.batch.role_ports import Ports
from service.domain.deadlines import deadline_of
from service.domain.errors import AccessError, RetryableError, RowfleetError
from service.domain.jobs import Job
from service.domain.messages import AggregateMessage
from service.domain.model import Batch, BatchView, State
from service.domain.ports import OutgoingMessage, Queue
from service.runtime.sender import send_all
from service.runtime.shutdown import until_stopped
from service.sweeper.recovery import Recovery

log = structlog.get_logger(__name__)

SWEPT = (State.SPLITTING, State.RUNNING, State.AGGREGATING)

PAGE_BATCHES = 100
MAX_BATCHES = 10_000
"""Batches of one state in one sweep; the next sweep continues after them."""

MAX_DOUBLINGS = 5
"""Doublings of `resend_after_s` for a batch that does not move although its messages were sent again."""

EMPTY_SWEEPS = 2
"""SQS counts approximately: a queue counts as empty once this many sweeps in a row found it empty."""


@dataclass(frozen=True, slots=True)
class SweepLimits:
    """Every `interval_s` the sweeper looks for batches that stood still for `stuck_after_s` (seconds).

    Messages that may be lost are sent again once their queue is empty. If the queue does not get empty, they
    are sent again after `resend_after_s`, then after twice that time, and so on up to 32 times that time.
    """

    interval_s: float = 60.0
    stuck_after_s: float = 300.0
    resend_after_s: float = 3_600.0


class EmptinessCheck:
    """Finds out whether several queues are empty at the same time.

    The dead-letter queue belongs to the set: its letters are drained before lost messages are sent again.
    """

    def __init__(self, *queues: Queue) -> None:
        self._queues = queues
        self._empty_sweeps = 0

    @property
    def is_empty(self) -> bool:
        """True if the last `EMPTY_SWEEPS` counts found no message."""
        return self._empty_sweeps >= EMPTY_SWEEPS

    async def count(self) -> None:
        """Count the messages once a sweep. Raises RetryableError and AccessError."""
        depths = [await queue.depth() for queue in self._queues]
        self._empty_sweeps = 0 if any(depths) else self._empty_sweeps + 1


@dataclass(slots=True)
class _Observation:
    """The progress of a batch when it last moved, the monotonic time of that, and the interventions since."""

    progress: tuple[object, ...]
    since: float
    interventions: int = 0


class Sweeper:
    """Sweeps batches, alone or beside other sweepers."""

    def __init__(
        self,
        ports: Ports,
        completion: Completion,
        recovery: Recovery,
        limits: SweepLimits,
    ) -> None:
        self._ports = ports
        queues = ports.queues
        self._jobs_queue = EmptinessCheck(queues.ingest, queues.dead_ingest)
        self._rows_queue = EmptinessCheck(queues.rows, queues.dead_rows)
        self._completion = completion
        self._recovery = recovery
        self._outages = OutageBoard(ports.table, ports.clock)
        self._limits = limits
        self._observed: OrderedDict[str, _Observation] = OrderedDict()
        self._cursors = dict.fromkeys(SWEPT, "")
        self.problem = ""
        self.last_success: float | None = None
        self.held = 0  # a sweeper receives no messages

    async def run(self, stop: asyncio.Event) -> None:
        """Sweep until `stop` is set. A sweep under way is then cancelled: every step is safe to repeat."""
        await until_stopped(stop, self._sweep_forever())

    async def sweep(self) -> None:
        """Go through the batches once. Raises RetryableError and AccessError after the last batch."""
        await self._jobs_queue.count()
        await self._rows_queue.count()
        stuck = 0
        problem: RowfleetError | None = None
        for state in SWEPT:
            async for batch in self._listed(state):
                with structlog.contextvars.bound_contextvars(batch_id=batch.batch_id):
                    try:
                        stuck += await self._sweep_batch(batch.batch_id)
                    except (RetryableError, AccessError) as error:
                        log.warning("batch_not_swept", reason=str(error), kind=error.kind)
                        problem = error
        self._ports.metrics.count("sweeps")
        self._ports.metrics.observe("batches_stuck", stuck)
        if problem is not None:
            raise problem

    async def _sweep_forever(self) -> None:
        while True:
            try:
                await self.sweep()
            except (RetryableError, AccessError) as error:
                if self.problem != str(error):
                    log.error("sweep_failed", reason=str(error), kind=error.kind)
                self.problem = str(error)
            except Exception as error:
                # A bug that one batch triggers must not end the sweeper: the next sweep tries again.
                log.exception("sweep_crashed")
                self._ports.metrics.count("handler_crashes")
                self.problem = f"sweeping failed: {error!r}"
            else:
                self.problem = ""
                self.last_success = self._ports.clock.monotonic()
            await self._ports.clock.sleep(self._limits.interval_s)

    async def _listed(self, state: State) -> AsyncIterator[Batch]:
        """Batches in a state as the index lists them, continuing where the last sweep stopped."""
        after = self._cursors[state]
        for _ in range(MAX_BATCHES // PAGE_BATCHES):
            page = await self._ports.table.batches(state, after=after, limit=PAGE_BATCHES)
            for batch in page.batches:
                yield batch
            after = page.after
            if not after:
                break
        self._cursors[state] = after

    async def _sweep_batch(self, batch_id: str) -> bool:
        """Move the batch on if it is stuck; return True if it is."""
        view = await self._ports.table.read(batch_id)
        if view is None or view.batch.state not in SWEPT:
            self._observed.pop(batch_id, None)
            return False
        observed = self._observe(view)
        if self._is_overdue(view):
            await self._fail_overdue_rows(view.batch)
            return False
        still_s = self._ports.clock.monotonic() - observed.since
        if still_s < self._limits.stuck_after_s:
            return False
        doublings = min(observed.interventions, MAX_DOUBLINGS)
        is_late = still_s >= self._limits.resend_after_s * 2**doublings
        match view.batch.state:
            case State.SPLITTING:
                intervened = await self._resend_job(view.batch, is_late=is_late)
            case State.RUNNING:
                intervened = await self._resend_rows(view, is_late=is_late)
            case _:
                intervened = await self._resend_trigger(view.batch)
        if intervened:
            observed.since = self._ports.clock.monotonic()
            observed.interventions += 1
        return True

    def _observe(self, view: BatchView) -> _Observation:
        """The observation of a batch; a new one if the batch has moved since the last sweep."""
        batch = view.batch
        progress = (
            batch.state, batch.round, batch.checkpoint.rows, view.counts.done, batch.lease_until_ms,
            batch.updated_at,
        )  # fmt: skip
        observed = self._observed.get(batch.batch_id)
        if observed is None or observed.progress != progress:
            observed = _Observation(progress, self._ports.clock.monotonic())
            self._observed[batch.batch_id] = observed
        self._observed.move_to_end(batch.batch_id)
        if len(self._observed) > len(SWEPT) * MAX_BATCHES:
            self._observed.popitem(last=False)
        return observed

    # -- interventions ---------------------------------------------------------------------------------

    async def _resend_job(self, batch: Batch, *, is_late: bool) -> bool:
        """Send the job again, as its message may be lost. The splitter resumes at the checkpoint."""
        if not (self._jobs_queue.is_empty or is_late):
            return False
        job = Job(
            batch.tool_name, batch.source, batch.execution_id, batch.output,
            limit=batch.limit, priority=batch.priority, weight=batch.weight,
        )  # fmt: skip
        await send_all(self._ports.queues.ingest, [OutgoingMessage(job.encode())])
        self._ports.metrics.count("jobs_resent")
        log.warning("job_sent_again", rows=batch.checkpoint.rows, reason=_reason(self._jobs_queue, "ingest"))
        return True

    async def _resend_rows(self, view: BatchView, *, is_late: bool) -> bool:
        """Repeat the completion check if every row is done; if not, send rows without an outcome again."""
        batch = view.batch
        if view.is_complete:
            log.warning("completion_checked_again", reason="every row has an outcome and nobody said so")
            await self._completion.check(batch.batch_id)
            return True
        if not (self._rows_queue.is_empty or is_late):
            return False
        numbers = await self._recovery.missing(batch)
        lacking = (batch.total or 0) - view.counts.done
        if not numbers:
            log.error("counters_differ_from_rows", counters=repr(view.counts), total=batch.total)
            return True
        log.warning(
            "rows_sent_again", rows=len(numbers), lacking=lacking, first=numbers[0], last=numbers[-1],
            reason=_reason(self._rows_queue, "rows"),
        )  # fmt: skip
        await self._recovery.resend(batch, numbers)
        return True

    async def _resend_trigger(self, batch: Batch) -> bool:
        """Send the trigger again if no aggregator holds the lease: it may be lost, or its aggregator dead."""
        if batch.lease_until_ms > self._ports.clock.now_ms():
            return False
        message = AggregateMessage(batch.batch_id, batch.round)
        await send_all(self._ports.queues.aggregate, [OutgoingMessage(message.encode())])
        self._ports.metrics.count("aggregations_resent")
        log.warning("aggregation_sent_again", reason="nobody writes the results", last=batch.lease_owner)
        return True

    def _is_overdue(self, view: BatchView) -> bool:
        batch = view.batch
        if batch.state is not State.RUNNING or view.is_complete:
            return False
        return deadline_of(batch, None).left_s(self._ports.clock.now_ms()) <= 0

    async def _fail_overdue_rows(self, batch: Batch) -> None:
        """Commit every row without an outcome as FAILED, so that the results are written."""
        numbers = await self._recovery.missing(batch)
        if numbers:
            log.warning(
                "batch_overdue", rows=len(numbers), reason=f"its deadline {batch.deadline_at} has passed"
            )
            self._ports.metrics.count("rows_overdue", len(numbers))
            missed = deadline_of(batch, None).missed(earlier=await self._outages.read(batch))
            await self._recovery.fail(batch, numbers, missed)


def _reason(check: EmptinessCheck, queue: str) -> str:
    return (
        f"the {queue} queue is empty" if check.is_empty else f"the {queue} queue is not, but it has been long"
    )
