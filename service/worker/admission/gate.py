"""The gate of a target: admission control for the calls of one process.

A call needs a slot. The fair queue shares the slots among batches, and the AIMD limit sets their number. The
circuit breaker holds calls back while the target is down, the limiter while the fleet's rate limit is used
up, the commit backlog while outcomes of earlier calls cannot be stored.

If a row would wait long, the gate rejects it with the time after which it may come again. The worker requeues
it, so that it holds nothing and rows of other targets are fetched behind it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from service.domain import exact_json
from service.domain.errors import (
    AgentOutageError,
    AgentRetryableError,
    AgentThrottledError,
    AgentTimeoutError,
    CommitsWaitError,
    FailureScope,
    LimitReachedError,
    RowfleetError,
    TargetDownError,
    TargetFullError,
    TurnedAwayError,
)
from service.domain.model import Batch, Json
from service.domain.ports import BATCH_CALL_ENTRIES, Clock
from service.mapping.replies.transcript import Usage
from service.runtime.tasks import timeout
from service.worker.admission.circuit_breaker import CircuitBreaker
from service.worker.admission.commit_backlog import CommitBacklog
from service.worker.admission.concurrency_limit import AimdLimit, LoadSignal
from service.worker.admission.fair_queue import RECENT_S, FairQueue
from service.worker.rate_limit.limiter import Limiter, Permit

MAX_WAIT_S = 30.0
"""Longest wait for a slot. Then the row is requeued: another worker may have a slot free."""

MIN_REQUEUE_S = 5.0
MAX_REQUEUE_S = 10.0
"""Bounds of the delay before a row that was rejected for lack of a slot is redelivered.

The delay is the time since the last call started. A longer one would leave slots idle when the target
recovers.
"""

MAX_SUSPECTED_ATTEMPT = 2
"""A failure of unclear scope in a later attempt of a row is no sign of an outage, except in a trial call.

