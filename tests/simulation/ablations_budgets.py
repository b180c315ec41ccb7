"""Ablations of budgets: the reservations inside which calls begin."""

from __future__ import annotations

from collections.abc import Sequence

from service.domain.model import Amounts, Batch
from service.worker.budgets.budgets import BudgetedCall, Budgets
from service.worker.budgets.ledger import BudgetLedger
from service.worker.budgets.ledger_store import BudgetStore
from tests.simulation.process import Components


class _UnaskedBudgets(Budgets):
    async def reserve(self, batch: Batch, need: Amounts) -> BudgetedCall:
        """Let the call begin, and settle it when there is room."""
        try:
            return await super().reserve(batch, need)
        except Exception:  # noqa: BLE001
            return BudgetedCall(need, ())


class NoReservations(Components):
    """A worker begins a call although there is no reservation for it."""

    budgets = _UnaskedBudgets


class _ForgettingStore(BudgetStore):
    @staticmethod
    def _taken_out(ledger: BudgetLedger, dead: Sequence[str]) -> BudgetLedger:
        for name in dead:
            ledger = ledger.without(name, ledger.shares[name].used)
        return ledger


class _ForgettingBudgets(Budgets):
    store = _ForgettingStore


class NoReservationsOfDead(Components):
    """What a dead worker had reserved comes back, as if none of its calls had been made."""

    budgets = _ForgettingBudgets
