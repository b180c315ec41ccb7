"""`budget`: the daily budget of a mapping."""

from __future__ import annotations

import pytest

from service.domain.errors import MappingError
from service.domain.model import Budget

RUN = """
target: {type: tool, name: demo, invoke: http, url: "https://example.org"}
output_mapping: {type: tool, extraction_methods: [{method: direct, field_mappings: {answer: $.answer}}]}
"""


@pytest.mark.parametrize(
    ("written", "budget"),
    [
        ("", Budget()),
        ("budget: {calls_per_day: 300}", Budget(calls=300)),
        ("budget: {tokens_per_day: 1000000, usd_per_day: 12.5}", Budget(tokens=10**6, usd=1_250_000_000)),
        ("budget: {usd_per_day: 0.00000001}", Budget(usd=1)),
    ],
)
def test_a_budget_is_compiled(define, written, budget):
    """Money becomes units of a millionth of a cent; a key that is missing limits nothing."""
    assert define(RUN + written).compile().budget == budget


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ("budget: {}", "limits nothing"),
        ("budget: {usd_per_day: 0}", "no call could be made"),
        ("budget: {usd_per_day: 0.000000001}", "digits"),
        ("budget: {calls_per_day: 0}", "budget.calls_per_day"),
        ("budget: {calls_per_day: 1.5}", "budget.calls_per_day"),
        ("budget: {calls: 5}", "unknown key 'budget.calls'"),
        ("budget: 5", "must be a table"),
    ],
)
def test_a_wrong_budget_is_a_problem_of_the_mapping(define, written, problem):
    """The key and the remedy are named."""
    with pytest.raises(MappingError, match=problem):
        define(RUN + written)
