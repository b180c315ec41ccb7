"""The task that keeps a process's start slots and concurrency quota supplied from the shared ledger.

It asks the ledger about once a second while callers wait, not once per call. Whenever the ledger cannot grant
in time, or the table fails, waiting callers are refused: without a grant no call begins.
"""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress
from typing import Any

import structlog

from service.domain.errors import AccessError, ConflictError, LimitReachedError, RetryableError
from service.domain.ports import Clock
from service.runtime.metrics import Metrics
from service.runtime.tasks import timeout
from service.worker.rate_limit.concurrency_quota import ConcurrencyQuota
from service.worker.rate_limit.contention import ContentionWindow
from service.worker.rate_limit.ledger import HORIZON_MS, LimitGrant
from service.worker.rate_limit.ledger_store import Demand, LedgerStore, LocalGrant
from service.worker.rate_limit.start_slots import SlotSchedule

log = structlog.get_logger(__name__)

MIN_GAP_S = 0.25
"""Shortest time between two exchanges for start slots."""

AHEAD_S = 0.5
"""A worker asks for more slots this long before its last one."""

KEEP_S = 1.0
"""Time between exchanges while the process holds or wants calls in flight: others may want some of them."""

LOOKS_PER_S = 100
"""Exchanges a second of all workers that hold calls in flight: with more workers, each comes less often."""

LONGEST_WAIT_S = 60.0
"""A worker that holds no calls in flight but wants some looks at the record this often at least."""

LONGEST_CONFLICT_S = 5.0
"""A pause after a conflict is no longer, so that a lease is renewed in time."""

TABLE_TIMEOUT_S = 5.0
"""An exchange that takes longer has failed."""

BACKOFF_S = (1.0, 30.0)
"""Shortest and longest pause after an exchange that failed."""


