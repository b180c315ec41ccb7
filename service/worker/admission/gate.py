"""The gate of a target: when a row's call may begin, and what the target's answers mean for the next ones.

A call needs a place (`shares`: batches share them by priority and weight), of which there are as many as the
target takes well (`level`); it waits while the target serves nobody (`breaker`) and while the fleet's limit
has no room (`limiter`). A row that would wait long is turned away with a time to come again: the worker puts
it back in its queue, so that it holds nothing and rows of other targets are seen behind it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from service.domain import exact_json
from service.domain.errors import (
    AgentOutageError,
    AgentThrottledError,
    AgentTimeoutError,
    LimitReachedError,
    RowfleetError,
    TargetDownError,
    TargetFullError,
)
from service.domain.model import Batch, Json
from service.domain.ports import SEND_LIMIT, Clock
from service.mapping.replies.transcript import Usage
from service.runtime.timeouts import timeout
from service.worker.admission.circuit_breaker import CircuitBreaker
from service.worker.admission.concurrency_limit import AimdLimit, LoadSignal
from service.worker.admission.fair_queue import RECENT_S, FairQueue
from service.worker.rate_limit.limiter import Limiter, Permit

MAX_WAIT_S = 30.0
"""Longest wait for a place: another worker may have one free."""

FULL_S = 5.0
LONGEST_FULL_S = 10.0
"""A row that finds no room comes again after as long as no row has got a place, within these bounds.

