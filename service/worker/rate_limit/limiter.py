"""A worker's side of a `rate_limit` that holds for the whole fleet: when a call may begin.

A caller first waits for leave to have a call in flight (`concurrency_quota`), then for its start time
(`start_slots`). Both are granted in blocks by the shared ledger (`ledger_sync`). If the table fails, calls
wait or are refused: the limit holds.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Self

import structlog

from service.domain.errors import AccessError, RetryableError
from service.domain.ports import Clock, Table
from service.mapping.definition import RateLimit
from service.mapping.replies.transcript import Usage
from service.runtime.metrics import Metrics
from service.runtime.tasks import timeout
from service.worker.rate_limit.concurrency_quota import ConcurrencyQuota
from service.worker.rate_limit.gcra import Tokens
from service.worker.rate_limit.ledger_store import LedgerStore
from service.worker.rate_limit.ledger_sync import TABLE_TIMEOUT_S, LedgerSync
from service.worker.rate_limit.start_slots import LATE_S, SlotSchedule, StartSlot
from service.worker.rate_limit.token_estimates import TokenEstimates

log = structlog.get_logger(__name__)


class Permit:
    """Leave to make one call, now. The caller must `release` it when the call has ended, however it ended.

    The call may begin until `ends_at`, in monotonic seconds: later, it could be one too many.
    """

    __slots__ = ("_on_release", "ends_at")

    def __init__(self, on_release: Callable[[Usage | None], None], ends_at: float = math.inf) -> None:
        self._on_release: Callable[[Usage | None], None] | None = on_release
        self.ends_at = ends_at

    def release(self, usage: Usage | None) -> None:
        """End the call and reconcile its tokens; None if the usage is unknown. To be called exactly once."""
        assert self._on_release is not None, "a permit is settled once"
        on_release, self._on_release = self._on_release, None
        on_release(usage)


class Limiter:
    """Admits calls under one rate limit. An async context manager: leaving it gives back what is held.

    Every permit has to be released by then. May be entered and left by different tasks.

    - `owner` is a name that no other Limiter ever has, not even one of the same process.
    - `call_s` is the longest time that a call takes.
    - `max_tokens` is the mapping's setting, if it has one: the output assumed for the first call.
    - `max_wait_s` is the longest time that a caller waits.
    - `ttl_s` is how long a grant of calls in flight lasts, or longer if many workers hold some. A crashed
      process's share is free `max_wait_s + call_s` later, when none of its calls can be in flight any more.
    """

    def __init__(
        self,
        table: Table,
        limit: RateLimit,
        *,
        owner: str,
        clock: Clock,
        metrics: Metrics,
        call_s: float,
        max_tokens: int | None = None,
        max_wait_s: float = 5.0,
        ttl_s: float = 20.0,
    ) -> None:
        self._limit = limit
        self._clock = clock
        self._metrics = metrics
        self._max_wait_s = max_wait_s
        self._estimates = TokenEstimates(max_tokens)
        self._slots = SlotSchedule()
        self._quota = ConcurrencyQuota() if limit.concurrent is not None else None
        self._is_paced = _is_paced(limit)
        self._ledger = LedgerStore(
            table,
            limit,
            owner=owner,
            clock=clock,
            metrics=metrics,
            lease_s=ttl_s,
            # A call that begins at the end of a grant, after the longest wait, ends before the share does.
            margin_s=max_wait_s + call_s,
        )
        self._sync = LedgerSync(
            self._ledger, self._slots, self._quota,
            limit_name=limit.name, owner=owner, clock=clock, metrics=metrics,
            max_wait_s=max_wait_s,
        )  # fmt: skip
        self._sync_task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._sync_task = asyncio.create_task(self._sync.run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._sync_task is not None
        self._sync_task.cancel()
        [ended] = await asyncio.gather(self._sync_task, return_exceptions=True)
        self._sync.refuse_waiting("this process stops", 1.0)
        if self._quota is None or not self._quota.in_flight:
            try:
                async with timeout(self._clock, TABLE_TIMEOUT_S):
                    await self._ledger.leave()
            except (RetryableError, AccessError, TimeoutError) as problem:
                # The share expires by itself.
                log.warning("limit_not_given_back", limit=self._limit.name, reason=str(problem))
        if isinstance(ended, Exception):
            raise ended

    def estimate(self, body_bytes: int) -> Usage:
        """Estimate the tokens of a call with an input of `body_bytes`, by the calls so far."""
        return self._estimates.of(body_bytes)

    async def admit(self, estimate: Usage) -> Permit:
        """Return a permit at the moment when the call may begin.

        Raises LimitReachedError if that would take longer than `max_wait_s`.
        """
        assert self._sync_task is not None, "a limiter is entered first"
        if self._sync_task.done():
            self._sync_task.result()  # raises the error that ended it
        began = self._clock.monotonic()
        ends_at = began + self._max_wait_s
        try:
            async with timeout(self._clock, self._max_wait_s):
                # The quota comes first: a start slot would expire while its caller waits.
                await self._acquire_quota()
                try:
                    slot = await self._acquire_slot(estimate, ends_at)
                except BaseException:
                    self._release_quota()
                    raise
        except TimeoutError:
            raise self._sync.refusal("no turn within", self._max_wait_s, self._max_wait_s) from None
        self._metrics.observe("limit_wait_ms", (self._clock.monotonic() - began) * 1000)
        if self._is_paced:
            ends_at = min(ends_at, slot.at + LATE_S)
        return Permit(partial(self._end_call, estimate, self._estimates.ratio, slot), ends_at)

    async def _acquire_quota(self) -> None:
        if self._quota is None:
            return
        waiter = self._quota.join(self._clock.monotonic())
        self._sync.request_for(waiter)
        await self._quota.waiters.wait(waiter, lambda _: self._release_quota())

    def _release_quota(self) -> None:
        if self._quota is not None:
            self._quota.release(self._clock.monotonic())

    async def _acquire_slot(self, estimate: Usage, deadline: float) -> StartSlot:
        """Return a start slot at its time. Raises LimitReachedError if the next one is after `deadline`."""
        if not self._is_paced:
            return StartSlot(self._clock.monotonic())
        tokens = Tokens(estimate.input_tokens, estimate.output_tokens)
        is_retry = False
        while True:
            waiter = self._slots.join(tokens, self._clock.monotonic(), at_front=is_retry)
            self._sync.request_for(waiter)
            slot = await self._slots.waiters.wait(waiter, self._release_slot)
            if await self._sleep_until(slot, deadline):
                return slot
            # The process slept through the slot's time. Its next slot comes before those of later callers.
            is_retry = True

    async def _sleep_until(self, slot: StartSlot, deadline: float) -> bool:
        """Sleep until the slot's time. Return False if the process woke up too late to use it."""
        wait_s = slot.at - self._clock.monotonic()
        if slot.at > deadline:
            self._release_slot(slot)
            raise self._sync.refusal("the next turn begins in", wait_s)
        try:
            if wait_s > 0:
                await self._clock.sleep(wait_s)
        except asyncio.CancelledError:
            self._release_slot(slot)
            raise
        return self._clock.monotonic() <= slot.at + LATE_S

    def _release_slot(self, slot: StartSlot) -> None:
        self._slots.release(slot, self._clock.monotonic())

    def _end_call(self, estimate: Usage, ratio: float, slot: StartSlot, usage: Usage | None) -> None:
        self._release_quota()
        if usage == Usage():
            usage = None  # the reply does not report its tokens
        if usage is not None:
            self._estimates.learn(estimate, ratio, usage)
        if self._is_paced:
            used = usage or estimate
            self._ledger.owe(Tokens(used.input_tokens, used.output_tokens) - slot.cost)


def _is_paced(limit: RateLimit) -> bool:
    """True if `limit` has more than a `concurrent` limit: its calls need start slots."""
    per_minute = (
        limit.requests_per_minute,
        limit.input_tokens_per_minute,
        limit.output_tokens_per_minute,
    )
    return any(number is not None for number in per_minute)
