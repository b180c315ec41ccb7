"""The account of one process under one budget: what it has used and reserved, and the calls that wait.

All that the ledger grants is either `free`, or bound by a call until that is settled. Nothing here is
written: `ledger_store` does that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from service.domain.model import NO_AMOUNTS, Amounts
from service.worker.budgets.ledger import BudgetRequest

WEIGHT = 0.1
"""Weight of the latest call in the mean of what calls reserve."""


@dataclass(slots=True)
class CallReservation:
    """The right to make one call that uses `need` at most. It is settled, or given back, exactly once.

    `epoch` is that of the account at the time when it was made.
    """

    need: Amounts
    epoch: int


class BudgetAccount:
    """The account of one process under one budget."""

    def __init__(self) -> None:
        self._waiters: list[tuple[asyncio.Future[CallReservation], Amounts]] = []
        self._used = NO_AMOUNTS
        self._in_calls = NO_AMOUNTS
        self._free = NO_AMOUNTS
        # Used beyond reservations since the last write that is known to have been applied.
        self._excess = NO_AMOUNTS
        # What the write states that is under way.
        self._stated_used = self._stated_excess = NO_AMOUNTS
        self._typical = NO_AMOUNTS
        self._epoch = 0
        self.calls = 0
        self.begun = 0
        self.has_changed = False

    @property
    def waiting(self) -> int:
        """Calls that wait for a reservation."""
        return sum(not waiter.done() for waiter, _ in self._waiters)

    @property
    def needs(self) -> Sequence[Amounts]:
        """The amounts for which calls wait, in the order in which they came."""
        return [need for waiter, need in self._waiters if not waiter.done()]

    @property
    def is_idle(self) -> bool:
        """True if no call waits or is under way."""
        return not self.calls and not self.waiting

    @property
    def has_debt(self) -> bool:
        """True if something was used that the ledger may not have been told."""
        return self._used != NO_AMOUNTS

    # -- for calls

    def join(self, need: Amounts) -> asyncio.Future[CallReservation]:
        """Queue for a reservation. The caller passes the waiter to `wait`, or cancels it."""
        waiter: asyncio.Future[CallReservation] = asyncio.get_running_loop().create_future()
        self._waiters.append((waiter, need))
        is_first = self._typical == NO_AMOUNTS
        self._typical = need if is_first else _mean(self._typical, need)
        self.dispatch()
        return waiter

    async def wait(self, waiter: asyncio.Future[CallReservation]) -> CallReservation:
        """The reservation, once there is one. Raises the error with which the waiter was refused."""
        try:
            return await waiter
        except asyncio.CancelledError:
            # It may have been served after this task was cancelled and before it ran again.
            if not waiter.cancel() and not waiter.cancelled() and waiter.exception() is None:
                self.give_back(waiter.result())
            raise

    def give_back(self, reservation: CallReservation) -> None:
        """End a reservation whose call has not begun."""
        self.calls -= 1
        if reservation.epoch == self._epoch:
            self._in_calls -= reservation.need
            self._free += reservation.need
            self.dispatch()

    def settle(self, reservation: CallReservation, actual: Amounts) -> None:
        """End a reservation whose call has used `actual`."""
        self.calls -= 1
        self.has_changed = True
        excess = (actual - reservation.need).without_debt()
        if reservation.epoch == self._epoch:
            self._in_calls -= reservation.need
            self._used += actual
            self._excess += excess
        else:
            # All that was reserved counts as used already.
            self._used += excess
            self._excess += excess

    def dispatch(self) -> None:
        """Give reservations to the waiting calls that fit what is free."""
        left = []
        for waiter, need in self._waiters:
            if waiter.done():
                continue
            if not self._free.covers(need):
                left.append((waiter, need))
                continue
            self._free -= need
            self._in_calls += need
            self.calls += 1
            self.begun += 1
            self.has_changed = True
            waiter.set_result(CallReservation(need, self._epoch))
        self._waiters = left

    def refuse(self, make_error: Callable[[], Exception]) -> None:
        """End the wait of every call with an error of its own."""
        waiters, self._waiters = self._waiters, []
        for waiter, _ in waiters:
            if not waiter.done():
                waiter.set_exception(make_error())

    # -- for the ledger

    def request(self, worker: str, seq: int, *, is_due: bool) -> BudgetRequest:
        """The request to the ledger. What it states as used counts as told once it is written."""
        self._stated_used, self._stated_excess = self._used, self._excess
        # As many as have begun since the last request are expected until the next one.
        ahead, self.begun, self.has_changed = self.begun, 0, False
        return BudgetRequest(
            worker,
            seq,
            used=self._used,
            in_calls=self._in_calls,
            needs=self.needs,
            ahead=ahead,
            typical=self._typical,
            is_due=is_due,
        )

    def lower(self, free: Amounts) -> None:
        """Stop using what is about to be given back. Never raises what is free."""
        self._free = self._free.at_most(free)
        self._free_asked = self._free

    def take(self, free: Amounts) -> None:
        """Take over the grant, which holds now. Calls may have begun since it was asked for."""
        self._free += free - self._free_asked
        self._excess -= self._stated_excess
        self.dispatch()

    def give_up_free(self) -> None:
        """Begin no call inside what is free any more: it is given back."""
        self._free = NO_AMOUNTS

    def left(self) -> None:
        """Begin anew, without an entry in the ledger: all that the last request stated is told."""
        self._used -= self._stated_used
        self._excess -= self._stated_excess
        self._epoch += 1

    def forfeit(self) -> None:
        """Lose all reservations: the ledger counts them as used. Calls under way go on."""
        self._epoch += 1
        self._free = self._in_calls = NO_AMOUNTS
        self._used = self._excess


def _mean(mean: Amounts, need: Amounts) -> Amounts:
    def mixed(old: int, new: int) -> int:
        return round(old + WEIGHT * (new - old))

    return Amounts(
        1, max(1, mixed(mean.tokens, need.tokens)) if need.tokens else 0, mixed(mean.usd, need.usd)
    )
