"""The most that a call may use, and what it counts as."""

from __future__ import annotations

from dataclasses import replace

import pytest

from service.domain.model import Amounts, Batch, BatchBudgets, Budget, Location, Source, Spending, State
from service.worker.budgets.needs import FRAME_TOKENS, amounts_used, call_need, limited_need

CHAT = """
target: {{type: agent, name: demo, invoke: http, preset: openai, model: m, system: "Be brief",
  parameters: {parameters}}}
output_mapping: {{type: agent, extraction_methods: [{{method: direct, field_mappings: {{answer: text}}}}]}}
"""
BODY = {"prompt": "Where is Zürich?"}
PRICES = {"currency": "USD", "input": 3 * 10**8, "output": 15 * 10**8, "cache_write": 4 * 10**8}


def need(define, budgets, prices=PRICES, parameters="{max_tokens: 200}"):
    """The need of a call, whose output is expected to be 50 tokens."""
    batch = Batch("demo", "e1", State.RUNNING, Source("in", "k"), Location("out", ""))
    batch = replace(batch, budgets=budgets, prices=prices)
    return call_need(batch, define(CHAT.format(parameters=parameters)).compile(), BODY, lambda: 50)


def test_a_budget_of_calls_needs_no_tokens(define):
    """The input is not even measured."""
    assert need(define, BatchBudgets(Budget(calls=5))) == Amounts(calls=1)


def test_the_bytes_of_what_is_sent_bound_the_input(define):
    """The prompt of the mapping counts too; the output is bounded by max_tokens."""
    found = need(define, BatchBudgets(day=Budget(tokens=5)))
    sent = len("Where is Zürich?".encode()) + len("Be brief")
    assert found.tokens > sent + FRAME_TOKENS + 200


def test_without_max_tokens_the_output_is_what_is_expected(define):
    """The difference is that of the outputs, and of what is sent."""
    budgets = BatchBudgets(Budget(tokens=5))
    bounded = need(define, budgets, parameters="{max_tokens: 200}")
    learned = need(define, budgets, parameters="{}")
    assert bounded.tokens - learned.tokens == 200 - 50 + len('"max_tokens":200')


def test_money_is_that_of_the_dearest_tokens(define):
    """All of the input may be written to a cache; `max_cost_per_call` says better."""
    budgets = BatchBudgets(Budget(usd=5))
    found = need(define, budgets)
    assert found.usd == -(-((found.tokens - 200) * 4 * 10**8 + 200 * 15 * 10**8) // 10**6)
    assert need(define, budgets, PRICES | {"max_per_call": 77}).usd == 77
    assert need(define, BatchBudgets(Budget(tokens=5)), None).usd == 0


@pytest.mark.parametrize(
    ("spent", "is_reply", "used"),
    [
        (Spending(calls=1, input_tokens=80, output_tokens=20, cost=7), True, Amounts(1, 100, 7)),
        (Spending(calls=1, input_tokens=80, cost=5), False, Amounts(1, 80, 5)),
        (Spending(calls=1, cost=2), False, Amounts(1, 0, 2)),
        (Spending(calls=1, unpriced=1), True, Amounts(1, 900, 50)),
        (Spending(calls=1, input_tokens=80, unpriced=1), True, Amounts(1, 80, 50)),
        (Spending(calls=1, input_tokens=80, cost=5, uncertain=1), False, Amounts(1, 900, 50)),
    ],
    ids=["reply", "failure with usage", "failure", "reply without usage", "no price", "timed out"],
)
def test_a_call_counts_as_what_it_states_or_as_its_reservation(spent, is_reply, used):
    """A call that did not say what it used, though it may have used all, counts as its reservation."""
    assert amounts_used(spent, Amounts(1, 900, 50), is_reply=is_reply) == used


def test_only_what_is_limited_is_reserved():
    """A budget of calls does not wait for tokens."""
    assert limited_need(Amounts(1, 900, 50), Budget(calls=5, usd=9)) == Amounts(1, 0, 50)
