"""The text of a budget's ledger."""

from __future__ import annotations

import pytest

from service.domain.errors import RetryableError
from service.domain.model import Amounts
from service.worker.budgets.ledger import BudgetLedger, BudgetShare
from service.worker.budgets.ledger_text import read_budget, write_budget

LEDGER = BudgetLedger(
    Amounts(3, 400, 5 * 10**17),
    {"w1": BudgetShare(9, Amounts(1, 2, 3), Amounts(4, 5, 6)), "w2": BudgetShare()},
)


def test_a_ledger_is_read_as_it_was_written():
    """All numbers come back, however large."""
    assert read_budget(write_budget(LEDGER, by="w1/9")) == LEDGER


def test_no_two_texts_are_equal():
    """The writer is named, so that a write can be told from an equal one."""
    assert write_budget(LEDGER, by="w1/9") != write_budget(LEDGER, by="w1/10")


def test_without_a_record_the_ledger_is_empty():
    """The first worker begins it."""
    assert read_budget("") == BudgetLedger()


@pytest.mark.parametrize(
    "text",
    [
        "{", "null", "[]", '{"v":2}', '{"v":1}',
        '{"v":1,"settled":[1,2],"shares":{}}',
        '{"v":1,"settled":[1,2,-3],"shares":{}}',
        '{"v":1,"settled":[1,2,NaN],"shares":{}}',
        '{"v":1,"settled":[1,2,3],"shares":{"w":[1,2,3]}}',
        '{"v":1,"settled":[1,2,3],"shares":{"w":[]}}',
        '{"v":1,"settled":[1,2,3],"shares":[]}',
    ],
)  # fmt: skip
def test_a_text_that_cannot_be_read_lets_no_call_begin(text):
    """It is left alone: a newer version may have written it."""
    with pytest.raises(RetryableError):
        read_budget(text)
