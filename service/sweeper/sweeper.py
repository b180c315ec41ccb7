"""Sweeping: batches that have not moved for a while are looked at, and moved on (the protocol's step 9).

Messages can be lost: to a purged queue, to retention, to an operator. The table then holds a batch for which
nobody will do anything any more. One periodic task goes through the batches that are not final, remembers in
memory when each of them last moved, and repeats what brings a still one on. Every action is one that may be
done twice, so that any number of sweepers may run, and none keeps a record.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from dataclasses import dataclass

import structlog

from service.batch.completion import Completion
from service.batch.ports import Ports
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
"""Batches of one state in one sweep; the next goes on behind them."""

MAX_DOUBLINGS = 5
EMPTY_LOOKS = 2
"""SQS counts approximately: a queue is empty when two sweeps in a row found it so."""


@dataclass(frozen=True, slots=True)
class SweepLimits:
    """A batch that has not moved for `stuck_after_s` is looked at, every `interval_s`.

    Messages that may be lost are sent again once their queue is empty, or, however full it is, after
    `resend_after_s`, and again after twice that time, and so on up to 32 times.
    """

    interval_s: float = 60.0
    stuck_after_s: float = 300.0
    resend_after_s: float = 3_600.0


class Emptiness:
    """Whether all of some queues are known to be empty: dead letters are drained before rows are resent."""

    def __init__(self, *queues: Queue) -> None:
        self._queues = queues
        self._looks = 0

    def __bool__(self) -> bool:
        return self._looks >= EMPTY_LOOKS

    async def look(self) -> None:
        """Count the messages. Raises RetryableError and AccessError."""
        depths = [await queue.depth() for queue in self._queues]
        self._looks = 0 if any(depths) else self._looks + 1


@dataclass(slots=True)
class _Seen:
    """A batch as it was last found, since when, and how often it was helped since."""

    mark: tuple[object, ...]
    since: float
    helped: int = 0


class Sweeper:
    """Goes through batches, alone or beside other sweepers."""

    def __init__(
        self,
        ports: Ports,
        completion: Completion,
        recovery: Recovery,
        limits: SweepLimits,
    ) -> None:
        self._ports = ports
        queues = ports.queues
        self._no_jobs = Emptiness(queues.ingest, queues.dead_ingest)
        self._no_rows = Emptiness(queues.rows, queues.dead_rows)
        self._completion = completion
        self._recovery = recovery
        self._limits = limits
        self._seen: OrderedDict[str, _Seen] = OrderedDict()
        self._cursors = dict.fromkeys(SWEPT, "")
        self.problem = ""
        self.last_success: float | None = None
        self.held = 0  # messages: it looks, and holds none

    async def run(self, stop: asyncio.Event) -> None:
        """Sweep until `stop` is set; a sweep under way then is abandoned, for any step may be repeated."""
        await until_stopped(stop, self._for_ever())

    async def sweep(self) -> None:
        """Go through the batches once. Raises RetryableError and AccessError; the rest is the next one's."""
        await self._no_jobs.look()
        await self._no_rows.look()
        stuck = 0
        problem: RowfleetError | None = None
        for state in SWEPT:
            async for batch in self._listed(state):
                with structlog.contextvars.bound_contextvars(batch_id=batch.batch_id):
                    try:
                        stuck += await self._look_at(batch.batch_id)
                    except (RetryableError, AccessError) as error:
                        log.warning("batch_not_swept", reason=str(error), kind=error.kind)
                        problem = error
        self._ports.metrics.count("sweeps")
        self._ports.metrics.observe("batches_stuck", stuck)
        if problem is not None:
            raise problem

    async def _for_ever(self) -> None:
        while True:
            try:
                await self.sweep()
            except (RetryableError, AccessError) as error:
                if self.problem != str(error):
                    log.error("sweep_failed", reason=str(error), kind=error.kind)
                self.problem = str(error)
            except Exception as error:
                # A bug in what is done for one batch must not end the sweeper: it is said, and tried again.
                log.exception("sweep_crashed")
                self._ports.metrics.count("handler_crashes")
                self.problem = f"sweeping failed: {error!r}"
            else:
                self.problem = ""
                self.last_success = self._ports.clock.monotonic()
            await self._ports.clock.sleep(self._limits.interval_s)

    async def _listed(self, state: State) -> AsyncIterator[Batch]:
        """Batches in a state as the index has them, from where the last sweep stopped."""
        after = self._cursors[state]
        for _ in range(MAX_BATCHES // PAGE_BATCHES):
            page = await self._ports.table.batches(state, after=after, limit=PAGE_BATCHES)
            for batch in page.batches:
                yield batch
            after = page.after
            if not after:
                break
        self._cursors[state] = after

    async def _look_at(self, batch_id: str) -> bool:
        """Whether the batch is stuck; if so, what can be done for it was done."""
        view = await self._ports.table.read(batch_id)
        if view is None or view.batch.state not in SWEPT:
            self._seen.pop(batch_id, None)
            return False
        seen = self._remember(view)
        if self._is_overdue(view):
            await self._expire(view.batch)
            return False
        still_s = self._ports.clock.monotonic() - seen.since
        if still_s < self._limits.stuck_after_s:
            return False
        is_late = still_s >= self._limits.resend_after_s * 2 ** min(seen.helped, MAX_DOUBLINGS)
        match view.batch.state:
            case State.SPLITTING:
                helped = await self._split_again(view.batch, is_late=is_late)
            case State.RUNNING:
                helped = await self._complete(view, is_late=is_late)
            case _:
                helped = await self._aggregate_again(view.batch)
        if helped:
            seen.since = self._ports.clock.monotonic()
            seen.helped += 1
        return True

    def _remember(self, view: BatchView) -> _Seen:
        """What is known of the batch; anew where it has moved."""
        batch = view.batch
        mark = (
            batch.state, batch.round, batch.checkpoint.rows, view.counts.done, batch.lease_until_ms,
            batch.updated_at,
        )  # fmt: skip
        seen = self._seen.get(batch.batch_id)
        if seen is None or seen.mark != mark:
            seen = self._seen[batch.batch_id] = _Seen(mark, self._ports.clock.monotonic())
        self._seen.move_to_end(batch.batch_id)
        if len(self._seen) > len(SWEPT) * MAX_BATCHES:
            self._seen.popitem(last=False)
        return seen

    # -- what is done ----------------------------------------------------------------------------------

    async def _split_again(self, batch: Batch, *, is_late: bool) -> bool:
        """The job's message may be lost: send it again. The splitter goes on at the checkpoint."""
        if not (self._no_jobs or is_late):
            return False
        job = Job(
            batch.tool_name, batch.source, batch.execution_id, batch.output,
            limit=batch.limit, priority=batch.priority, weight=batch.weight,
        )  # fmt: skip
        await send_all(self._ports.queues.ingest, [OutgoingMessage(job.encode())])
        self._ports.metrics.count("jobs_resent")
        log.warning("job_sent_again", rows=batch.checkpoint.rows, reason=_reason(self._no_jobs, "ingest"))
        return True

    async def _complete(self, view: BatchView, *, is_late: bool) -> bool:
        """Repeat step 6 where every row is done; else send the rows without outcome and message again."""
        batch = view.batch
        if view.is_complete:
            log.warning("completion_checked_again", reason="every row has an outcome and nobody said so")
            await self._completion.check(batch.batch_id)
            return True
        if not (self._no_rows or is_late):
            return False
        numbers = await self._recovery.missing(batch)
        lacking = (batch.total or 0) - view.counts.done
        if not numbers:
            log.error("counters_differ_from_rows", counters=repr(view.counts), total=batch.total)
            return True
        log.warning(
            "rows_sent_again", rows=len(numbers), lacking=lacking, first=numbers[0], last=numbers[-1],
            reason=_reason(self._no_rows, "rows"),
        )  # fmt: skip
        await self._recovery.send_again(batch, numbers)
        return True

    async def _aggregate_again(self, batch: Batch) -> bool:
        """The trigger may be lost, or its aggregator dead: send it again where nobody holds the lease."""
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

    async def _expire(self, batch: Batch) -> None:
        """Commit what has no outcome FAILED: nobody need deliver it, and the output is written."""
        numbers = await self._recovery.missing(batch)
        if numbers:
            log.warning(
                "batch_overdue", rows=len(numbers), reason=f"its deadline {batch.deadline_at} has passed"
            )
            self._ports.metrics.count("rows_overdue", len(numbers))
            await self._recovery.fail(batch, numbers, deadline_of(batch, None).missed())


def _reason(is_empty: Emptiness, queue: str) -> str:
    return f"the {queue} queue is empty" if is_empty else f"the {queue} queue is not, but it has been long"
