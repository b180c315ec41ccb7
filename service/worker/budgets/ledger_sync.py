"""The task that keeps the account of one process in step with the ledger of a budget.

It writes about once a second while calls begin or end, not once per call. Calls that the ledger cannot serve
are refused at once, and so are all if the table fails: without a reservation no call begins.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog

from service.domain.errors import AccessError, BudgetReachedError, ConflictError, RetryableError
from service.domain.model import Amounts, Budget, Shortage
from service.domain.ports import Clock
from service.runtime.metrics import Metrics
from service.runtime.tasks import timeout
from service.worker.budgets.account import BudgetAccount, CallReservation
from service.worker.budgets.ledger import BudgetGrant, BudgetLedger
from service.worker.budgets.ledger_store import BudgetStore
from service.worker.rate_limit.contention import ContentionWindow

log = structlog.get_logger(__name__)

MIN_GAP_S = 0.25
"""Shortest time between two exchanges for calls that wait."""

KEEP_S = 1.0
"""Time between exchanges while calls begin and end, and from the last one until the entry is taken out."""

HEARTBEATS = 3
"""Writes in the time after which others take a worker for dead."""

TABLE_TIMEOUT_S = 5.0
"""An exchange that takes longer has failed."""

LONGEST_CONFLICT_S = 5.0
"""A pause after a conflict is no longer, so that the entry is renewed in time."""

BACKOFF_S = (1.0, 30.0)
"""Shortest and longest pause after an exchange that failed."""

REFUSED_S = 3.0
"""Time after which a call that was refused may find that something was given back. Until then others are
refused as well, unless the limits were changed."""

Report = Callable[[BudgetLedger], Awaitable[None]]
"""Is told of each state of the ledger."""


class BudgetSync:
    """One process's side of one budget, `name` in words. `budget` returns its present limits.

    `shortage`: the reason for which the last exchange has refused calls for good, None if there is none.
    """

    def __init__(
        self,
        account: BudgetAccount,
        store: BudgetStore,
        budget: Callable[[], Budget],
        report: Report,
        *,
        name: str,
        owner: str,
        clock: Clock,
        metrics: Metrics,
        lease_s: float,
    ) -> None:
        self._account = account
        self._store = store
        self._budget = budget
        self._report = report
        self._name = name
        self._clock = clock
        self._metrics = metrics
        self._lease_s = lease_s
        self._has_news = asyncio.Event()
        self._contention = ContentionWindow(f"{owner}/budget")
        self._asked_at = -math.inf
        self._pause_s = 0.0
        self._failing_until = -math.inf
        self._short_until = -math.inf
        self._short_of: Budget | None = None
        self._failures = 0
        self._task: asyncio.Task[None] | None = None
        self.shortage: Shortage | None = None

    @property
    def is_unused(self) -> bool:
        """True if nothing is held, wanted or owed, so that it can be forgotten."""
        account = self._account
        return account.is_idle and not (self._store.has_entry or account.has_debt)

    async def reserve(self, need: Amounts) -> CallReservation:
        """A reservation for one call. Raises BudgetReachedError if there is none at present."""
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        elif self._task.done():
            self._task.result()  # raises the error that ended it
        self.check()
        waiter = self._account.join(need)
        if not waiter.done() and self._clock.monotonic() < self._failing_until:
            waiter.cancel()
            raise self._away()
        self._has_news.set()
        return await self._account.wait(waiter)

    def check(self) -> None:
        """Raise BudgetReachedError if calls were refused a moment ago, under the present limits."""
        if self._clock.monotonic() < self._short_until and self._budget() == self._short_of:
            raise self._refusal()

    def give_back(self, reservation: CallReservation) -> None:
        """End a reservation whose call has not begun."""
        self._account.give_back(reservation)
        self._has_news.set()

    def settle(self, reservation: CallReservation, actual: Amounts) -> None:
        """End a reservation whose call has used `actual`."""
        self._account.settle(reservation, actual)
        self._has_news.set()

    @property
    def expires_at(self) -> int:
        """The time (seconds since 1970) until which the record is needed."""
        return self._store.expires_at

    @expires_at.setter
    def expires_at(self, value: int) -> None:
        self._store.expires_at = max(self._store.expires_at, value)

    def forget(self) -> None:
        """End the task of a budget that is unused."""
        if self._task is not None:
            self._task.cancel()

    async def close(self) -> None:
        """Settle, and give back what is reserved. No call may be under way any more."""
        if self._task is None:
            return
        self._task.cancel()
        [ended] = await asyncio.gather(self._task, return_exceptions=True)
        self.shortage = None
        self._account.refuse(lambda: BudgetReachedError("this process stops", retry_after_s=1.0))
        try:
            async with timeout(self._clock, TABLE_TIMEOUT_S):
                await self._store.leave()
        except (RetryableError, AccessError, TimeoutError) as problem:
            # All that is reserved counts as used once others take this process for dead.
            log.warning("budget_not_given_back", budget=self._name, reason=str(problem))
        if isinstance(ended, Exception):
            raise ended

    async def _run(self) -> None:
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

    def _due_at(self) -> float:
        """When to exchange next, in monotonic seconds; infinite if nothing is held or wanted."""
        account = self._account
        if account.waiting:
            due_at = self._asked_at + MIN_GAP_S
        elif account.has_changed or (account.is_idle and not self.is_unused):
            due_at = self._asked_at + KEEP_S
        elif self.is_unused:
            return math.inf
        else:
            due_at = max(self._asked_at + KEEP_S, self._store.written_at + self._lease_s / HEARTBEATS)
        return max(due_at + self._pause_s, self._failing_until)

    async def _exchange(self) -> None:
        ledger = None
        self._asked_at = self._clock.monotonic()
        is_due = self._asked_at >= self._store.written_at + self._lease_s / HEARTBEATS
        is_last = self._account.is_idle and not self._account.has_changed
        try:
            async with timeout(self._clock, TABLE_TIMEOUT_S):
                if is_last:
                    await self._store.leave()
                else:
                    ledger = self._take(*await self._store.exchange(self._budget(), is_due=is_due))
        except ConflictError:
            # The table works, so no call is refused. Those that conflicted must not meet again.
            self._pause_s = min(LONGEST_CONFLICT_S, self._contention.conflict())
        except (RetryableError, AccessError, TimeoutError) as error:
            self._record_failure(error)
        else:
            self._failures, self._pause_s = 0, 0.0
            self._contention.granted(0.0)
            if ledger is not None:
                await self._report(ledger)

    def _take(self, ledger: BudgetLedger, grant: BudgetGrant) -> BudgetLedger:
        """Refuse the calls for which there is no reservation at present. Return the state of the ledger."""
        self.shortage = grant.shortage
        if grant.is_short and (waiting := self._account.waiting):
            self._metrics.count("budget_refusals", waiting)
            self._short_until, self._short_of = self._clock.monotonic() + REFUSED_S, self._budget()
            self._account.refuse(self._refusal)
        return ledger

    def _refusal(self) -> BudgetReachedError:
        """The error for a call for which there is no room."""
        return BudgetReachedError(f"{self._name} has no room for another call", retry_after_s=REFUSED_S)

    def _away(self) -> BudgetReachedError:
        """The error for a call while the ledger cannot be asked."""
        self._metrics.count("budget_refusals")
        wait_s = max(1.0, self._failing_until - self._clock.monotonic())
        return BudgetReachedError(f"the ledger of {self._name} cannot be reached", retry_after_s=wait_s)

    def _record_failure(self, error: Exception) -> None:
        """Back off, and refuse the calls that wait: without the table nothing is reserved."""
        shortest_s, longest_s = BACKOFF_S
        backoff_s = min(longest_s, shortest_s * 2**self._failures)
        self._failures += 1
        self._failing_until = self._clock.monotonic() + backoff_s
        self.shortage = None
        self._metrics.count("budget_failures")
        log.warning("budget_not_asked", budget=self._name, reason=str(error), backoff_s=backoff_s)
        self._account.refuse(self._away)
