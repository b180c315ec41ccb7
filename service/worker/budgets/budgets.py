"""Admission of calls under budgets: each begins inside a reservation, of the batch and of the day.

A call for which there is no room is refused, and its row goes back. Once nothing that is reserved can come
back, the batch is held.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import ClassVar, Self

import structlog

from service.batch.role_ports import Ports
from service.domain.errors import AccessError, BudgetReachedError, RetryableError
from service.domain.model import Amounts, Batch, Budget, Shortage, Spending, iso_time
from service.steering.budgets.holding import hold_for_budget
from service.worker.budgets.account import BudgetAccount, CallReservation
from service.worker.budgets.ledger import BudgetLedger
from service.worker.budgets.ledger_store import BudgetStore
from service.worker.budgets.ledger_sync import BudgetSync
from service.worker.budgets.marks import MarkTeller
from service.worker.budgets.needs import amounts_used, limited_need
from service.worker.budgets.records import day_key, own_key, record_ttl

log = structlog.get_logger(__name__)

LEASE_S = 30.0
"""A worker that has not written for so long counts as dead, with all that it had reserved."""

MAX_BUDGETS = 256
"""Budgets that a process keeps although no call is made under them; the oldest are forgotten first."""


@dataclass(slots=True)
class _Side:
    """One budget as this process uses it, and the batch that it was last used for."""

    batch: Batch
    day: str = ""
    sync: BudgetSync = field(init=False)

    @property
    def budget(self) -> Budget:
        budgets = self.batch.budgets
        return budgets.day if self.day else budgets.left_for_ledger


class BudgetedCall:
    """The reservations of one call, as a context. They are given back unless the call has begun.

    A call that has begun and is not settled at the end costs what was reserved for it.
    """

    __slots__ = ("_has_begun", "_need", "_reservations")

    def __init__(self, need: Amounts, reservations: Sequence[tuple[BudgetSync, CallReservation]]) -> None:
        self._need = need
        self._reservations = reservations
        self._has_begun = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._has_begun:
            self._settle(self._need)
        else:
            for sync, reservation in self._take():
                sync.give_back(reservation)

    def begin(self) -> None:
        """Note that the call begins."""
        self._has_begun = True

    def settle(self, spent: Spending, *, is_reply: bool) -> None:
        """Note what the call has cost. `is_reply`: it did not fail."""
        self._settle(amounts_used(spent, self._need, is_reply=is_reply))

    def _settle(self, used: Amounts) -> None:
        for sync, reservation in self._take():
            sync.settle(reservation, used)

    def _take(self) -> Sequence[tuple[BudgetSync, CallReservation]]:
        reservations, self._reservations = self._reservations, ()
        return reservations


class Budgets:
    """The budgets of one process. `owners` returns a new name for each entry in a ledger, used by no other.

    `lease_s`: see `LEASE_S`.
    """

    store: ClassVar[type[BudgetStore]] = BudgetStore

    def __init__(self, ports: Ports, *, owners: Callable[[], str], lease_s: float = LEASE_S) -> None:
        self._ports = ports
        self._owners = owners
        self._lease_s = lease_s
        self._marks = MarkTeller(ports)
        # By the key of the record, and for a day also by the budget: two versions of a mapping may differ.
        self._sides: OrderedDict[tuple[str, Budget | None], _Side] = OrderedDict()
        self._holding: set[str] = set()

    async def reserve(self, batch: Batch, need: Amounts) -> BudgetedCall:
        """Reserve what a call of the batch needs.

        Raises BudgetReachedError if there is no room for it; the batch is held if none can come back.
        """
        if not batch.budgets:
            return BudgetedCall(need, ())
        reserved: list[tuple[BudgetSync, CallReservation]] = []
        try:
            for side in self._sides_of(batch):
                reservation = await self._reserve(side, batch, need)
                reserved.append((side.sync, reservation))
        except BaseException:
            for sync, reservation in reserved:
                sync.give_back(reservation)
            raise
        return BudgetedCall(need, reserved)

    def check(self, batch: Batch) -> None:
        """Raise BudgetReachedError if a call of the batch was refused a moment ago."""
        if batch.budgets:
            for side in self._sides_of(batch):
                side.sync.check()

    async def close(self) -> None:
        """Settle all calls, which have ended, and give back what is reserved."""
        for side in self._sides.values():
            await side.sync.close()
        self._sides.clear()

    async def _reserve(self, side: _Side, batch: Batch, need: Amounts) -> CallReservation:
        try:
            return await side.sync.reserve(limited_need(need, side.budget))
        except BudgetReachedError:
            if side.sync.shortage is not None:
                await self._hold(batch, side.sync.shortage, is_day=bool(side.day))
            raise

    async def _hold(self, batch: Batch, shortage: Shortage, *, is_day: bool) -> None:
        """Hold the batch, unless another call does so at present. An error is only logged."""
        budget = batch.budgets.day if is_day else batch.budgets.left_for_ledger
        if batch.batch_id in self._holding or budget.exceeded_by(shortage.used + shortage.need) is None:
            return
        self._holding.add(batch.batch_id)
        try:
            await hold_for_budget(self._ports, batch, shortage, is_day=is_day)
        except (RetryableError, AccessError) as error:
            log.warning("budget_hold_not_made", batch_id=batch.batch_id, reason=str(error))
        finally:
            self._holding.discard(batch.batch_id)

    def _sides_of(self, batch: Batch) -> list[_Side]:
        """The sides of the budgets of a batch: its own, and that of its mapping for this day."""
        sides, budgets = [], batch.budgets
        if budgets.own:
            sides.append(self._side((own_key(batch), None), batch))
        if budgets.day:
            day = iso_time(self._ports.clock.now_ms())[:10]
            sides.append(self._side((day_key(batch.tool_name, day), budgets.day), batch, day))
        return sides

    def _side(self, key: tuple[str, Budget | None], batch: Batch, day: str = "") -> _Side:
        side = self._sides.get(key)
        if side is None:
            self._forget_unused()
            side = self._sides[key] = self._open(key[0], batch, day)
        elif batch.control >= side.batch.control or day:
            side.batch = batch
            side.sync.expires_at = record_ttl(batch, self._ports.clock.now_ms())
        self._sides.move_to_end(key)
        return side

    def _open(self, key: str, batch: Batch, day: str) -> _Side:
        ports, owner, account = self._ports, self._owners(), BudgetAccount()
        side = _Side(batch, day)
        store = self.store(
            ports.table, key, account,
            owner=owner, clock=ports.clock, metrics=ports.metrics, lease_s=self._lease_s,
        )  # fmt: skip
        name = (
            f"the budget of mapping {batch.tool_name} for {day}" if day else f"the budget of {batch.batch_id}"
        )

        async def report(ledger: BudgetLedger) -> None:
            await self._marks.look(side.batch, ledger, day)

        side.sync = BudgetSync(
            account, store, lambda: side.budget, report,
            name=name, owner=owner, clock=ports.clock, metrics=ports.metrics, lease_s=self._lease_s,
        )  # fmt: skip
        side.sync.expires_at = record_ttl(batch, ports.clock.now_ms())
        return side

    def _forget_unused(self) -> None:
        """Forget the budgets under which no call was made for longest, if they are many."""
        unused = [key for key, side in self._sides.items() if side.sync.is_unused]
        for key in unused[: max(0, len(self._sides) - MAX_BUDGETS)]:
            self._sides.pop(key).sync.forget()
