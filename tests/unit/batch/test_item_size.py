"""Sizes by DynamoDB's rules."""

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.adapters.aws.items import row_items
from service.adapters.aws.values import size_of
from service.batch.item_size import outcome_bytes, value_bytes
from service.domain.errors import FailureClass
from service.domain.model import Commit, Outcome, RowError, Status

numbers = (
    st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.decimals(allow_nan=False, allow_infinity=False)
)
values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=9), inner, max_size=5),
    max_leaves=20,
)
classes = st.sampled_from(FailureClass).map(str)
outcomes = st.builds(
    Outcome,
    number=st.integers(1, 10**10 - 1),
    round=st.integers(1, 999),
    status=st.sampled_from(Status),
    input_data=st.dictionaries(st.text(), st.text()),
    output_data=st.dictionaries(st.text(), values),
    execution_time_ms=st.integers(0, 10**9),
    timestamp=st.just("2026-11-23T07:00:01.000Z"),
    attempts=st.integers(1, 1000),
    worker=st.text("abcdef-", max_size=80),
    error=st.none() | st.builds(RowError, st.text(max_size=20), st.text(), classes),
    input_tokens=st.integers(0, 10**9),
    output_tokens=st.integers(0, 10**9),
    reused_from=st.text("ab#/", max_size=300),
)


@given(outcomes, st.integers(1, 128), st.integers(1, 128), st.integers(1, 16))
def test_an_outcome_is_never_larger_than_it_was_taken_for(outcome, tool, execution, partitions):
    """What is grouped by these sizes fits: the item that is stored never takes more, whatever it holds."""
    batch_id = "t" * tool + "#" + "e" * execution
    commit = Commit(batch_id, outcome.round, partitions, 0, (outcome,), "token", 2_000_000_000)
    (item,) = row_items(commit)
    assert size_of(item) <= outcome_bytes(outcome)


@pytest.mark.parametrize(
    ("value", "size"),
    [
        ("", 0),
        ("abc", 3),
        ("é", 2),
        ("\U0001f600", 4),
        (None, 1),
        (True, 1),
        (7, 21),
        (Decimal("0.1"), 21),
        ([], 3),
        (["a", None], 3 + 2 + 2),
        ({"k": "v"}, 3 + 1 + 1 + 1),
    ],
)
def test_values_are_counted_as_dynamodb_counts_them(value, size):
    """UTF-8 for text, one byte for null and booleans, the most for numbers, overhead for containers."""
    assert value_bytes(value) == size


def test_a_large_outcome_is_not_overestimated_by_much():
    """The estimate is no excuse to refuse what would fit."""
    outcome = Outcome(1, 1, Status.SUCCESS, {"a": "x" * 390_000}, {}, 1, "2026-11-23T07:00:01.000Z")
    assert outcome_bytes(outcome) < 392_000
    assert outcome_bytes(replace(outcome, input_data={})) < 2_000
