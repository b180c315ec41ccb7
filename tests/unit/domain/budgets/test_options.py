"""Options that state a budget, and budgets in words."""

from __future__ import annotations

import pytest

from service.domain.budgets.options import (
    BudgetError,
    amount_text,
    budget_options,
    budget_text,
    option_of,
    parse_budget,
    usage_json,
)
from service.domain.model import NO_BUDGET, Amounts, Budget, BudgetKind


@pytest.mark.parametrize(
    ("options", "budget"),
    [
        ({}, NO_BUDGET),
        ({"max_calls": None, "limit": 5}, NO_BUDGET),
        ({"max_calls": 300}, Budget(calls=300)),
        ({"max_calls": "300", "budget_tokens": 2e6}, Budget(calls=300, tokens=2_000_000)),
        ({"budget_usd": "5"}, Budget(usd=500_000_000)),
        ({"budget_usd": 0.1}, Budget(usd=10_000_000)),
        ({"budget_usd": " 12.50 "}, Budget(usd=1_250_000_000)),
    ],
)
def test_a_budget_is_read_from_options(options, budget):
    """Numbers may be texts; money is in dollars."""
    assert parse_budget(options) == budget


@pytest.mark.parametrize("name", ["max_calls", "budget_tokens", "budget_usd"])
@pytest.mark.parametrize("value", [0, -1, "0", "many", True, [], 10**13, "1e3", float("nan"), "1.123456789"])
def test_a_wrong_limit_is_named(name, value):
    """The option and its range are in the text."""
    with pytest.raises(BudgetError, match=name):
        parse_budget({name: value})


def test_the_options_of_a_budget_make_it_again():
    """A job message carries them."""
    budget = Budget(calls=1, tokens=2, usd=3)
    options = budget_options(budget)
    assert options == {"budget_usd": "0.00000003", "budget_tokens": 2, "max_calls": 1}
    assert parse_budget(options) == budget
    assert budget_options(NO_BUDGET) == {}


def test_budgets_in_words():
    """Each amount has its unit."""
    assert (
        budget_text(Budget(calls=1, tokens=2_000, usd=500_000_000)) == "1 call and 2,000 tokens and 5.00 USD"
    )
    assert amount_text(BudgetKind.CALLS, 300) == "300 calls"
    assert [option_of(kind) for kind in BudgetKind] == ["--max-calls", "--budget-tokens", "--budget-usd"]


def test_usage_as_json():
    """A kind without a limit is null, money is a text, and what is not known is null."""
    budget = Budget(calls=300, usd=500_000_000)
    assert usage_json(budget, Amounts(120, 9, 10**8), Amounts(2, 0, 5)) == {
        "calls": {"cap": 300, "spent": 120, "reserved": 2},
        "tokens": None,
        "usd": {"cap": "5.00", "spent": "1.00", "reserved": "0.00000005"},
    }
    assert usage_json(budget, None, None)["calls"] == {"cap": 300, "spent": None, "reserved": None}
