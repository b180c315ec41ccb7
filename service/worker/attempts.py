"""Trying: a row's input goes to its agent until there is an outcome, or a time to come again.

What a failure costs the row depends on its class. A transient one is an attempt. A throttle is none: it says
that the fleet asks too fast, and nothing of the row. Neither is an outage, unless the target serves others
meanwhile, or refuses the credentials of this row alone; so a target that is down, or a storm of throttles,
uses up no rows. Whatever it was, no attempt begins after `retry_policy.budget_seconds` or a deadline.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field, replace

import structlog

from service.batch.outcomes import LastAttempt
from service.domain.deadlines import Deadline, deadline_of
from service.domain.errors import (
    AgentCredentialsError,
    AgentOutageError,
    AgentRetryableError,
    AgentThrottledError,
    AgentTimeoutError,
    RetryableError,
    RowRejectedError,
    TargetDownError,
    TurnedAwayError,
)
from service.domain.messages import RowMessage
from service.domain.model import Json, Outcome, iso_time
from service.domain.ports import MAX_DELAY_S, Clock, Invocation, Reply
from service.mapping.replies.transcript import Usage
from service.runtime.delivery import Delivery
from service.runtime.metrics import Metrics
from service.runtime.timeouts import timeout
from service.worker.admission.gate import AdmittedCall
from service.worker.admission.outages import OutageBoard
from service.worker.batch_cache import CachedBatch, OpenTarget

log = structlog.get_logger(__name__)


GRACE_S = 5.0
"""An agent that does not keep its own time-out is cut off so much later."""


@dataclass(frozen=True, slots=True)
class AttemptLimits:
    """`worker` names this process in outcomes; a wait longer than `inline_wait_s` goes back to the queue."""

    worker: str
    inline_wait_s: float = 5.0
    grace_s: float = GRACE_S


@dataclass(slots=True)
class RowTask:
    """A row to be invoked: its message, the row with its cells (`claim_check`), where it goes, and the input.

    `excused` counts the attempts here that cost the row nothing.
    """

    message: RowMessage
    whole: RowMessage
    run: CachedBatch
    target: OpenTarget
    body: Json
    excused: int = field(default=0, init=False)

    @property
    def id(self) -> str:
        """The same for every attempt, so that an agent can tell a repetition."""
        return f"{self.message.batch_id}/{self.message.round}/{self.message.number}"

    @property
    def size(self) -> int:
        """Bytes that were read for it beside its message."""
        return self.message.span.length if self.message.span else 0

    def begin(self, now_ms: int) -> None:
        """Its first attempt begins now, if none did: that is what its deadline and its budget run from."""
        message, row_s = self.message, self.target.mapping.execution.row_deadline_s
        if message.first_attempt_ms is None:
            message = replace(message, first_attempt_ms=now_ms)
        if message.deadline_ms is None and row_s is not None:
            message = replace(message, deadline_ms=now_ms + round(row_s * 1000))
        self.message = message

    def deadline(self) -> Deadline:
        """When it fails, whatever happens."""
        return deadline_of(self.run.batch, self.message.deadline_ms)

    def budget_s(self, now_ms: int) -> float:
        """Seconds in which another attempt may begin."""
        if self.message.first_attempt_ms is None:
            return math.inf
        return self.target.mapping.execution.retry.budget_s - (now_ms - self.message.first_attempt_ms) / 1000


@dataclass(frozen=True, slots=True)
class Requeue:
    """The row is to be tried again in `delay_s` seconds, with this message."""

    message: RowMessage
    delay_s: int


@dataclass(frozen=True, slots=True)
class _Failure:
    """An attempt that failed and may be repeated. `excused`: it says nothing of the row."""

    attempt: LastAttempt
    error: AgentRetryableError
    reply: Json
    excused: bool


class Attempts:
    """Invokes agents for rows. `rng` spreads waits; seeded in tests."""

    def __init__(
        self,
        limits: AttemptLimits,
        clock: Clock,
        metrics: Metrics,
        outages: OutageBoard,
        *,
        rng: random.Random,
    ) -> None:
        self._limits = limits
        self._clock = clock
        self._metrics = metrics
        self._outages = outages
        self._rng = rng

    async def run(self, task: RowTask, delivery: Delivery) -> Outcome | Requeue:
        """Attempt after attempt, here while the waits are short."""
        while True:
            if self._left_s(task) <= 0:
                return self.attempt(task).failed(task.deadline().missed())
            try:
                ended = await self._attempt(task, delivery)
            except TurnedAwayError as error:
                return self._turned_away(task, error)
            if not isinstance(ended, _Failure):
                return ended
            after = self._after(task, ended)
            if not isinstance(after, float):
                return after
            await self._clock.sleep(after)

    def attempt(self, task: RowTask, started: float | None = None) -> LastAttempt:
        """An attempt that ends now; one without a start took the agent no time."""
        return LastAttempt(
            row=task.whole,
            columns=task.run.batch.columns,
            number=task.message.attempt,
            elapsed_ms=0 if started is None else self._since(started),
            timestamp=iso_time(self._clock.now_ms()),
            worker=self._limits.worker,
        )

    async def _attempt(self, task: RowTask, delivery: Delivery) -> Outcome | _Failure:
        """Let through by the gate, one call. Raises TurnedAwayError."""
        delivery.release_slot()  # from here on the gate counts it
        target = task.target
        async with target.gate.admit(task.run.batch, task.id, task.body) as call:
            delivery.check_lease()  # before the agent is paid for a row that is somebody else's by now
            task.begin(self._clock.now_ms())
            if self._left_s(task) <= 0:
                return self.attempt(task).failed(task.deadline().missed())
            ended, is_news = await self._call(task, call, delivery)
        if is_news:
            await self._outages.report(task.run.batch, target.gate.breaker.reason)
        return ended

    async def _call(
        self, task: RowTask, call: AdmittedCall, delivery: Delivery
    ) -> tuple[Outcome | _Failure, bool]:
        """How the call ended, and whether that is news of the target."""
        reply: Json = None
        try:
            answer = await self._ask(task)
            reply = answer.body
            delivery.report_bytes(task.size + answer.size)
            extraction = task.target.mapping.extract(reply)
        except (RowRejectedError, AgentRetryableError) as error:
            self._metrics.count(f"agent_failures_{error.kind}")
            self._metrics.count(f"agent_failures_{error.failure_class}")
            attempt = self.attempt(task, call.started)
            is_news = call.record_error(error)
            excused = self._is_excused(task, call, error)
            if isinstance(error, AgentRetryableError):
                return _Failure(attempt, error, reply, excused), is_news
            return attempt.failed(error, reply), is_news
        attempt = self.attempt(task, call.started)
        usage = Usage(extraction.input_tokens, extraction.output_tokens)
        is_news = call.record_reply(usage if usage != Usage() else None)
        return attempt.succeeded(extraction, provenance=task.run.batch.provenance), is_news

    async def _ask(self, task: RowTask) -> Reply:
        """One invocation, cut at its time-out or at the deadline."""
        row, target = task.message, task.target
        left_s = self._left_s(task)
        timeout_s = min(target.mapping.execution.timeout_s, left_s)
        invocation = Invocation(task.id, task.body, row.attempt, timeout_s)
        started = self._clock.monotonic()
        try:
            async with timeout(self._clock, min(timeout_s + self._limits.grace_s, left_s)):
                return await target.agent.invoke(invocation)
        except TimeoutError:
            raise AgentTimeoutError(f"no answer within {timeout_s:g} s") from None
        finally:
            self._metrics.observe("agent_latency_ms", self._since(started))

    def _is_excused(self, task: RowTask, call: AdmittedCall, error: Exception) -> bool:
        """Whether the failure is the target's alone.

        An outage is not where others were served since. A refusal of the credentials (HTTP 403, say) may be
        about the row, if no other row has met one.
        """
        if isinstance(error, AgentThrottledError):
            return True
        if not isinstance(error, AgentOutageError):
            return False
        since, last_outage_ms = call.started, task.message.last_outage_ms
        if last_outage_ms is not None:
            since = self._clock.monotonic() - (self._clock.now_ms() - last_outage_ms) / 1000
        breaker = task.target.gate.breaker
        is_the_rows = isinstance(error, AgentCredentialsError) and not breaker.seen_by_several_rows
        return breaker.last_success_at <= since and not is_the_rows

    def _after(self, task: RowTask, failure: _Failure) -> Outcome | Requeue | float:
        """What follows a failed attempt; a number is the seconds until the next one here."""
        now_ms, error, message = self._clock.now_ms(), failure.error, task.message
        self._metrics.count("agent_retries")
        policy = task.target.mapping.execution.retry
        if failure.excused:
            task.excused += 1
            last_outage_ms = now_ms if isinstance(error, AgentOutageError) else message.last_outage_ms
            task.message = replace(message, last_outage_ms=last_outage_ms)
        elif message.attempt < policy.max_attempts:
            task.message = replace(message, attempt=message.attempt + 1)
        is_last = task.message.attempt == message.attempt and not failure.excused
        wait_s = 0.0 if is_last else self._backoff(task, error)
        deadline = task.deadline()
        if wait_s >= deadline.left_s(now_ms):
            return failure.attempt.failed(deadline.missed(error), failure.reply)
        if is_last or wait_s >= task.budget_s(now_ms):
            return failure.attempt.failed(error, failure.reply)
        log.info(
            "attempt_failed", error=error.kind, reason=str(error), attempt=message.attempt, again_in_s=wait_s
        )
        if wait_s <= self._limits.inline_wait_s:
            return wait_s
        return Requeue(
            replace(task.message, lost_deliveries=0), round(wait_s)
        )  # its worker lived through an attempt

    def _backoff(self, task: RowTask, error: RetryableError) -> float:
        """Seconds before the next attempt: the agent's own wish, else what the policy says.

        Whole seconds, rounded up, for a row that goes back to its queue.
        """
        policy = task.target.mapping.execution.retry
        if error.retry_after_s is not None:
            wait_s = min(error.retry_after_s, MAX_DELAY_S) + self._rng.uniform(0, policy.base_s)
        else:
            # attempts that cost nothing are not counted, so that the time since the first has to tell
            waited_s = (
                (self._clock.now_ms() - (task.message.first_attempt_ms or 0)) / 1000 if task.excused else 0.0
            )
            wait_s = self._rng.uniform(*policy.wait_bounds_s(task.message.attempt + task.excused, waited_s))
        is_short = wait_s <= self._limits.inline_wait_s
        return wait_s if is_short else min(MAX_DELAY_S, math.ceil(wait_s))

    def _turned_away(self, task: RowTask, error: TurnedAwayError) -> Outcome | Requeue:
        """The gate has no place: the row comes again, holding nothing meanwhile."""
        now_ms = self._clock.now_ms()
        if isinstance(error, TargetDownError):
            task.begin(now_ms)  # a target that stays down does not keep its rows for ever
            if task.budget_s(now_ms) <= 0:
                return self.attempt(task).failed(AgentOutageError(str(error)))
        return Requeue(task.message, self.away_s(error, self._left_s(task)))

    def away_s(self, error: TurnedAwayError, left_s: float) -> int:
        """For how long a row is away that the gate turned away with `left_s` to its deadline; counts it."""
        self._metrics.count(f"rows_turned_away_{error.kind}")
        wait_s = (error.retry_after_s or 1.0) * self._rng.uniform(0.75, 1.5)
        return math.ceil(min(wait_s, MAX_DELAY_S, max(1.0, left_s)))

    def _left_s(self, task: RowTask) -> float:
        return task.deadline().left_s(self._clock.now_ms())

    def _since(self, started: float) -> int:
        return round((self._clock.monotonic() - started) * 1000)
