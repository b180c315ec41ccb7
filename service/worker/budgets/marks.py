"""The marks of budgets that one process has told of, and the telling of the others."""

from __future__ import annotations

from collections import OrderedDict

import structlog

from service.batch.role_ports import Ports
from service.domain.errors import AccessError, RetryableError
from service.domain.model import Batch, EventKind
from service.steering.budgets.marks import BudgetMark, marks_reached, tell_of_mark
from service.worker.budgets.ledger import BudgetLedger
from service.worker.budgets.records import BudgetUse, BudgetUses, budgets_json

log = structlog.get_logger(__name__)

MAX_MARKS = 10_000
"""Marks that are remembered as told of; the oldest is forgotten first."""


class MarkTeller:
    """Tells of marks. An error of the table is only logged: the next look tells again."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self._told: OrderedDict[tuple[str, BudgetMark], None] = OrderedDict()

    async def look(self, batch: Batch, ledger: BudgetLedger, day: str) -> None:
        """Tell of the marks that the batch's own budget, or its mapping's for a `day`, has reached."""
        if EventKind.BUDGET not in batch.event_kinds:
            return
        budgets = batch.budgets
        budget, used = budgets.day if day else budgets.own, ledger.used
        used = used if day else used + budgets.before
        use = BudgetUse(used, ledger.reserved)
        uses = BudgetUses(day=use, date=day) if day else BudgetUses(own=use)
        for mark in marks_reached(budget, used, day):
            if (batch.identity, mark) in self._told:
                continue
            try:
                await tell_of_mark(self._ports, batch, mark, used, budgets_json(batch, uses) or {})
            except (RetryableError, AccessError) as error:
                log.warning("budget_mark_not_told", batch_id=batch.batch_id, reason=str(error))
                return
            self._told[batch.identity, mark] = None
            if len(self._told) > MAX_MARKS:
                self._told.popitem(last=False)