Longer, and places would stand empty while the last rows of a slow target are away.
"""

SHUT_S = 1.0
"""For so long no rows are fetched for a target after its limit turned one away."""


@dataclass(slots=True)
class AdmittedCall:
    """A call that was let through. How it ended is told with `answered` or `failed`, or not at all."""

    gate: Gate
    row: str
    permit: Permit | None
    is_trial: bool
    started: float
    is_told: bool = False

    def record_reply(self, usage: Usage | None = None) -> bool:
        """The agent answered, and says what it took; returns whether a target that was down is back."""
        self._tell(usage)
        return self.gate.record_end(self, LoadSignal.ANSWERED)

    def record_error(self, error: RowfleetError) -> bool:
        """The call failed; returns whether that makes its target one that is down, or back."""
        self._tell(None)
        if isinstance(error, AgentOutageError):
            return self.gate.record_outage(self, f"{error.kind}: {error}")
        if isinstance(error, AgentThrottledError):
            return self.gate.record_end(self, LoadSignal.THROTTLED)
        is_late = isinstance(error, AgentTimeoutError)
        return self.gate.record_end(self, LoadSignal.TIMED_OUT if is_late else LoadSignal.ANSWERED)

    def leave(self) -> None:
        """The call is over, whether or not it was told how."""
        if not self.is_told:
            self._tell(None)
            if self.is_trial:
                self.gate.breaker.cancel_trial()

    def _tell(self, usage: Usage | None) -> None:
        self.is_told = True
        if self.permit is not None:
            self.permit.release(usage)


class Gate:
    """The gate of one target in one process. `on_change` is called whenever a row may fit that did not."""

    def __init__(
        self, most: int, limiter: Limiter | None, clock: Clock, on_change: Callable[[], None]
    ) -> None:
        self._concurrency = AimdLimit(most)
        self._queue = FairQueue(lambda: self._concurrency.limit, max_waiting=min(2 * SEND_LIMIT, most))
        self._limiter = limiter
        self._clock = clock
        self._on_change = on_change
        self._shut_until = self._seen_at = float("-inf")
        self._last_start = clock.monotonic()
        self._is_closed = False
        self.breaker = CircuitBreaker()

    @property
    def is_busy(self) -> bool:
        """Whether calls are under way or rows wait, or it is shut."""
        now = self._clock.monotonic()
        return bool(self._queue.in_flight or self._queue.waiting) or now < self._shut_until

    @property
    def is_recent(self) -> bool:
        """Whether a row for it came a moment ago, so that more may follow."""
        return self._clock.monotonic() - self._seen_at < RECENT_S

    @property
    def capacity(self) -> int:
        """Rows that could come now and start, or wait a little."""
        now = self._clock.monotonic()
        if now < self._shut_until:
            return 0
        if self.breaker.is_open:
            return int(self.breaker.wait_s(now) == 0)
        return self._queue.capacity(now)

    def rejection(self, batch: Batch) -> TargetFullError | None:
        """What a row of the batch would be turned away with at once, because the target is full."""
        return self._full() if self._queue.is_full_for(batch) else None

    @asynccontextmanager
    async def admit(self, batch: Batch, row: str, body: Json) -> AsyncIterator[AdmittedCall]:
        """A call of the row called `row`, with input `body`, which may begin. Waits for its turn, a little.

        Raises TargetFullError or TargetDownError, with a time to come again, where that is not soon.
        """
        self._seen_at = self._clock.monotonic()
        self._check_breaker()
        await self._take_place(batch)
        try:
            call = await self._let_through(row, body)
            try:
                yield call
            finally:
                call.leave()
        finally:
            self._queue.release(batch)
            self._on_change()

    def close(self) -> None:
        """Let nobody begin any more; who waits is turned away."""
        self._is_closed = True
        self._queue.reject_waiting()

    def record_end(self, call: AdmittedCall, ended: LoadSignal) -> bool:
        """A call ended, and not by an outage; returns whether the target was down until now.

        One that timed out says nothing of that: it may be the target's last row, or its first.
        """
        now = self._clock.monotonic()
        self._concurrency.record(ended, started=call.started, now=now, in_flight=self._queue.in_flight)
        if ended is LoadSignal.TIMED_OUT:
            if call.is_trial:
                self.breaker.cancel_trial()
            return False
        return self.breaker.record_success(now)

    def record_outage(self, call: AdmittedCall, reason: str) -> bool:
        """A call ended by an outage; returns whether the target is left alone from now on, for a while."""
        now = self._clock.monotonic()
        return self.breaker.record_failure(reason, now, row=call.row, is_trial=call.is_trial)

    def _check_breaker(self) -> None:
        wait_s = self.breaker.wait_s(self._clock.monotonic())
        if wait_s > 0:
            raise TargetDownError(f"the target is down: {self.breaker.reason}", retry_after_s=wait_s)

    async def _take_place(self, batch: Batch) -> None:
        if self._is_closed:
            raise TargetFullError("this process stops", retry_after_s=1.0)
        has_place = self._queue.try_acquire(
            batch, self._clock.monotonic()
        )  # a time-out is a task: not for all
        if not has_place:
            try:
                async with timeout(self._clock, MAX_WAIT_S):
                    has_place = await self._queue.acquire(batch, self._clock.monotonic())
            except TimeoutError:
                has_place = False
        if has_place:
            self._last_start = self._clock.monotonic()
            return
        raise self._full()

    def _full(self) -> TargetFullError:
        since_s = self._clock.monotonic() - self._last_start
        wait_s = min(LONGEST_FULL_S, max(FULL_S, since_s))
        return TargetFullError("every place of the target is taken", retry_after_s=wait_s)

    async def _let_through(self, row: str, body: Json) -> AdmittedCall:
        """The call of a row that has a place."""
        permit = None
        if self._limiter is not None:
            try:
                permit = await self._limiter.admit(self._limiter.estimate(len(exact_json.dumps(body))))
            except LimitReachedError:
                self._shut_until = self._clock.monotonic() + SHUT_S
                raise
        try:
            self._check_breaker()  # it may have opened meanwhile
        except TargetDownError:
            if permit is not None:
                permit.release(None)
            raise
        return AdmittedCall(self, row, permit, self.breaker.before_call(), self._clock.monotonic())


class Gates:
    """All gates of a process, and how many rows it could take. `subscribe` before the first is opened."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._gates: list[Gate] = []
        self._listener: Callable[[], None] = lambda: None

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever there may be more room."""
        self._listener = listener

    def open(self, most: int, limiter: Limiter | None) -> Gate:
        """A gate for a target with at most `most` calls in flight."""
        gate = Gate(most, limiter, self._clock, lambda: self._listener())  # noqa: PLW0108 -- it may come later
        self._gates.append(gate)
        return gate

    def close(self) -> None:
        """The process stops: calls under way may end, and no other begins."""
        for gate in self._gates:
            gate.close()

    def free_slots(self, most: int) -> int:
        """How many of the next rows in the queue could start or wait a little, `most` where none is known.

        Whose they are is not known before they are here. While some target has no room, only one whose rows
        have been coming counts: there is no use in fetching rows to put them back.
        """
        busy = [gate for gate in self._gates if gate.is_busy]
        counting = busy if all(gate.capacity for gate in busy) else [g for g in self._gates if g.is_recent]
        return max((gate.capacity for gate in counting), default=0 if busy else most)
