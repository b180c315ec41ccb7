"""Working: a row message becomes an invocation, an outcome, and a settled row (steps 4 to 7).

Every row ends as one outcome, SUCCESS or FAILED; what is retried and what is not is decided by the class of
the error (`errors`). Nothing here knows how an agent is reached or how outcomes are stored.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import structlog

from service.consume import Delivery
from service.errors import (
    AgentRetryableError,
    AgentTimeoutError,
    BadRecordError,
    PoisonMessageError,
    RetryableError,
    RowRejectedError,
)
from service.messages import RowMessage
from service.model import Batch, Json, Outcome, State, iso_time, row_id
from service.outbox import send_all
from service.outcomes import Attempt
from service.ports import MAX_DELAY_S, Clock, Invocation, Outgoing, Queue, Reply, Table
from service.runs import Run, Runs, Target
from service.settle import Settler
from service.telemetry import Metrics

log = structlog.get_logger(__name__)

TAKES_ROWS = frozenset({State.SPLITTING, State.RUNNING})


@dataclass(frozen=True, slots=True)
class WorkLimits:
    """`worker` names this process in outcomes; a retry that waits longer than `inline_wait_s` is re-sent.

    An agent that does not keep its own time-out is cut off `grace_s` later.
    """

    worker: str
    inline_wait_s: float = 5.0
    grace_s: float = 5.0


class Worker:
    """Handles row messages. `rng` spreads retries; seeded in tests."""

    def __init__(
        self,
        table: Table,
        rows_queue: Queue,
        runs: Runs,
        settler: Settler,
        limits: WorkLimits,
        clock: Clock,
        metrics: Metrics,
        rng: random.Random,
    ) -> None:
        self._table = table
        self._rows_queue = rows_queue
        self._runs = runs
        self._settler = settler
        self._limits = limits
        self._clock = clock
        self._metrics = metrics
        self._rng = rng

    async def handle(self, delivery: Delivery) -> None:
        """Process one row and return when it is settled. Raises what `consume` understands."""
        row = RowMessage.decode(delivery.message.body)
        run = await self._runs.get(row.batch_id, row.round)
        if run is None:
            raise PoisonMessageError(f"there is no batch {row.batch_id!r} in the table")
        with structlog.contextvars.bound_contextvars(batch_id=row.batch_id, row_id=row_id(row.number)):
            if not _concerns(row, run.batch):
                return
            suspect = row.replay or delivery.message.receives > 1
            if suspect and await self._is_committed(run.batch, row):
                self._metrics.count("rows_skipped")
                log.info("row_was_committed", receives=delivery.message.receives, replay=row.replay)
                outcome = None
            elif run.target is None:
                return
            else:
                outcome = await self._process(row, run, run.target, delivery)
                if outcome is None:
                    return
            delivery.free()
            await self._settle(row, run, outcome)

    async def _is_committed(self, batch: Batch, row: RowMessage) -> bool:
        outcome = await self._table.outcome(batch, row.number)
        return outcome is not None and outcome.round >= row.round

    async def _settle(self, row: RowMessage, run: Run, outcome: Outcome | None) -> None:
        """Commit and check. An outcome that the table cannot hold is one more way to fail."""
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
        number = row.attempt
        try:
            if row.defect:
                raise BadRecordError(row.defect)
            body = target.mapping.body(run.batch.columns, row.cells)
        except RowRejectedError as error:
            return self._attempt(row, run, number).failed(error)
        while True:
            async with _place(target, delivery):
                delivery.check_lease()  # before the agent is paid for a row that is somebody else's by now
                started = self._clock.monotonic()
                reply: Json = None
                try:
                    reply = (await self._ask(row, target, body, number)).body
                    extraction = target.mapping.extract(reply)
                except (RowRejectedError, AgentRetryableError) as error:
                    failure = error
                    self._metrics.count(f"agent_failures_{error.kind}")
                else:
                    attempt = self._attempt(row, run, number, started)
                    return attempt.succeeded(extraction, provenance=run.batch.provenance)
            attempt = self._attempt(row, run, number, started)
            if not isinstance(failure, AgentRetryableError):
                return attempt.failed(failure, reply)
            self._metrics.count("agent_retries")
            if number >= target.mapping.execution.retry.max_attempts:
                return attempt.failed(failure, reply)
            number += 1
            wait = self._backoff(target, number, failure)
            if wait > self._limits.inline_wait_s:
                await self._send_again(row, run.batch, number, wait)
                return None
            await self._clock.sleep(wait)

    async def _ask(self, row: RowMessage, target: Target, body: Json, attempt: int) -> Reply:
        """One invocation."""
        timeout_s = target.mapping.execution.timeout_s
        invocation = Invocation(f"{row.batch_id}/{row.round}/{row.number}", body, attempt, timeout_s)
        started = self._clock.monotonic()
        try:
            async with asyncio.timeout(timeout_s + self._limits.grace_s):
                return await target.agent.invoke(invocation)
        except TimeoutError:
            raise AgentTimeoutError(f"no answer within {timeout_s:g} s") from None
        finally:
            self._metrics.observe("agent_latency_ms", self._since(started))

    def _backoff(self, target: Target, attempt: int, error: RetryableError) -> float:
        """Seconds before `attempt`: the agent's own wish, else what the policy says."""
        policy = target.mapping.execution.retry
        if error.retry_after_s is not None:
            return min(error.retry_after_s, MAX_DELAY_S) + self._rng.uniform(0, policy.base_s)
        return self._rng.uniform(*policy.bounds_s(attempt))

    async def _send_again(self, row: RowMessage, batch: Batch, attempt: int, wait_s: float) -> None:
        """Put the row back with a delay and its next attempt; its present message is then deleted."""
        delay_s = min(MAX_DELAY_S, math.ceil(wait_s))
        again = replace(row, attempt=attempt)
        await send_all(self._rows_queue, [Outgoing(again.encode(), batch.batch_id, delay_s)])
        self._metrics.count("rows_sent_again")
        log.info("row_sent_again", attempt=attempt, delay_s=delay_s)

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
        reason = {"error": error.type, "reason": error.message} if error else {}
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
    """Whether the row is still to be processed. Raises PoisonMessageError for an impossible one."""
    if row.round > batch.round:
        raise PoisonMessageError(f"round {row.round} of a batch whose round is {batch.round}")
    if batch.total is not None and row.number > batch.total:
        raise PoisonMessageError(f"row {row.number} of a batch of {batch.total} rows")
    if row.round < batch.round or batch.state not in TAKES_ROWS:
        log.info("row_dropped", row_round=row.round, batch_round=batch.round, state=batch.state)
        return False
    return True
