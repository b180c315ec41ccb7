"""JSON that does not change what it carries."""

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.exact_json import dumps, loads, plain_number


@pytest.mark.parametrize(
    "text", ["12345678901234567890123", "12345678901234567.891", "0.1", "-5", "1e400", "0.30000000000000004"]
)
def test_numbers_keep_their_value(text):
    """Whatever number an agent writes comes out with the same value."""
    assert Decimal(dumps(loads(text))) == Decimal(text)


@pytest.mark.parametrize(
    "text", ["NaN", "[Infinity]", "-Infinity", "1" * 5_000, "{", "", "[" * 100_000, "1e99999999999999999999"]
)
def test_what_is_no_json_is_a_value_error(text):
    """NaN, endless numbers and bottomless nesting are refused like any other syntax error."""
    with pytest.raises(ValueError, match=r".+"):
        loads(text)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
)


@given(VALUES)
def test_dumps_is_compact_json_that_loads_reads(value):
    """Round trip; and the text is what the standard library would write, without spaces."""
    text = dumps(value)
    assert loads(text) == value
    assert json.loads(text) == json.loads(json.dumps(value))


@pytest.mark.parametrize(
    ("number", "text"),
    [(0.1, "0.1"), (50.0, "50.0"), (1e22, "10000000000000000000000"), (Decimal("1.10"), "1.10"),
     (Decimal("1E+400"), "1E+400"), (1e-7, "0.0000001")],
)  # fmt: skip
def test_numbers_are_written_as_people_write_them(number, text):
    """No exponent for everyday sizes."""
    assert plain_number(number) == text
