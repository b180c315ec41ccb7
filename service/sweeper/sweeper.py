"""Step 9 of the protocol: batches that have not moved for a while are moved on.

Messages can be lost: to a purged queue, to retention, to an operator. The table then holds a batch that no
message will move. The sweeper goes through all batches that are not final, remembers in memory when each of
them last moved, and repeats the step that moves it on. Every action is safe to repeat, so any number of
sweepers may run.

A sweep looks at several batches at a time. Rows are sent again, or failed, in the background: that may take
minutes for a batch of millions of rows, and other batches are swept meanwhile. One sweeper at a time does so
for a batch, under its lease, and is the batch's sender from then on: workers look up the outcome of a row
whose first message still waits.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import structlog

from service.batch.completion import Completion
from service.batch.ending import send_trigger
from service.batch.lease import BatchLease
from service.batch.outages import OutageBoard
from service.batch.role_ports import Ports
from service.domain.deadlines import deadline_of
from service.domain.errors import (
    AccessError,
    CancelledError,
    LeaseLostError,
    RetryableError,
    RowRejectedError,
)
from service.domain.jobs import Job
from service.domain.model import Batch, BatchView, State
from service.domain.ports import OutgoingMessage, Queue
from service.recovery.recovery import Recovery
from service.runtime.cancellation import until_stopped
from service.runtime.sender import send_all
from service.steering.decisions import cancel_due_ms
from service.steering.operate import NOTICE_S
from service.sweeper.emptiness import EmptinessCheck
from service.sweeper.recoveries import Recoveries

log = structlog.get_logger(__name__)

SWEPT = (State.SPLITTING, State.RUNNING, State.AGGREGATING)

PAGE_BATCHES = 100
MAX_BATCHES = 10_000
"""Batches of one state in one sweep; the next sweep continues after them."""

MAX_DOUBLINGS = 5
"""Doublings of `resend_after_s` for a batch that does not move although its messages were sent again."""

LONG_SWEEP_S = 900.0
"""A look at all batches takes seconds; one that lasts longer than this is reported as hanging."""


@dataclass(frozen=True, slots=True)
class SweepLimits:
    """Every `interval_s` the sweeper looks for batches that stood still for `stuck_after_s` (seconds).

    Messages that may be lost are sent again once their queue is empty. If the queue does not get empty, they
    are sent again after `resend_after_s`, then after twice that time, and so on up to 32 times that time.
    `concurrent_batches` are looked at, and as many recovered, at the same time. A batch that is recovered is
    leased for `lease_s` at a time.
    """

    interval_s: float = 60.0
    stuck_after_s: float = 300.0
    resend_after_s: float = 3_600.0
    concurrent_batches: int = 8
    lease_s: float = 40.0


@dataclass(slots=True)
class _Observation:
    """The progress of a batch when it last moved, the monotonic time of that, and the interventions since.

    `sender` is that of the batch: a new one of a RUNNING batch is a sweeper that has recovered it.
    """

    progress: tuple[object, ...]
    since: float
    sender: str
    interventions: int = 0


class Sweeper:
    """Sweeps batches, alone or beside other sweepers.

    `owners` returns a new name for each lease, used by no other holder. `left` returns
    the number of messages that the drain of a dead-letter queue has left there.
    """

    def __init__(
        self,
        ports: Ports,
        completion: Completion,
        recovery: Recovery,
        limits: SweepLimits,
        *,
        owners: Callable[[], str],
        left: Callable[[Queue], int] = lambda _: 0,
    ) -> None:
        self._ports = ports
        queues = ports.queues
        self._jobs_queue = EmptinessCheck("ingest", queues.ingest, queues.dead_ingest, left)
        self._rows_queue = EmptinessCheck("rows", queues.rows, queues.dead_rows, left)
        self._completion = completion
        self._recovery = recovery
        self._outages = OutageBoard(ports.table, ports.clock)
        self._limits = limits
        self._owners = owners
        self._observed: OrderedDict[str, _Observation] = OrderedDict()
        self._cursors = dict.fromkeys(SWEPT, "")
        self._recoveries = Recoveries(limits.concurrent_batches)
        self._failure: Exception | None = None
        self._problem = ""
        self._began_at: float | None = None
        self.last_success: float | None = None

    @property
    def problem(self) -> str:
        """The reason why the last sweep failed, or that the present one does not end; "" if all is well."""
        if self._problem or self._began_at is None:
            return self._problem
        lasts_s = self._ports.clock.monotonic() - self._began_at
        return f"a sweep has not ended for {lasts_s:.0f} s" if lasts_s > LONG_SWEEP_S else ""

    @property
    def held(self) -> int:
        """Batches that it is recovering. A sweeper receives no messages."""
        return len(self._recoveries)

    @property
    def held_since(self) -> float | None:
        """Since when it recovers its oldest batch, in monotonic seconds; None if it recovers none."""
        return self._recoveries.running_since

    async def run(self, stop: asyncio.Event) -> None:
        """Sweep until `stop` is set. A sweep under way is then cancelled: every step is safe to repeat."""
        try:
            await until_stopped(stop, self._sweep_forever())
        finally:
            await self._recoveries.cancel()

    async def sweep(self) -> None:
        """Go through the batches once, and wait until those that are recovered are done.

        Raises the first error, RetryableError or AccessError unless it is a bug, after the last batch.
        """
        await self._look_at_batches()
        await self._recoveries.wait()
        self._raise_failure()

    async def _look_at_batches(self) -> None:
        """Go through the batches once; recoveries go on in the background."""
        await self._jobs_queue.count()
        await self._rows_queue.count()
        stuck = 0
        for state in SWEPT:
            async for batches in self._pages(state):
                stuck += await self._look_at(batches)
        self._ports.metrics.count("sweeps")
        self._ports.metrics.observe("batches_stuck", stuck)

    async def _look_at(self, batches: Sequence[Batch]) -> int:
        """Look at some batches, several at a time; return the number of those that are stuck."""
        ids = iter([batch.batch_id for batch in batches])
        stuck = 0

        async def look() -> None:
            nonlocal stuck
            # all lookers take batches from the same iterator
            for batch_id in ids:
                with structlog.contextvars.bound_contextvars(batch_id=batch_id), self._keeping_failure():
                    stuck += await self._sweep_batch(batch_id)

        async with asyncio.TaskGroup() as group:
            for _ in range(min(self._limits.concurrent_batches, len(batches))):
                group.create_task(look())
        return stuck

    @contextmanager
    def _keeping_failure(self) -> Iterator[None]:
        """Keep an error for the end of the sweep: it concerns one batch, and the others are swept."""
        try:
            yield
        except (RetryableError, AccessError) as error:
            log.warning("batch_not_swept", reason=str(error), kind=error.kind)
            self._failure = self._failure or error
        except Exception as error:  # noqa: BLE001 -- a bug that one batch triggers is raised later as well
            self._failure = error

    def _raise_failure(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    async def _sweep_forever(self) -> None:
        while True:
            self._began_at = self._ports.clock.monotonic()
            try:
                await self._look_at_batches()
                self._raise_failure()
            except (RetryableError, AccessError) as error:
                if self._problem != str(error):
                    log.error("sweep_failed", reason=str(error), kind=error.kind)
                self._problem = str(error)
            except Exception as error:
                # A bug that one batch triggers must not end the sweeper: the next sweep tries again.
                log.exception("sweep_crashed")
                self._ports.metrics.count("handler_crashes")
                self._problem = f"sweeping failed: {error!r}"
            else:
                self._problem = ""
                self.last_success = self._ports.clock.monotonic()
            self._began_at = None
            await self._ports.clock.sleep(self._limits.interval_s)

    async def _pages(self, state: State) -> AsyncIterator[Sequence[Batch]]:
        """Batches in a state as the index lists them, continuing where the last sweep stopped."""
        after = self._cursors[state]
        for _ in range(MAX_BATCHES // PAGE_BATCHES):
            page = await self._ports.table.batches(state, after=after, limit=PAGE_BATCHES)
            yield page.batches
            after = page.after
            if not after:
                break
        self._cursors[state] = after

    async def _sweep_batch(self, batch_id: str) -> bool:
        """Move the batch on if it is stuck; return True if it is."""
        if batch_id in self._recoveries:
            return True
        view = await self._ports.table.read(batch_id)
        if view is None or view.batch.state not in SWEPT:
            self._observed.pop(batch_id, None)
            return False
        observed = self._observe(view)
        if view.batch.lease_until_ms > self._ports.clock.now_ms():
            # Another process works on it. This is no progress: one that fails again and again takes a lease
            # each time.
            observed.since = self._ports.clock.monotonic()
            return False
        if self._is_overdue(view):
            self._recover(view.batch, self._fail_overdue_rows)
            return False
        still_s = self._ports.clock.monotonic() - observed.since
        if still_s < self._limits.stuck_after_s:
            return False
        doublings = min(observed.interventions, MAX_DOUBLINGS)
        is_late = still_s >= self._limits.resend_after_s * 2**doublings
        match view.batch.state:
            case State.SPLITTING:
                await self._resend_job(view.batch, observed, is_late=is_late)
            case State.RUNNING if view.is_complete:
                await self._check_again(view.batch, observed)
            case State.RUNNING:
                if self._rows_queue.is_empty or is_late:
                    self._recover(view.batch, self._resend_rows)
            case _:
                await self._resend_trigger(view.batch, observed)
        return True

    def _recover(self, batch: Batch, work: Callable[[BatchLease, BatchView], Awaitable[None]]) -> None:
        """Begin long work on a batch, unless enough is under way: the next sweep finds the batch again."""

        async def guarded() -> None:
            with self._keeping_failure():
                try:
                    await self._leased(batch, work)
                except LeaseLostError as error:
                    log.info("recovery_ended", reason=str(error))

        if not self._recoveries.is_full:
            self._recoveries.start(batch.batch_id, guarded(), self._ports.clock.monotonic())

    async def _leased(self, batch: Batch, work: Callable[[BatchLease, BatchView], Awaitable[None]]) -> None:
        """Do the work under the lease of the batch, unless another sweeper has it or the batch has moved."""
        lease = BatchLease(
            self._ports.table, batch, self._ports.clock,
            state=State.RUNNING, owner=self._owners(), duration_s=self._limits.lease_s,
        )  # fmt: skip
        if not (await lease.acquire()).is_ours:
            return
        async with lease.renewed():
            # Read again: the batch's sender is this process from now on.
            view = await self._ports.table.read(batch.batch_id)
            if view is not None and view.batch.state is State.RUNNING:
                await work(lease, view)
                self._observe(view)

    def _intervened(self, observed: _Observation) -> None:
        """Give the batch time to move."""
        observed.since = self._ports.clock.monotonic()
        observed.interventions += 1

    def _observe(self, view: BatchView) -> _Observation:
        """The observation of a batch; a new one if the batch has moved since the last sweep."""
        batch = view.batch
        progress = (
            batch.identity, batch.state, batch.round, batch.checkpoint.rows, view.counts.done,
            batch.updated_at,
        )  # fmt: skip
        observed = self._observed.get(batch.batch_id)
        if observed is None or observed.progress != progress:
            observed = _Observation(progress, self._ports.clock.monotonic(), batch.sender)
            self._observed[batch.batch_id] = observed
        if batch.state is State.RUNNING and observed.sender != batch.sender:
            observed.sender = batch.sender
            self._intervened(observed)
        self._observed.move_to_end(batch.batch_id)
        if len(self._observed) > len(SWEPT) * MAX_BATCHES:
            self._observed.popitem(last=False)
        return observed

    # -- interventions ---------------------------------------------------------------------------------

    async def _resend_job(self, batch: Batch, observed: _Observation, *, is_late: bool) -> None:
        """Send the job again, as its message may be lost. The splitter resumes at the checkpoint."""
        if not (self._jobs_queue.is_empty or is_late):
            return
        await send_all(self._ports.queues.ingest, [OutgoingMessage(Job.again_for(batch).encode())])
        self._ports.metrics.count("jobs_resent")
        log.warning("job_sent_again", rows=batch.checkpoint.rows, reason=self._jobs_queue.reason)
        self._intervened(observed)

    async def _check_again(self, batch: Batch, observed: _Observation) -> None:
        """Repeat the completion check of a batch whose rows are all done."""
        log.warning("completion_checked_again", reason="every row has an outcome and nobody said so")
        await self._completion.check(batch.batch_id)
        self._intervened(observed)

    async def _resend_rows(self, lease: BatchLease, view: BatchView) -> None:
        """Send the rows without an outcome again."""
        batch, reason = view.batch, self._rows_queue.reason
        sent = await self._recovery.resend(batch, lease.check)
        if sent.rows:
            lacking = (batch.due or 0) - view.counts.done
            log.warning(
                "rows_sent_again", rows=sent.rows, lacking=lacking, first=sent.first, last=sent.last,
                reason=reason,
            )  # fmt: skip
        else:
            await self._completion.complete(batch)

    async def _resend_trigger(self, batch: Batch, observed: _Observation) -> None:
        """Send the trigger again: it may be lost, or its aggregator dead."""
        now_ms = self._ports.clock.now_ms()
        # The trigger of results that wait is delayed in the queue until then.
        if batch.trouble and now_ms < batch.trouble.again_at_ms + self._limits.stuck_after_s * 1000:
            return
        await send_trigger(self._ports, batch)
        self._ports.metrics.count("aggregations_resent")
        log.warning("aggregation_sent_again", reason="nobody writes the results", last=batch.lease_owner)
        self._intervened(observed)

    def _is_overdue(self, view: BatchView) -> bool:
        batch = view.batch
        if batch.state is not State.RUNNING or view.is_complete:
            return False
        now_ms = self._ports.clock.now_ms()
        is_cancelled = batch.cancelled_at and now_ms >= cancel_due_ms(batch) + NOTICE_S * 1000
        return bool(is_cancelled) or deadline_of(batch, None).left_s(now_ms) <= 0

    async def _fail_overdue_rows(self, lease: BatchLease, view: BatchView) -> None:
        """Commit every row without an outcome as FAILED, so that the results are written."""
        batch = view.batch
        error: RowRejectedError
        if batch.cancelled_at:
            error = CancelledError(f"the batch was cancelled at {batch.cancelled_at}")
        else:
            error = deadline_of(batch, None).missed(earlier=await self._outages.read(batch))
        failed = await self._recovery.fail(batch, error, lease.check)
        if failed.rows:
            log.warning("batch_overdue", rows=failed.rows, reason=str(error))
            self._ports.metrics.count("rows_overdue", failed.rows)