Rows that always fail are tried most often, and the last ones of a batch may be such rows only. The first
attempt of a row may have failed when the outage began.
"""

LIMIT_PAUSE_S = 1.0
"""No rows are fetched for a target for this long after its rate limit rejected one."""


@dataclass(slots=True)
class AdmittedCall:
    """A call that was admitted. The caller records its end with `record_reply` or `record_error`.

    A call whose end is not recorded (its task was cancelled, say) says nothing about the target.
    """

    gate: Gate
    row: str
    permit: Permit | None
    is_trial: bool
    started: float
    is_recorded: bool = False

    def check_turn(self) -> None:
        """Raise LimitReachedError if the call was admitted too long ago to begin under its rate limit now."""
        if self.permit is not None and self.gate.now() > self.permit.ends_at:
            raise LimitReachedError("its turn passed before its call could begin", retry_after_s=1.0)

    def record_reply(self, usage: Usage | None = None) -> bool:
        """The agent replied; `usage` is None if unknown. Return True if the target was down until now."""
        self._release_permit(usage)
        return self.gate.record_load(self, LoadSignal.ANSWERED)

    def record_error(self, error: RowfleetError, attempt: int = 1) -> bool:
        """The call, for this attempt, failed. Return True if that is news of the target."""
        self._release_permit(None)
        if isinstance(error, AgentThrottledError):
            return self.gate.record_throttle(self, error)
        if isinstance(error, AgentTimeoutError):
            return self.gate.record_load(self, LoadSignal.TIMED_OUT)
        if isinstance(error, AgentRetryableError) and error.scope is not FailureScope.ROW:
            return self.gate.record_failure(self, error, attempt)
        # Any other error is a reply as well: the target is up, whatever is wrong with the row.
        return self.gate.record_load(self, LoadSignal.ANSWERED)

    def leave(self) -> None:
        """End the call, whether or not its end was recorded."""
        if not self.is_recorded:
            self._release_permit(None)
            if self.is_trial:
                self.gate.breaker.cancel_trial()

    def _release_permit(self, usage: Usage | None) -> None:
        self.is_recorded = True
        if self.permit is not None:
            self.permit.release(usage)


class Admission:
    """The call of a row as an async context (`Gate.admit`)."""

    __slots__ = ("_batch", "_body", "_call", "_gate", "_row")

    def __init__(self, gate: Gate, batch: Batch, row: str, body: Json) -> None:
        self._gate = gate
        self._batch = batch
        self._row = row
        self._body = body

    async def __aenter__(self) -> AdmittedCall:
        self._call = await self._gate.begin(self._batch, self._row, self._body)
        return self._call

    async def __aexit__(self, *_: object) -> None:
        try:
            self._call.leave()
        finally:
            self._gate.release_slot(self._batch)


class Gate:
    """The gate of one target in one process, for at most `most` calls in flight.

    `on_change` is called whenever a row may be admitted that would have been rejected before, and when a
    commit in `backlog` has failed.
    """

    def __init__(
        self, most: int, limiter: Limiter | None, clock: Clock, on_change: Callable[[], None]
    ) -> None:
        self._concurrency = AimdLimit(most)
        self._queue = FairQueue(
            lambda: self._concurrency.limit, max_waiting=min(2 * BATCH_CALL_ENTRIES, most)
        )
        self._limiter = limiter
        self._clock = clock
        self._on_change = on_change
        self._paused_until = float("-inf")
        self._last_row_at = float("-inf")
        self._last_start_at = clock.monotonic()
        self._is_closed = False
        self.breaker = CircuitBreaker()
        self.backlog = CommitBacklog(clock, on_change)

    @property
    def is_busy(self) -> bool:
        """True if calls are in flight, rows wait, or none may begin because of the limit or the backlog."""
        is_in_use = bool(self._queue.in_flight or self._queue.waiting)
        return is_in_use or self._is_paused or self.backlog.is_late

    @property
    def is_recent(self) -> bool:
        """True if a row came for the target a moment ago, so that more may follow."""
        return self._clock.monotonic() - self._last_row_at < RECENT_S

    @property
    def capacity(self) -> int:
        """The number of rows that could start or wait now."""
        if self._is_paused or self.backlog.is_late:
            return 0
        now = self._clock.monotonic()
        # One row, for the trial call.
        if self.breaker.is_open:
            return 1 if self.breaker.wait_s(now) == 0 else 0
        return self._queue.capacity(now)

    @property
    def _is_paused(self) -> bool:
        return self._clock.monotonic() < self._paused_until

    def rejection_for(self, batch: Batch) -> TurnedAwayError | None:
        """The error with which a row of `batch` would be turned away for slots or the backlog, or None."""
        if self.backlog.is_late:
            return self._backlog_error()
        return self._full_error() if self._queue.is_full_for(batch) else None

    def admit(self, batch: Batch, row: str, body: Json) -> Admission:
        """The context of a row's call: it begins once the call may begin, and the call ends with it.

        `row` names the row, and `body` is the call's input. To begin raises TargetFullError, TargetDownError,
        CommitsWaitError or LimitReachedError, each with the time after which the row may come again, if the
        wait would be long.
        """
        return Admission(self, batch, row, body)

    async def begin(self, batch: Batch, row: str, body: Json) -> AdmittedCall:
        """Take a slot and begin the call of a row. Raises as `admit` says."""
        self._last_row_at = self._clock.monotonic()
        # Before a slot is taken: while no call may begin, rows should not wait here.
        self._check()
        await self._acquire_slot(batch)
        try:
            return await self._begin_call(row, body)
        except BaseException:
            self.release_slot(batch)
            raise

    def release_slot(self, batch: Batch) -> None:
        """Free the slot of a row; the consumer may fetch another one."""
        self._queue.release(batch)
        self._on_change()

    def now(self) -> float:
        """The present time, in monotonic seconds."""
        return self._clock.monotonic()

    def update(self, batch: Batch) -> None:
        """Take over priority, weight and cap of a batch."""
        self._queue.update(batch)
        self._on_change()

    def close(self) -> None:
        """Admit no more calls, and reject the rows that wait."""
        self._is_closed = True
        self._queue.reject_waiting()

    def record_load(self, call: AdmittedCall, signal: LoadSignal) -> bool:
        """Note a reply or a time-out. Return True if the target was down until now."""
        now = self._record_load(call, signal)
        # A time-out does not show whether the target is up or down.
        if signal is LoadSignal.TIMED_OUT:
            if call.is_trial:
                self.breaker.cancel_trial()
            return False
        return self.breaker.record_success(now)

    def record_throttle(self, call: AdmittedCall, error: AgentThrottledError) -> bool:
        """Note a throttle. Return True if that is news of the target."""
        return self.breaker.record_throttle(error, self._record_load(call, LoadSignal.THROTTLED))

    def record_failure(self, call: AdmittedCall, error: AgentRetryableError, attempt: int) -> bool:
        """Note an outage, or a failure of unclear scope in this attempt of a row.

        Return True if the breaker opened, or closed because the rows themselves seem to be the cause.
        """
        now = self._clock.monotonic()
        if not isinstance(error, AgentOutageError):
            # With the breaker open no limit on calls is needed, and the target may bear as many as before.
            is_load = error.scope is FailureScope.OVERLOAD and not self.breaker.is_open
            self._record_load(call, LoadSignal.THROTTLED if is_load else LoadSignal.ANSWERED)
        is_unclear = error.scope is not FailureScope.TARGET
        if is_unclear and not call.is_trial and attempt > MAX_SUSPECTED_ATTEMPT:
            return False
        return self.breaker.record_failure(
            error, now, row=call.row, is_trial=call.is_trial, call_s=now - call.started
        )

    def _record_load(self, call: AdmittedCall, signal: LoadSignal) -> float:
        """Note the end of a call in the concurrency limit. Return the present time."""
        now = self._clock.monotonic()
        self._concurrency.record(signal, started=call.started, now=now, in_flight=self._queue.in_flight)
        return now

    def _check(self) -> None:
        """Raise the reason for which no call may begin now, slots and rate limit apart."""
        if self.backlog.is_late:
            raise self._backlog_error()
        wait_s = self.breaker.wait_s(self._clock.monotonic())
        if wait_s > 0:
            raise TargetDownError(f"the target is down: {self.breaker.reason}", retry_after_s=wait_s)

    async def _acquire_slot(self, batch: Batch) -> None:
        if self._is_closed:
            raise TargetFullError("this process stops", retry_after_s=1.0)
        # A time-out costs a task, so most calls do without one.
        has_slot = self._queue.try_acquire(batch, self._clock.monotonic())
        if not has_slot:
            try:
                async with timeout(self._clock, MAX_WAIT_S):
                    has_slot = await self._queue.acquire(batch, self._clock.monotonic())
            except TimeoutError:
                has_slot = False
        if not has_slot:
            raise self._full_error()
        self._last_start_at = self._clock.monotonic()

    def _full_error(self) -> TargetFullError:
        return TargetFullError("every place of the target is taken", retry_after_s=self._requeue_s())

    def _backlog_error(self) -> CommitsWaitError:
        text = f"outcomes of the target wait for their commit ({self.backlog.reason})"
        return CommitsWaitError(text, retry_after_s=self._requeue_s())

    def _requeue_s(self) -> float:
        """Delay of a row that finds no slot: the time since the last call started, within bounds."""
        since_s = self._clock.monotonic() - self._last_start_at
        return min(MAX_REQUEUE_S, max(MIN_REQUEUE_S, since_s))

    async def _begin_call(self, row: str, body: Json) -> AdmittedCall:
        """Begin the call of a row that has a slot."""
        permit = None if self._limiter is None else await self._permit(self._limiter, body)
        try:
            # The breaker may have opened while the row waited, and outcomes may have become late.
            self._check()
        except TurnedAwayError:
            if permit is not None:
                permit.release(None)
            raise
        return AdmittedCall(self, row, permit, self.breaker.before_call(), self._clock.monotonic())

    async def _permit(self, limiter: Limiter, body: Json) -> Permit:
        """Wait for the rate limit. If it rejects the row, fetch no more rows for a moment."""
        try:
            return await limiter.admit(limiter.estimate(len(exact_json.dumps(body))))
        except LimitReachedError:
            self._paused_until = self._clock.monotonic() + LIMIT_PAUSE_S
            raise
