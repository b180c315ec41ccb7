"""The calls that one process may have in flight under a fleet-wide `concurrent` limit."""

from __future__ import annotations

import asyncio
import math

from service.worker.rate_limit.wait_queue import WaitQueue


class ConcurrencyQuota:
    """Calls in flight and the callers that wait to begin one.

    The ledger grants `held` calls in flight until `expires_at` (monotonic seconds). New calls begin while
    fewer than `quota` are in flight; `quota` is below `held` while the process has to give some back. `peak`
    is the highest demand since the last grant, `reported` the demand when the ledger was last asked, and
    `is_short` is True if it granted less.
    """

    def __init__(self) -> None:
        self.waiters: WaitQueue[None] = WaitQueue()
        self.held = 0
        self.quota = 0
        self.expires_at = -math.inf
        self.in_flight = 0
        self.peak = 0
        self.reported = 0
        self.is_short = False

    @property
    def demand(self) -> int:
        """Calls in flight and calls that wait."""
        return self.in_flight + len(self.waiters)

    @property
    def has_new_demand(self) -> bool:
        """True if calls wait of which the ledger does not know, and it granted all that it knew of."""
        return not self.is_short and len(self.waiters) > 0 and self.demand > self.reported

    @property
    def has_unused(self) -> bool:
        """True if calls have ended whose places the ledger wants back."""
        return self.held > max(self.quota, self.in_flight)

    def join(self, now: float) -> asyncio.Future[None]:
        """Queue for leave to begin a call. A waiter that was served counts as a call in flight."""
        waiter = self.waiters.join()
        self.dispatch(now)
        return waiter

    def report_demand(self) -> tuple[int, int]:
        """The calls in flight, and the number of calls in flight that is wanted."""
        self.reported = self.demand
        return self.in_flight, max(self.peak, self.demand)

    def lower(self, held: int, quota: int) -> None:
        """Stop using what is about to be given back. Never raises what is held."""
        self.held, self.quota = min(self.held, held), min(self.quota, quota)

    def grant(self, held: int, quota: int, expires_at: float, now: float) -> None:
        """Take over the grant of the ledger."""
        self.held, self.quota, self.expires_at = held, quota, expires_at
        self.is_short = quota < self.reported
        # The grant covered the peak until now. The next request asks for the peak from here on.
        self.peak = self.demand
        self.dispatch(now)

    def dispatch(self, now: float) -> None:
        """Let waiters begin their calls, up to the quota."""
        self.peak = max(self.peak, self.demand)
        while now < self.expires_at and self.in_flight < min(self.held, self.quota):
            if not self.waiters.serve(None):
                return
            self.in_flight += 1

    def release(self, now: float) -> None:
        """Note that a call has ended, or was not begun."""
        self.peak = max(self.peak, self.demand)
        self.in_flight -= 1
        self.dispatch(now)
