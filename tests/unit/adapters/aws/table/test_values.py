"""JSON values as DynamoDB attribute values."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.adapters.aws.table.values import decode, encode, item_bytes

SCALARS = (
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False, allow_infinity=False)
)
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4)
)


def same(before: Any, after: Any) -> bool:
    """True if the values are equal, with numbers out of range as text."""
    if isinstance(before, dict):
        return before.keys() == after.keys() and all(same(before[key], after[key]) for key in before)
    if isinstance(before, list):
        return len(before) == len(after) and all(map(same, before, after))
    if isinstance(before, bool) or before is None or isinstance(before, str):
        return bool(before == after and type(before) is type(after))
    return Decimal(repr(before)) == Decimal(str(after))


@given(JSON)
def test_values_are_decoded_unchanged(value: Any) -> None:
    """Every JSON value is decoded to an equal value."""
    assert same(value, decode(encode(value)))


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (10**38 - 1, {"N": "9" * 38}),
        (-(10**38) + 1, {"N": "-" + "9" * 38}),
        (10**40, {"N": "1" + "0" * 40}),
        (10**38 + 1, {"S": "1" + "0" * 37 + "1"}),
        (Decimal("9.9E+125"), {"N": "9.9E+125"}),
        (Decimal("1E+126"), {"S": "1E+126"}),
        (Decimal("1E-130"), {"N": "1E-130"}),
        (1e-131, {"S": "1e-131"}),
        (0.1, {"N": "0.1"}),
        (-0.0, {"SS": ["-0.0"]}),
        (50.0, {"SS": ["50.0"]}),
        (Decimal("12.50"), {"SS": ["12.50"]}),
        (True, {"BOOL": True}),
        ("", {"S": ""}),
        ("\ud800!", {"S": "\ufffd!"}),
        ("\ud83d\ude00", {"S": "😀"}),
        ({"": 1, "\0": 2}, {"M": {"\0": {"N": "1"}, "\0\0": {"N": "2"}}}),
    ],
)
def test_limits_of_dynamodb(value: Any, stored: dict[str, Any]) -> None:
    """Numbers that DynamoDB holds exactly are numbers, others text; text is valid UTF-8."""
    assert encode(value) == stored


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, Decimal("NaN"), Decimal("-Infinity")])
def test_nan_and_infinities_are_refused(value: Any) -> None:
    """NaN and infinities raise ValueError."""
    with pytest.raises(ValueError, match="no number"):
        encode({"x": [value]})


def test_values_outside_json_are_refused() -> None:
    """A value that JSON does not have raises TypeError."""
    with pytest.raises(TypeError, match="bytes"):
        encode(b"x")


def test_sizes_follow_dynamodb() -> None:
    """Names and text count in UTF-8, a container three bytes and one for each element."""
    assert item_bytes({"ü": {"S": "aü"}}) == 2 + 3
    assert item_bytes({"l": {"L": [{"BOOL": True}, {"NULL": True}]}}) == 1 + 3 + 2 + 2
    assert item_bytes({"m": {"M": {"k": {"S": "vv"}}}}) == 1 + 3 + 1 + 1 + 2
