"""JSON without loss of digits."""

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.exact_json import dumps, loads, plain_number


@pytest.mark.parametrize(
    "text",
    [
        "12345678901234567890123",
        "12345678901234567.891",
        "0.1",
        "12.50",
        "50.0",
        "-5",
        "1e400",
        "0.30000000000000004",
    ],
)
def test_numbers_keep_their_value(text):
    """Any number that an agent writes keeps its exact value."""
    assert Decimal(dumps(loads(text))) == Decimal(text)


@pytest.mark.parametrize(
    "text", ["NaN", "[Infinity]", "-Infinity", "1" * 5_000, "{", "", "[" * 100_000, "1e99999999999999999999"]
)
def test_invalid_json_is_a_value_error(text):
    """NaN, very long numbers and very deep nesting are refused like other syntax errors."""
    with pytest.raises(ValueError, match=r".+"):
        loads(text)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
)


@given(VALUES)
def test_dumps_is_compact_json_that_loads_reads(value):
    """Values survive the round trip; the text equals the standard library's, without spaces."""
    text = dumps(value)
    assert loads(text) == value
    assert json.loads(text) == json.loads(json.dumps(value))


@pytest.mark.parametrize(
    ("number", "text"),
    [(0.1, "0.1"), (50.0, "50.0"), (1e22, "10000000000000000000000"), (Decimal("1.10"), "1.10"),
     (Decimal("1E+400"), "1E+400"), (1e-7, "0.0000001")],
)  # fmt: skip
def test_numbers_are_written_without_exponents(number, text):
    """Only very large and very small numbers have an exponent."""
    assert plain_number(number) == text