class LedgerSync:
    """Fills `slots` and `quota` (None without a `concurrent` limit)."""

    def __init__(
        self,
        ledger: LedgerStore,
        slots: SlotSchedule,
        quota: ConcurrencyQuota | None,
        *,
        limit_name: str,
        owner: str,
        clock: Clock,
        metrics: Metrics,
        max_wait_s: float,
    ) -> None:
        self._ledger = ledger
        self._slots = slots
        self._quota = quota
        self._limit_name = limit_name
        self._clock = clock
        self._metrics = metrics
        self._max_wait_s = max_wait_s
        self._has_news = asyncio.Event()
        self._asked_at = -math.inf
        self._slots_asked_at = -math.inf
        self._no_slots_until = -math.inf  # the ledger reserves nothing before
        self._contention = ContentionWindow(owner)
        self._slots_due_at = -math.inf
        self._quota_contention = ContentionWindow(f"{owner}/quota")
        self._quota_gap_s = KEEP_S
        self._quota_pause_s = 0.0
        self._failing_until = -math.inf  # the table is not asked before
        self._failures = 0

    async def run(self) -> None:
        """Exchange with the ledger whenever that is due, until cancelled."""
        while True:
            self._has_news.clear()
            wait_s = self._due_at() - self._clock.monotonic()
            if wait_s <= 0:
                await self._exchange()
            elif wait_s == math.inf:
                await self._has_news.wait()
            else:
                with suppress(TimeoutError):
                    async with timeout(self._clock, wait_s):
                        await self._has_news.wait()

    def request_for(self, waiter: asyncio.Future[Any]) -> None:
        """Have the ledger asked for `waiter`, unless it was served.

        Cancels the waiter and raises LimitReachedError if no grant can come within `max_wait_s`.
        """
        if waiter.done():
            return
        now = self._clock.monotonic()
        if now < self._failing_until or self._no_slots_until > now + self._max_wait_s:
            waiter.cancel()
            raise self.refusal("no turn within", self._max_wait_s)
        self._has_news.set()

    def refusal(self, text: str, seconds: float, min_retry_s: float = 1.0) -> LimitReachedError:
        """The error for a caller that cannot begin in time.

        It may retry after `min_retry_s`, or when the ledger can grant again if that is later.
        """
        self._metrics.count("limit_refusals")
        now = self._clock.monotonic()
        retry_s = max(min_retry_s, self._failing_until - now, self._no_slots_until - now)
        return LimitReachedError(
            f"the limit {self._limit_name} is used up: {text} {seconds:.3g} s", retry_after_s=retry_s
        )

    def refuse_waiting(self, text: str, seconds: float) -> None:
        """Refuse every caller that waits for a slot or the quota."""
        self._slots.waiters.fail_all(lambda: self.refusal(text, seconds))
        if self._quota is not None:
            self._quota.waiters.fail_all(lambda: self.refusal(text, seconds))

    def _due_at(self) -> float:
        """When to exchange next, in monotonic seconds; infinite if nothing is held or wanted."""
        due_at = math.inf
        if len(self._slots.waiters):
            due_at = max(self._slots_asked_at + MIN_GAP_S, self._slots_due_at)
        quota = self._quota
        if quota is not None and (quota.held or quota.demand):
            # The first caller beyond the quota does not wait for the next regular exchange.
            is_urgent = quota.has_new_demand or quota.has_unused
            gap_s = MIN_GAP_S if is_urgent else self._quota_gap_s
            due_at = min(due_at, self._asked_at + gap_s + self._quota_pause_s)
        return max(due_at, self._failing_until)

    async def _exchange(self) -> None:
        self._asked_at = self._clock.monotonic()
        try:
            async with timeout(self._clock, TABLE_TIMEOUT_S):
                grant = await self._ledger.exchange(self._demand, self._give_up)
        except ConflictError:
            # The table works, so no caller is refused. Those that conflicted must not meet again.
            pause_s = self._contention.conflict()
            self._slots_due_at = max(self._slots_due_at, self._asked_at + MIN_GAP_S + pause_s)
            self._quota_pause_s = min(LONGEST_CONFLICT_S, self._quota_contention.conflict())
        except (RetryableError, AccessError, TimeoutError) as error:
            self._record_failure(error)
        else:
            self._failures = 0
            self._take(grant)

    def _demand(self) -> Demand:
        now = self._clock.monotonic()
        # The last reservation suffices until shortly before its end. This exchange may be for the quota only.
        waiting = len(self._slots.waiters) if now >= self._slots_due_at else 0
        if waiting:
            self._slots_asked_at = now
        in_flight, wanted = self._quota.report_demand() if self._quota is not None else (0, 0)
        return Demand(waiting, self._slots.mean_cost, in_flight, wanted)

    def _give_up(self, grant: LimitGrant) -> None:
        """Stop using what `grant` takes away, before others can see it."""
        if self._quota is not None:
            self._quota.lower(grant.held, grant.quota)

    def _take(self, local: LocalGrant) -> None:
        """Pass what was granted on to the callers that wait."""
        grant, now = local.grant, self._clock.monotonic()
        if self._quota is not None:
            self._take_quota(self._quota, local, now)
        if grant.reservation is not None:
            ahead_s = local.start_at - local.asked_at
            self._slots.add(
                start_at=local.start_at,
                interval_s=grant.reservation.interval_ms / 1000,
                count=grant.reservation.count,
                cost=local.cost,
                now=now,
            )
            self._slots_due_at = self._slots.last_at - AHEAD_S + self._contention.granted(ahead_s)
        if grant.retry_ms:
            self._no_slots_until = local.asked_at + grant.retry_ms / 1000
            self._slots_due_at = self._no_slots_until + self._contention.taken()
            # A slot that can be reserved then begins up to a horizon later.
            if self._no_slots_until + HORIZON_MS / 1000 > now + self._max_wait_s:
                self.refuse_waiting("no turn within", self._max_wait_s)

    def _take_quota(self, quota: ConcurrencyQuota, local: LocalGrant, now: float) -> None:
        grant = local.grant
        # A share that was not written anew ends when the one in the record does.
        expires_at = quota.expires_at
        if grant.must_write and grant.lease_ms is not None:
            expires_at = local.asked_at + grant.lease_ms / 1000
        quota.grant(grant.held, grant.quota, expires_at, now)
        self._quota_pause_s = 0.0
        self._quota_gap_s = KEEP_S * max(1.0, grant.workers / LOOKS_PER_S)
        if not grant.held:
            # All that wait look about twice a second, so that a call that is free does not stay so.
            self._quota_gap_s = MIN_GAP_S + self._quota_contention.among(1 + grant.waiters, LONGEST_WAIT_S)
        elif grant.must_write:
            self._quota_contention.granted(0.0)

    def _record_failure(self, error: Exception) -> None:
        """Back off, and refuse the callers: without the table nothing is granted."""
        shortest_s, longest_s = BACKOFF_S
        backoff_s = min(longest_s, shortest_s * 2**self._failures)
        self._failures += 1
        self._failing_until = self._clock.monotonic() + backoff_s
        self._metrics.count("limit_failures")
        log.warning("limit_not_asked", limit=self._limit_name, reason=str(error), backoff_s=backoff_s)
        self.refuse_waiting("its ledger cannot be reached; again in", backoff_s)
