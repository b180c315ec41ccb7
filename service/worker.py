"""Working: a row message becomes an invocation, an outcome, and a settled row (steps 4 to 7).

Every row ends as one outcome, SUCCESS or FAILED; what is retried and what is not is decided by the class of
the error (`errors`). Nothing here knows how an agent is reached or how outcomes are stored.
"""

from __future__ import annotations

import math
import random
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, replace

import structlog

from service.claims import Claims
from service.consume import Delivery
from service.deadlines import Deadline, deadline_of
from service.errors import (
    AgentRetryableError,
    AgentTimeoutError,
    BadRecordError,
    PoisonMessageError,
    RetryableError,
    RowRejectedError,
    SourceError,
    WorkerLostError,
)
from service.lane import Lane
from service.messages import RowMessage
from service.model import Batch, Json, Outcome, State, iso_time, row_id
from service.outbox import send_all
from service.outcomes import Attempt
from service.ports import MAX_DELAY_S, Clock, Invocation, Outgoing, Queue, Reply, Table
from service.runs import Run, Runs, Target
from service.settle import Settler
from service.telemetry import Metrics
from service.timeouts import timeout

log = structlog.get_logger(__name__)

LANE_WAIT_S = 10.0
"""About how long a row whose workers died waits where the lane is full."""

TAKES_ROWS = frozenset({State.SPLITTING, State.RUNNING})


@dataclass(frozen=True, slots=True)
class WorkLimits:
    """`worker` names this process in outcomes; a retry that waits longer than `inline_wait_s` is re-sent.

    An agent that does not keep its own time-out is cut off `grace_s` later, or at a deadline. A row that lost
    `max_lost` deliveries to dead workers fails; half of them are what makes it a dead letter first. What was
    lost before begins `lane_pause_s` late: by then what was received with it, and finds no place, is away.
    """

    worker: str
    inline_wait_s: float = 5.0
    grace_s: float = 5.0
    max_lost: int = 10
    lane_pause_s: float = 1.0


@dataclass(slots=True)
class _Task:
    """A row to be invoked: its message, the row with its cells (`claims`), where it goes, and the input."""

    message: RowMessage
    whole: RowMessage
    run: Run
    target: Target
    body: Json

    @property
    def size(self) -> int:
        """Bytes that were read for it beside its message."""
        return self.message.span.length if self.message.span else 0

    def dated(self, now_ms: int) -> int | None:
        """The row's own deadline, which runs from its first attempt: the one that begins now, if none did."""
        row_s = self.target.mapping.execution.row_deadline_s
        if self.message.until_ms is None and row_s is not None:
            self.message = replace(self.message, until_ms=now_ms + round(row_s * 1000))
        return self.message.until_ms


