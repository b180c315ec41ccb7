"""Marks of a budget: events at 50, 80 and 100 % of it, each once for a batch and a limit.

An event is written with an operation on the batch, whose request is named after the mark. So whichever
process sees it first tells of it, and no other one does again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from service.batch.role_ports import Ports
from service.domain.budgets.options import amount_json, amount_text
from service.domain.errors import UsageError
from service.domain.model import Amounts, Batch, BatchView, Budget, BudgetKind, EventKind, Json
from service.domain.operation_requests import OperationRequest
from service.steering.decisions import OPEN, Decision, News
from service.steering.operate import ROWFLEET, decide_and_apply

MARKS = (50, 80, 100)
"""Percents of a budget that others are told of."""

TOLD = "budget"
"""The operation that tells of a mark; nobody asks for it."""


@dataclass(frozen=True, slots=True)
class BudgetMark:
    """So many `percent` of a limit are used. `day`: that of a daily budget (YYYY-MM-DD), or ""."""

    percent: int
    kind: BudgetKind
    limit: int
    day: str = ""

    @property
    def request_id(self) -> str:
        """The name of the request that tells of it."""
        day = f"{self.day}-" if self.day else ""
        return f"budget-{day}{self.kind}-{self.limit}-{self.percent}"

    def text(self, used: int) -> str:
        """The mark in words."""
        of_day = f" for {self.day}" if self.day else ""
        return (
            f"{self.percent} % of the budget{of_day} are used: {amount_text(self.kind, used)} of "
            f"{amount_text(self.kind, self.limit)}"
        )


def marks_reached(budget: Budget, used: Amounts, day: str = "") -> Iterator[BudgetMark]:
    """The marks of a budget of which so much is used."""
    for kind, limit in budget.limits():
        for percent in MARKS:
            if used.of(kind) * 100 >= limit * percent:
                yield BudgetMark(percent, kind, limit, day)


async def tell_of_mark(
    ports: Ports, batch: Batch, mark: BudgetMark, used: Amounts, budget: Mapping[str, Json]
) -> None:
    """Tell others that a batch that has not ended has reached a mark. Safe to repeat.

    The last calls before a hold may reach it. `budget` is that of its status. Raises RetryableError and
    AccessError.
    """
    text = mark.text(used.of(mark.kind))
    args: dict[str, Json] = {
        "percent": mark.percent,
        "kind": mark.kind.value,
        "cap": amount_json(mark.kind, mark.limit),
        **({"day": mark.day} if mark.day else {}),
    }

    def decide(now: BatchView, _request: OperationRequest, _now_ms: int) -> Decision:
        if now.batch.identity != batch.identity or now.batch.state not in OPEN:
            return Decision("the batch has ended since its budget was looked at")
        status = {"budget": {**budget, "reached": args}}
        return Decision(text, now.batch, args, News(EventKind.BUDGET, mark.request_id, status))

    request = OperationRequest(TOLD, batch.batch_id, mark.request_id, ROWFLEET, args)
    try:
        await decide_and_apply(ports, request, decide)
    except UsageError:
        return  # the batch has expired
