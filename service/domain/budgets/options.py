"""Options that state a budget, and budgets in words and as JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from decimal import Decimal

from service.domain.model import Amounts, Budget, BudgetKind, Json
from service.domain.money import decimal_text, units_of

BUDGET_OPTIONS = {
    "budget_usd": BudgetKind.USD,
    "budget_tokens": BudgetKind.TOKENS,
    "max_calls": BudgetKind.CALLS,
}
"""Job options, and arguments of operations, that state a budget."""

MOST = {BudgetKind.CALLS: 10**9, BudgetKind.TOKENS: 10**12, BudgetKind.USD: 10**9}
"""The largest limit of each kind; of money in dollars."""

_AMOUNT = re.compile(r"[0-9]{1,10}(\.[0-9]{1,20})?")


class BudgetError(ValueError):
    """A limit is none. The text says what it has to be."""


def parse_limit(kind: BudgetKind, value: object) -> int:
    """The limit that `value` means: a number, or its text. Money is in dollars, and becomes units of it.

    Raises BudgetError.
    """
    # Producers that fill in a template write numbers as strings.
    text = str(value).strip() if isinstance(value, int | float | str | Decimal) else ""
    number = Decimal(text) if not isinstance(value, bool) and _AMOUNT.fullmatch(text) else Decimal(0)
    if not 0 < number <= MOST[kind] or (kind is not BudgetKind.USD and number % 1):
        shown = json.dumps(value, default=str)[:80]
        raise BudgetError(f"is {shown}; use {_range(kind)}")
    try:
        return units_of(number) if kind is BudgetKind.USD else int(number)
    except ValueError as error:
        raise BudgetError(f"is {text}: {error}") from None


def parse_budget(values: Mapping[str, object]) -> Budget:
    """The budget that options state; those that are missing or None limit nothing. Raises BudgetError."""
    limits = {}
    for name, kind in BUDGET_OPTIONS.items():
        if (value := values.get(name)) is not None:
            try:
                limits[kind.value] = parse_limit(kind, value)
            except BudgetError as error:
                raise BudgetError(f"{name!r} {error}") from None
    return Budget(**limits)


def budget_options(budget: Budget) -> dict[str, Json]:
    """The options that state the budget; money as decimal text in dollars."""
    limits = {name: (kind, budget.of(kind)) for name, kind in BUDGET_OPTIONS.items()}
    return {name: amount_json(kind, limit) for name, (kind, limit) in limits.items() if limit is not None}


def option_of(kind: BudgetKind) -> str:
    """The long option of a command that limits this kind."""
    name = next(name for name, limited in BUDGET_OPTIONS.items() if limited is kind)
    return f"--{name.replace('_', '-')}"


def amount_json(kind: BudgetKind, amount: int) -> Json:
    """A number of this kind in JSON; money is decimal text in dollars."""
    return decimal_text(amount) if kind is BudgetKind.USD else amount


def amount_of(kind: BudgetKind, value: Json) -> int:
    """The number of this kind that `amount_json` has made."""
    return units_of(Decimal(value)) if kind is BudgetKind.USD else int(value)


def amount_text(kind: BudgetKind, amount: int) -> str:
    """`300 calls`, `1 call`, `2,000 tokens` or `5.00 USD`."""
    if kind is BudgetKind.USD:
        return f"{decimal_text(amount)} USD"
    noun = kind.value if amount != 1 else kind.value.removesuffix("s")
    return f"{amount:,} {noun}"


def budget_text(budget: Budget) -> str:
    """A budget in words: `300 calls and 5.00 USD`."""
    return " and ".join(amount_text(kind, limit) for kind, limit in budget.limits())


def usage_json(budget: Budget, used: Amounts | None, reserved: Amounts | None) -> dict[str, Json]:
    """Each kind with its `cap`, what is `spent` and what is `reserved`; None for kinds without a limit.

    What is used is None where it is not known.
    """
    return {
        kind.value: None
        if (cap := budget.of(kind)) is None
        else {
            "cap": amount_json(kind, cap),
            "spent": None if used is None else amount_json(kind, used.of(kind)),
            "reserved": None if reserved is None else amount_json(kind, reserved.of(kind)),
        }
        for kind in BudgetKind
    }


def _range(kind: BudgetKind) -> str:
    if kind is BudgetKind.USD:
        return f"an amount in dollars such as 5 or 0.50, up to {MOST[kind]:,}"
    return f"a whole number from 1 to {MOST[kind]:,}"
