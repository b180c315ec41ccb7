"""Budgets that somebody changes, and holds for a budget that is used up: what lifts them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from service.domain.budgets.options import (
    BUDGET_OPTIONS,
    amount_json,
    amount_of,
    amount_text,
    budget_text,
    option_of,
    parse_budget,
)
from service.domain.errors import UsageError
from service.domain.model import (
    Amounts,
    Batch,
    BatchBudgets,
    BatchView,
    Budget,
    BudgetKind,
    Hold,
    HoldReason,
    Json,
    Shortage,
    iso_time,
    ms_of,
)

DAY_MS = 86_400_000


def changes_budget(args: Mapping[str, Json]) -> bool:
    """True if the arguments of a request change the budget of the batch."""
    return any(args.get(name) is not None for name in BUDGET_OPTIONS)


def with_limits(view: BatchView, args: Mapping[str, Json]) -> Batch:
    """The batch with the limits that the arguments state. Raises UsageError."""
    asked, present = parse_budget(args), view.batch.budgets.own
    if not asked:
        return view.batch
    return with_budget(
        view, Budget(**{kind.value: _first(asked.of(kind), present.of(kind)) for kind in BudgetKind})
    )


def with_budget(view: BatchView, own: Budget) -> Batch:
    """The batch with a budget of its own, which counts all that it has used from its beginning on.

    Raises UsageError for a budget of money without the prices of its calls.
    """
    batch, before = view.batch, view.batch.budgets
    if problem := price_problem(own, batch.prices):
        raise UsageError(f"batch {batch.batch_id}: {problem}")
    used = before.before
    if own and not before.own:
        # No ledger knows of the calls so far.
        spent = view.spending
        used = Amounts(spent.calls, spent.tokens, spent.cost)
    return replace(batch, budgets=replace(before, own=own, before=used))


def price_problem(budget: Budget, prices: Mapping[str, Json] | None) -> str:
    """The reason why a budget of money cannot be kept, "" if it can be or is none."""
    if budget.usd is None:
        return ""
    remedy = "state the prices in its mapping (`pricing`), or limit tokens or calls instead"
    if prices is None:
        return f"a budget in USD needs the price of a call, which is not known: {remedy}"
    if prices["currency"] != "USD":
        return f"a budget in USD needs prices in USD, and `pricing` states {prices['currency']}: {remedy}"
    return ""


def raised(view: BatchView, args: Mapping[str, Json]) -> Batch:
    """As `with_limits`, for a batch that goes on with more. Raises UsageError for a limit that is lower."""
    batch = with_limits(view, args)
    for kind, limit in batch.budgets.own.limits():
        present = view.batch.budgets.own.of(kind)
        if present is not None and limit < present:
            raise UsageError(
                f"{option_of(kind)}: batch {batch.batch_id} has a budget of {amount_text(kind, present)} and "
                f"goes on with a higher one; `rowfleet set {batch.batch_id}` may lower it"
            )
    return batch


def describe_budget(budgets: BatchBudgets) -> str:
    """The budget of the batch in words."""
    return f"a budget of {budget_text(budgets.own)}"


def budget_hold(batch: Batch, shortage: Shortage, *, is_day: bool, by: str, now_ms: int) -> Hold:
    """The hold of a batch whose budget, or whose mapping's of this day, has no room for another call."""
    kind = shortage.kind
    limit = (batch.budgets.day if is_day else batch.budgets.own).of(kind) or 0
    used = shortage.used if is_day else shortage.used + batch.budgets.before
    least = used.of(kind) + shortage.need.of(kind)
    until = iso_time((now_ms // DAY_MS + 1) * DAY_MS) if is_day else ""
    spent = f"{amount_text(kind, used.of(kind))} of {amount_text(kind, limit)}"
    if is_day:
        text = (
            f"the budget of mapping {batch.tool_name} for this day is used up: {spent}; it goes on by itself "
            f"at {until}, or before by `rowfleet resume {batch.batch_id} --mapping-now` once the mapping "
            "states a higher `budget`"
        )
    else:
        text = (
            f"its budget is used up: {spent}, and the next call may need "
            f"{amount_text(kind, shortage.need.of(kind))}; `rowfleet resume "
            f"{batch.batch_id} {option_of(kind)} N` goes on, with N from {amount_json(kind, least)}"
        )
    detail: dict[str, Json] = {
        "reason": text,
        "budget": "day" if is_day else "batch",
        "kind": kind.value,
        "cap": amount_json(kind, limit),
        "spent": amount_json(kind, used.of(kind)),
        "least": amount_json(kind, least),
    }
    return Hold(HoldReason.BUDGET, by, iso_time(now_ms), detail | ({"until": until} if until else {}))


def is_over(hold: Hold, batch: Batch, now_ms: int) -> bool:
    """True if the present budget of the batch allows what it did not at the time of the hold."""
    detail = hold.detail
    is_day = detail["budget"] == "day"
    if is_day and now_ms >= ms_of(str(detail["until"])):
        return True
    kind = BudgetKind(detail["kind"])
    limit = (batch.budgets.day if is_day else batch.budgets.own).of(kind)
    return limit is None or limit >= amount_of(kind, detail["least"])


def _first(asked: int | None, present: int | None) -> int | None:
    return present if asked is None else asked
