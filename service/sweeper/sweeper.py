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
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager

import structlog

from service.batch.ending import fail_batch
from service.batch.lease import BatchLease
from service.batch.role_ports import Ports
from service.domain.errors import AccessError, BatchRejectedError, LeaseLostError, RetryableError
from service.domain.model import Batch, BatchView, State
from service.domain.operation_requests import OperationRequest
from service.runtime.tasks import until_stopped
from service.steering.budgets.holding import is_day_over, lift_budget_hold
from service.steering.expiry import end_of_hold, expired_hold, is_overdue
from service.steering.operate import ROWFLEET, decide_and_apply
from service.steering.void_holds import is_void
from service.sweeper.interventions import Interventions, LongWork
from service.sweeper.observations import Observation, Observations
from service.sweeper.recoveries import Recoveries
from service.sweeper.sweep_limits import SweepLimits

log = structlog.get_logger(__name__)

SWEPT = (State.SPLITTING, State.RUNNING, State.PAUSED, State.AGGREGATING)

PAGE_BATCHES = 100
MAX_BATCHES = 10_000
"""Batches of one state in one sweep; the next sweep continues after them."""

LONG_SWEEP_S = 900.0
"""A look at all batches takes seconds; one that lasts longer than this is reported as hanging."""


class Sweeper:
    """Sweeps batches, alone or beside other sweepers.

    `owners` returns a new name for each lease, used by no other holder.
    """

    def __init__(
        self, ports: Ports, interventions: Interventions, limits: SweepLimits, *, owners: Callable[[], str]
    ) -> None:
        self._ports = ports
        self._interventions = interventions
        self._limits = limits
        self._owners = owners
        self._observations = Observations(ports.clock, len(SWEPT) * MAX_BATCHES)
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
        await self._interventions.count_queues()
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
                    stuck += batch_id in self._recoveries or await self._sweep_batch(batch_id)

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
            only = self._limits.only_batch
            yield [batch for batch in page.batches if not only or batch.batch_id == only]
            after = page.after
            if not after:
                break
        self._cursors[state] = after

    async def _sweep_batch(self, batch_id: str) -> bool:
        """Move the batch on if it is stuck; return True if it is."""
        view = await self._ports.table.read(batch_id)
        if view is None or view.batch.state not in SWEPT:
            self._observations.forget(batch_id)
            return False
        observed = self._observations.observe(view)
        # A splitter may have the lease for as long as the target serves nobody.
        if await self._interventions.targets.hold_if_down(view):
            return False
        if view.batch.lease_until_ms > self._ports.clock.now_ms():
            self._observations.is_at_work(observed)
            return False
        if view.batch.state is State.PAUSED:
            # A batch that is held is not stuck, however long it does not move.
            await self._sweep_held(view)
        elif (work := self._interventions.due_work(view)) is not None:
            self._recover(view.batch, work)
        else:
            return await self._move_on_if_stuck(view, observed)
        return False

    async def _move_on_if_stuck(self, view: BatchView, observed: Observation) -> bool:
        """Move the batch on if it stood still for long; return True if it did."""
        still_s = self._observations.still_s(observed)
        if still_s < self._limits.stuck_after_s:
            return False
        if (work := self._interventions.stuck_work(view, observed, still_s)) is not None:
            self._recover(view.batch, work)
        elif await self._interventions.move_on(view, observed, still_s):
            self._observations.intervened(observed)
        return True

    async def _sweep_held(self, view: BatchView) -> None:
        """End the hold of a batch if its time is over; otherwise try the target, if that holds it."""
        targets = self._interventions.targets
        if await self._end_hold_if_due(view.batch):
            return
        if is_day_over(view.batch, self._ports.clock.now_ms()):
            await lift_budget_hold(self._ports, view.batch)
        elif is_void(view) or view.has_its_sample:
            # Whoever committed the last row may have died before its check.
            await self._interventions.check_again(view.batch)
        elif await targets.is_trial_due(view):
            self._recover(view.batch, targets.try_target)

    async def _end_hold_if_due(self, batch: Batch) -> bool:
        """Cancel a batch that was held for too long; go on with one whose deadline has passed.

        True if its hold has ended.
        """
        now_ms = self._ports.clock.now_ms()
        hold_s = self._limits.hold_s
        if is_overdue(batch, now_ms):
            op = "resume"
        elif expired_hold(batch, hold_s, now_ms) is not None:
            op = "cancel"
        else:
            return False
        # All sweepers make the same request, which is carried out once.
        request = OperationRequest(op, batch.batch_id, f"hold-{batch.round}-{batch.control}", ROWFLEET)
        operation = await decide_and_apply(self._ports, request, end_of_hold(hold_s))
        if operation.control:
            log.warning("hold_ended", op=op, reason=operation.answer["text"])
        return True

    def _recover(self, batch: Batch, work: LongWork) -> None:
        """Begin long work on a batch, unless enough is under way: the next sweep finds the batch again."""

        async def guarded() -> None:
            with self._keeping_failure():
                try:
                    await self._leased(batch, work)
                except LeaseLostError as error:
                    log.info("recovery_ended", reason=str(error))
                except BatchRejectedError as error:
                    await fail_batch(self._ports, batch, str(error), expected=[State.RUNNING])

        if not self._recoveries.is_full:
            self._recoveries.start(batch.batch_id, guarded(), self._ports.clock.monotonic())

    async def _leased(self, batch: Batch, work: LongWork) -> None:
        """Do the work under the lease of the batch, unless another sweeper has it or the batch has moved."""
        lease = BatchLease(
            self._ports.table, batch, self._ports.clock,
            state=batch.state, owner=self._owners(), duration_s=self._limits.lease_s,
        )  # fmt: skip
        if not (await lease.acquire()).is_ours:
            return
        async with lease.renewed():
            # Read again: the batch's sender is this process from now on.
            view = await self._ports.table.read(batch.batch_id)
            if view is not None and view.batch.state is batch.state:
                await work(lease, view)
                self._observations.observe(view)
