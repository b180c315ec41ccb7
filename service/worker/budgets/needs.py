"""The most that a call uses, as far as that is known before, and the amounts that it has used. Pure.

A token is at least one byte of what is sent, so its bytes bound the input. The output is bounded by the
mapping's limit. Without one it is what calls have used on average, and a call may exceed its reservation.
"""

from __future__ import annotations

from collections.abc import Callable

from service.domain import exact_json
from service.domain.model import Amounts, Batch, Budget, BudgetKind, Json, Spending
from service.mapping import Prices, RowMapping

FRAME_TOKENS = 100
"""Tokens that a provider adds around what is sent, at most."""


def call_need(batch: Batch, mapping: RowMapping, body: Json, expected_output: Callable[[], int]) -> Amounts:
    """The most that a call with the input `body` uses; `expected_output` where nothing limits its output."""
    if not _counts_tokens(batch):
        return Amounts(calls=1)
    sent = exact_json.dumps([body, mapping.target.options])
    input_tokens = len(sent.encode("utf-8", "surrogatepass")) + FRAME_TOKENS
    limit = mapping.target.max_tokens
    output_tokens = expected_output() if limit is None else limit
    prices = Prices.of_json(batch.prices)
    usd = 0 if prices is None else prices.most(input_tokens, output_tokens)
    return Amounts(1, input_tokens + output_tokens, usd)


def amounts_used(spent: Spending, need: Amounts, *, is_reply: bool) -> Amounts:
    """The amounts that a call has used: its reservation where they are not known.

    A reply without token counts has used tokens; a failed call without them has not (`is_reply`).
    """
    is_silent = bool(spent.uncertain) or (is_reply and not spent.tokens)
    return Amounts(
        calls=1,
        tokens=need.tokens if is_silent else spent.tokens,
        usd=max(need.usd, spent.cost) if is_silent or spent.unpriced else spent.cost,
    )


def limited_need(need: Amounts, budget: Budget) -> Amounts:
    """The parts of a need that the budget limits. It reserves no others."""
    return Amounts(**{kind.value: need.of(kind) for kind, _ in budget.limits()})


def _counts_tokens(batch: Batch) -> bool:
    budgets = (batch.budgets.own, batch.budgets.day)
    return any(budget.of(kind) for budget in budgets for kind in (BudgetKind.TOKENS, BudgetKind.USD))
