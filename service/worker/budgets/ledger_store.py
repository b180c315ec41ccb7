"""The store of a budget's ledger, as one worker reads and writes it by compare-and-swap.

If the answer of a write is lost, the write may or may not have been applied. The budget holds in both cases:

- a reservation that may have been made is not used,
- one that may have been given back counts as given back from before the write,
- what was used is stated anew by the next write, as a sum, so it counts once.

A worker is dead if its entry has not changed for `lease_s` by the clock of another one that has looked at it
since. So no two clocks are compared, and a worker that is only slow does no harm: all that it had reserved
counts as used, and it begins no further call inside it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from service.domain.errors import ConflictError
from service.domain.model import Budget
from service.domain.ports import Clock, SharedRecord, Table
from service.runtime.metrics import Metrics
from service.worker.budgets.account import BudgetAccount
from service.worker.budgets.ledger import BudgetGrant, BudgetLedger
from service.worker.budgets.ledger_text import read_budget, write_budget

MAX_ATTEMPTS = 8
"""Writes of a worker that leaves. Each fails only if another worker wrote first."""


class LivingWorkers:
    """The workers of a ledger as one of them sees the others: which have not written for `lease_s`."""

    def __init__(self, lease_s: float) -> None:
        self._lease_s = lease_s
        # By worker: the number of its last write, and since when (monotonic seconds) it is known.
        self._seen: dict[str, tuple[int, float]] = {}

    def dead(self, ledger: BudgetLedger, now: float) -> list[str]:
        """The workers that have not written for too long, by a look at the ledger at `now`."""
        seen = {}
        for name, share in ledger.shares.items():
            known = self._seen.get(name)
            seen[name] = known if known is not None and known[0] == share.seq else (share.seq, now)
        self._seen = seen
        return [name for name, (_, since) in seen.items() if now - since >= self._lease_s]


class BudgetStore:
    """The ledger under `key`, as the worker of `account` reads and writes it.

    `owner` is a name that no other BudgetStore ever has. `expires_at` is the time (seconds since 1970) until
    which the record is needed. The last write was made at `written_at`, in monotonic seconds.
    """

    def __init__(
        self,
        table: Table,
        key: str,
        account: BudgetAccount,
        *,
        owner: str,
        clock: Clock,
        metrics: Metrics,
        lease_s: float,
    ) -> None:
        self._table = table
        self._key = key
        self._account = account
        self._owner = owner
        self._clock = clock
        self._metrics = metrics
        self._others = LivingWorkers(lease_s)
        self._seq = 0
        self._has_entry = False
        self.expires_at = 0
        self.written_at = -math.inf

    @property
    def has_entry(self) -> bool:
        """True if the ledger has an entry of this worker, as far as it knows."""
        return self._has_entry

    async def exchange(self, budget: Budget, *, is_due: bool) -> tuple[BudgetLedger, BudgetGrant]:
        """State what the account has used, and reserve what it needs under `budget`.

        Return the state of the ledger and the grant, which the account has got. Raises ConflictError if
        another worker wrote first, RetryableError and AccessError.
        """
        record = await self._table.record(self._key)
        ledger, has_dead = self._look(record)
        self._seq += 1
        request = self._account.request(self._owner, self._seq, is_due=is_due)
        grant = ledger.grant(request, budget)
        self._account.lower(grant.free)
        if (grant.must_write or has_dead) and await self._swap(grant.ledger, record) is not None:
            raise ConflictError(f"another worker wrote the record {self._key} first")
        self._account.take(grant.free)
        return grant.ledger, grant

    async def leave(self) -> None:
        """Give back what is reserved and take the entry out. No call may be under way any more.

        One that comes meanwhile waits, even if the table takes long: its entry is about to be gone.
        """
        self._account.give_up_free()
        record = await self._table.record(self._key)
        for _ in range(MAX_ATTEMPTS):
            ledger, _ = self._look(record)
            if not (self._has_entry or self._account.has_debt):
                return
            self._seq += 1
            request = self._account.request(self._owner, self._seq, is_due=True)
            newer = await self._swap(ledger.without(self._owner, request.used), record, is_last=True)
            if newer is None:
                self._account.left()
                return
            record = newer

    def _look(self, record: SharedRecord) -> tuple[BudgetLedger, bool]:
        """The ledger in the record, without the entries of dead workers, and True if it had any.

        If this worker's own entry is gone, others took it for dead: the account loses what it had reserved.
        """
        ledger = read_budget(record.text)
        has_entry = self._owner in ledger.shares
        if self._has_entry and not has_entry:
            self._metrics.count("budget_reservations_lost")
            self._account.forfeit()
        self._has_entry = has_entry
        dead = [name for name in self._others.dead(ledger, self._clock.monotonic()) if name != self._owner]
        return self._taken_out(ledger, dead), bool(dead)

    @staticmethod
    def _taken_out(ledger: BudgetLedger, dead: Sequence[str]) -> BudgetLedger:
        """The ledger without the entries of dead workers."""
        return ledger.without_dead(dead)

    async def _swap(
        self, ledger: BudgetLedger, record: SharedRecord, *, is_last: bool = False
    ) -> SharedRecord | None:
        """Write `ledger` over `record`. Return None if that succeeded, else the record that stands now."""
        text = write_budget(ledger, by=f"{self._owner}/{self._seq}")
        self._metrics.count("budget_writes")
        asked_at = self._clock.monotonic()
        current = await self._table.swap(self._key, text, version=record.version, ttl=self.expires_at)
        if current.text == text or (not is_last and self._includes_our_write(current)):
            self._has_entry, self.written_at = not is_last, asked_at
            return None
        self._metrics.count("budget_conflicts")
        return current

    def _includes_our_write(self, current: SharedRecord) -> bool:
        """True if our write was applied, its answer was lost, and another worker has written after it."""
        return read_budget(current.text).has_written(self._owner, self._seq)
