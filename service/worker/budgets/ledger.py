"""The shared ledger of one budget: all that was used and reserved under it, by worker. Pure.

An entry states what its worker has used and reserved in all, and not a change. So a write may be repeated,
and one whose answer was lost does no harm: the next one states the same numbers.

A worker takes its entry out when it ends. The entry of a dead worker is taken out by another one, and all
that it had reserved counts as used from then on: its calls may have been made.

The ledger does not know the limits. They are those of whoever asks, and may change between two requests.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from service.domain.model import NO_AMOUNTS, Amounts, Budget, Shortage

SHARE_OF_ROOM = 2
"""A reservation ahead of demand takes at most this part (a half) of the worker's equal share of the room."""


@dataclass(frozen=True, slots=True)
class BudgetShare:
    """The entry of a worker: all that its calls have used, and what it has reserved beyond.

    `seq` numbers its writes, so that it recognises its own, and others see that it lives.
    """

    seq: int = 0
    used: Amounts = NO_AMOUNTS
    reserved: Amounts = NO_AMOUNTS


@dataclass(frozen=True, slots=True)
class BudgetRequest:
    """A worker's request, its write number `seq`.

    - `used`: all that its calls have used since its entry was made.
    - `in_calls`: reservations of its calls under way.
    - `needs`: those of the calls that wait, in their order.
    - `ahead`: calls like `typical` that are expected before the next request.
    - `is_due`: the entry is to be written although nothing has changed, so that others see that it lives.
    """

    worker: str
    seq: int
    used: Amounts = NO_AMOUNTS
    in_calls: Amounts = NO_AMOUNTS
    needs: Sequence[Amounts] = ()
    ahead: int = 0
    typical: Amounts = NO_AMOUNTS
    is_due: bool = False


@dataclass(frozen=True, slots=True)
class BudgetGrant:
    """The answer to a request, and `ledger`, the new state. It holds once that is written.

    The worker may begin calls that fit `free` in all. `is_short`: not every call that waits is served. If
    none is, and nothing is reserved that might be given back, `shortage` says what is lacking.
    """

    ledger: BudgetLedger
    free: Amounts
    must_write: bool
    is_short: bool = False
    shortage: Shortage | None = None


@dataclass(frozen=True, slots=True)
class BudgetLedger:
    """The state of one budget: what workers that have left or died have used, and the others' entries."""

    settled: Amounts = NO_AMOUNTS
    shares: Mapping[str, BudgetShare] = field(default_factory=dict)

    @property
    def used(self) -> Amounts:
        """All that calls have used, with the reservations of dead workers."""
        return sum((share.used for share in self.shares.values()), self.settled)

    @property
    def reserved(self) -> Amounts:
        """All that is reserved and not used yet."""
        return sum((share.reserved for share in self.shares.values()), NO_AMOUNTS)

    def has_written(self, worker: str, seq: int) -> bool:
        """True if this state includes the worker's write number `seq`, even if others have written since."""
        return worker in self.shares and self.shares[worker].seq == seq

    def grant(self, request: BudgetRequest, budget: Budget) -> BudgetGrant:
        """Reserve what the waiting calls need, as far as the budget has room, and something ahead."""
        before = self.shares.get(request.worker)
        others = {name: share for name, share in self.shares.items() if name != request.worker}
        bound = sum((share.used + share.reserved for share in others.values()), self.settled)
        bound += request.used + request.in_calls
        free, left = _serve(request.needs, bound, budget)
        if not left:
            free += request.typical.times(_ahead(request, bound + free, budget, len(others) + 1))
        share = BudgetShare(request.seq, request.used, request.in_calls + free)
        is_changed = before is None or replace(before, seq=request.seq) != share
        if before is None and share == BudgetShare(request.seq):
            is_changed = False  # a worker that has nothing needs no entry
        reserved = sum((other.reserved for other in others.values()), request.in_calls + free)
        shortage = _shortage(left, bound, budget) if reserved == NO_AMOUNTS else None
        return BudgetGrant(
            ledger=replace(self, shares=others | {request.worker: share}),
            free=free,
            must_write=is_changed or (before is not None and request.is_due),
            is_short=bool(left),
            shortage=shortage,
        )

    def without(self, worker: str, used: Amounts) -> BudgetLedger:
        """The state after a worker has left that has used so much, with no call under way."""
        shares = {name: share for name, share in self.shares.items() if name != worker}
        return BudgetLedger(self.settled + used, shares)

    def without_dead(self, workers: Iterable[str]) -> BudgetLedger:
        """The state without the entries of dead workers: what they had reserved counts as used."""
        dead = {name: self.shares[name] for name in workers if name in self.shares}
        if not dead:
            return self
        settled = sum((share.used + share.reserved for share in dead.values()), self.settled)
        return BudgetLedger(settled, {name: share for name, share in self.shares.items() if name not in dead})


def _serve(needs: Sequence[Amounts], bound: Amounts, budget: Budget) -> tuple[Amounts, Sequence[Amounts]]:
    """The sum of the needs that fit beside what is bound, and the others. A small one passes a large one."""
    served, left = NO_AMOUNTS, []
    for need in needs:
        if budget.exceeded_by(bound + served + need) is None:
            served += need
        else:
            left.append(need)
    return served, left


def _shortage(needs: Sequence[Amounts], used: Amounts, budget: Budget) -> Shortage | None:
    """The shortage of the call that needs least of what it lacks."""
    found = [
        Shortage(kind, used, need) for need in needs if (kind := budget.exceeded_by(used + need)) is not None
    ]
    return min(found, key=lambda shortage: shortage.least, default=None)


def _ahead(request: BudgetRequest, bound: Amounts, budget: Budget, workers: int) -> int:
    """The calls to reserve ahead of demand.

    Close to the limit they become fewer, down to none: what a worker holds in vain keeps others waiting.
    """
    room = budget.room(bound, request.typical)
    return request.ahead if room is None else min(request.ahead, room // (SHARE_OF_ROOM * workers))
