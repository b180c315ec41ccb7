"""Size and nesting depth by DynamoDB's rules."""

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.adapters.aws.table.row_items import row_items
from service.adapters.aws.table.values import item_bytes
from service.domain.errors import FailureClass
from service.domain.item_size import depth, outcome_bytes, value_bytes
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
def test_the_estimate_is_an_upper_bound(outcome, tool, execution, partitions):
    """The stored item is never larger than the estimate, so commits grouped by estimates fit."""
    batch_id = "t" * tool + "#" + "e" * execution
    commit = Commit(batch_id, outcome.round, partitions, 0, (outcome,), "token", 2_000_000_000)
    (item,) = row_items(commit)
    assert item_bytes(item) <= outcome_bytes(outcome)


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
    """UTF-8 for text, one byte for null and booleans, the maximum for numbers, overhead for containers."""
    assert value_bytes(value) == size


def test_a_large_outcome_is_not_overestimated_by_much():
    """For a text of 390,000 bytes the estimate is less than 2,000 bytes too high."""
    outcome = Outcome(1, 1, Status.SUCCESS, {"a": "x" * 390_000}, {}, 1, "2026-11-23T07:00:01.000Z")
    assert outcome_bytes(outcome) < 392_000
    assert outcome_bytes(replace(outcome, input_data={})) < 2_000


def test_depth():
    """A scalar is one level; each list or map adds one."""
    assert [depth(value) for value in ("x", [], ["x"], {"a": {"b": ["x"]}})] == [1, 1, 2, 4]