class Worker:
    """Handles row messages. `rng` spreads retries; seeded in tests."""

    def __init__(
        self,
        table: Table,
        rows_queue: Queue,
        runs: Runs,
        settler: Settler,
        claims: Claims,
        limits: WorkLimits,
        clock: Clock,
        metrics: Metrics,
        *,
        rng: random.Random,
    ) -> None:
        self._table = table
        self._rows_queue = rows_queue
        self._runs = runs
        self._settler = settler
        self._claims = claims
        self._limits = limits
        self._clock = clock
        self._metrics = metrics
        self._rng = rng
        self._lane = Lane()

    async def handle(self, delivery: Delivery) -> None:
        """Process one row and return when it is settled. Raises what `consume` understands."""
        row = RowMessage.decode(delivery.message.body)
        run = await self._runs.get(row.batch_id, row.round, row.number)
        if run is None:
            raise PoisonMessageError(f"there is no batch {row.batch_id!r} in the table")
        with structlog.contextvars.bound_contextvars(batch_id=row.batch_id, row_id=row_id(row.number)):
            if not _concerns(row, run.batch):
                return
            suspect = row.replay or delivery.message.receives > 1
            if suspect and await self._is_committed(run.batch, row):
                self._metrics.count("rows_skipped")
                log.info("row_was_committed", receives=delivery.message.receives, replay=row.replay)
                delivery.free()
                await self._settle(row, run, None)
            elif run.target is not None:
                await self._work(row, run, run.target, delivery)

    async def _work(self, row: RowMessage, run: Run, target: Target, delivery: Delivery) -> None:
        """Process and settle; a row whose workers died, in the lane, until it is committed."""
        if row.lost:
            row = replace(row, lost=row.lost + delivery.message.receives - 1)
        with self._place_for(row) as has_place:
            if has_place:
                if row.lost:
                    await self._clock.sleep(self._limits.lane_pause_s)
                outcome = await self._process(row, run, target, delivery)
                if outcome is not None:
                    delivery.free()
                    await self._settle(row, run, outcome)
                return
        await self._send_again(row, math.ceil(self._rng.uniform(0.5, 1.5) * LANE_WAIT_S))

    def _place_for(self, row: RowMessage) -> AbstractContextManager[bool]:
        if not 0 < row.lost < self._limits.max_lost:
            return nullcontext(True)
        return self._lane.place(alone=row.lost > self._limits.max_lost // 2)

    async def _is_committed(self, batch: Batch, row: RowMessage) -> bool:
        outcome = await self._table.outcome(batch, row.number)
        return outcome is not None and outcome.round >= row.round

    async def _settle(self, row: RowMessage, run: Run, outcome: Outcome | None) -> None:
        """Commit and check. An outcome that cannot be stored is one more way to fail."""
        try:
            view = await self._settler.settle(run.batch, row.number, outcome)
        except RowRejectedError as error:
            if outcome is None:
                raise
            attempt = replace(self._attempt(row, run, outcome.attempts), elapsed_ms=outcome.execution_time_ms)
            outcome = attempt.failed(error)
            view = await self._settler.settle(run.batch, row.number, outcome)
        self._runs.refresh(view)
        if outcome is not None:
            self._report(outcome)

    async def _process(self, row: RowMessage, run: Run, target: Target, delivery: Delivery) -> Outcome | None:
        """The row's outcome, or None where it was re-sent to be tried later."""
        whole = row
        try:
            whole = await self._claims.redeem(run.batch, row)
            if whole.lost >= self._limits.max_lost:
                raise WorkerLostError.after(whole.lost)
            if whole.defect:
                raise BadRecordError(whole.defect)
            body = target.mapping.body(run.batch.columns, whole.cells)
        except (RowRejectedError, SourceError) as error:
            return self._attempt(whole, run, row.attempt).failed(error)
        if row.span is not None:
            delivery.weigh(row.span.length)
        return await self._try(_Task(row, whole, run, target, body), delivery)

    async def _try(self, task: _Task, delivery: Delivery) -> Outcome | None:
        """Attempt after attempt, here while the waits are short."""
        row, run, target, number = task.whole, task.run, task.target, task.message.attempt
        while True:
            async with _place(target, delivery):
                delivery.check_lease()  # before the agent is paid for a row that is somebody else's by now
                deadline = deadline_of(run.batch, task.dated(self._clock.now_ms()))
                if deadline.left_s(self._clock.now_ms()) <= 0:
                    return self._attempt(row, run, number).failed(deadline.missed())
                started = self._clock.monotonic()
                reply: Json = None
                try:
                    answer = await self._ask(task, number, deadline)
                    reply = answer.body
                    delivery.weigh(task.size + answer.size)
                    extraction = target.mapping.extract(reply)
                except (RowRejectedError, AgentRetryableError) as error:
                    failure = error
                    self._metrics.count(f"agent_failures_{error.kind}")
                    self._metrics.count(f"agent_failures_{error.failure_class}")
                else:
                    attempt = self._attempt(row, run, number, started)
                    return attempt.succeeded(extraction, provenance=run.batch.provenance)
            attempt = self._attempt(row, run, number, started)
            if not isinstance(failure, AgentRetryableError):
                return attempt.failed(failure, reply)
            self._metrics.count("agent_retries")
            is_last = number >= target.mapping.execution.retry.max_attempts
            wait_s = 0.0 if is_last else self._backoff(target, number + 1, failure)
            if wait_s >= deadline.left_s(self._clock.now_ms()):
                return attempt.failed(deadline.missed(failure), reply)
            if is_last:
                return attempt.failed(failure, reply)
            number += 1
            if wait_s > self._limits.inline_wait_s:
                await self._send_again(replace(task.message, attempt=number), wait_s)
                return None
            await self._clock.sleep(wait_s)

    async def _ask(self, task: _Task, attempt: int, deadline: Deadline) -> Reply:
        """One invocation, cut at its time-out or at the deadline."""
        row, target = task.message, task.target
        left_s = deadline.left_s(self._clock.now_ms())
        timeout_s = min(target.mapping.execution.timeout_s, left_s)
        invocation = Invocation(f"{row.batch_id}/{row.round}/{row.number}", task.body, attempt, timeout_s)
        started = self._clock.monotonic()
        try:
            async with timeout(self._clock, min(timeout_s + self._limits.grace_s, left_s)):
                return await target.agent.invoke(invocation)
        except TimeoutError:
            raise AgentTimeoutError(f"no answer within {timeout_s:g} s") from None
        finally:
            self._metrics.observe("agent_latency_ms", self._since(started))

    def _backoff(self, target: Target, attempt: int, error: RetryableError) -> float:
        """Seconds before `attempt`: the agent's own wish, else what the policy says.

        Whole seconds, rounded up, for a row that goes back to its queue.
        """
        policy = target.mapping.execution.retry
        if error.retry_after_s is not None:
            wait_s = min(error.retry_after_s, MAX_DELAY_S) + self._rng.uniform(0, policy.base_s)
        else:
            wait_s = self._rng.uniform(*policy.bounds_s(attempt))
        is_short = wait_s <= self._limits.inline_wait_s
        return wait_s if is_short else min(MAX_DELAY_S, math.ceil(wait_s))

    async def _send_again(self, row: RowMessage, delay_s: float) -> None:
        """Put the row, as it is to be tried next, back with a delay; its present message is then deleted."""
        await send_all(self._rows_queue, [Outgoing(row.encode(), row.batch_id, round(delay_s))])
        self._metrics.count("rows_sent_again")
        log.info("row_sent_again", attempt=row.attempt, delay_s=round(delay_s))

    def _attempt(self, row: RowMessage, run: Run, number: int, started: float | None = None) -> Attempt:
        """An attempt that ends now; one without a start took the agent no time."""
        return Attempt(
            row,
            run.batch.columns,
            number,
            0 if started is None else self._since(started),
            iso_time(self._clock.now_ms()),
            self._limits.worker,
        )

    def _report(self, outcome: Outcome) -> None:
        """The canonical line of a row."""
        error = outcome.error
        reason = {"error": error.type, "class": error.failure_class, "reason": error.message} if error else {}
        log.info(
            "row_settled", status=outcome.status, agent_ms=outcome.execution_time_ms,
            attempts=outcome.attempts, **reason,
        )  # fmt: skip

    def _since(self, started: float) -> int:
        return round((self._clock.monotonic() - started) * 1000)


@asynccontextmanager
async def _place(target: Target, delivery: Delivery) -> AsyncIterator[None]:
    """One of the target's places; whoever has to wait for one lets nothing more be received."""
    if target.places.locked():
        with delivery.blocked():
            await target.places.acquire()
    else:
        await target.places.acquire()
    try:
        yield
    finally:
        target.places.release()


def _concerns(row: RowMessage, batch: Batch) -> bool:
    """Whether the row is still to be processed. Raises PoisonMessageError for an impossible one.

    `Runs` has read the batch after this row arrived, unless what it knew was enough.
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
