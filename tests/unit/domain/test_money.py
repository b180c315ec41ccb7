"""Money: exact units and their decimal text."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.money import UNITS, decimal_text, optional_text, units_of


@pytest.mark.parametrize(
    ("units", "text"),
    [
        (0, "0.00"),
        (1, "0.00000001"),
        (125_000, "0.00125"),
        (12_50 * 10**6, "12.50"),
        (-3 * UNITS, "-3.00"),
        (-1, "-0.00000001"),
        (10**30, "1" + "0" * 22 + ".00"),
    ],
)
def test_texts(units, text):
    """All digits are there, two at least after the point, and no exponent."""
    assert decimal_text(units) == optional_text(units) == text


def test_an_unknown_amount_is_null():
    """It is never 0."""
    assert optional_text(None) is None
    assert optional_text(0) == "0.00"


@given(st.integers(-(10**40), 10**40))
def test_a_text_gives_its_units_again(units):
    """Nothing is lost in either direction."""
    assert units_of(Decimal(decimal_text(units))) == units


@pytest.mark.parametrize("text", ["0.000000001", "NaN", "Infinity"])
def test_amounts_that_are_no_units(text):
    """More digits than there are units, and no numbers, are refused."""
    with pytest.raises(ValueError, match=r"digits after the point|is no amount"):
        units_of(Decimal(text))
