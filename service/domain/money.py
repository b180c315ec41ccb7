"""Money as whole numbers of a millionth of a cent, so that sums are exact; as decimal text in JSON."""

from __future__ import annotations

from decimal import Decimal

UNITS = 10**8
"""Units in one dollar, or in one of any other currency."""

MAX_DECIMALS = 8
"""Digits after the point that an amount may have."""

_SHOWN_DECIMALS = 2


def units_of(amount: Decimal) -> int:
    """The units of an amount in whole dollars. Raises ValueError if they are no whole number."""
    if not amount.is_finite():
        raise ValueError(f"{amount} is no amount of money")
    numerator, denominator = amount.as_integer_ratio()
    units, rest = divmod(numerator * UNITS, denominator)
    if rest:
        raise ValueError(f"{amount} has more than {MAX_DECIMALS} digits after the point")
    return units


def decimal_text(units: int) -> str:
    """The amount with all its digits, and with at least two after the point: `0.00125`, `12.50`, `-3.00`."""
    whole, rest = divmod(abs(units), UNITS)
    decimals = f"{rest:0{MAX_DECIMALS}}".rstrip("0").ljust(_SHOWN_DECIMALS, "0")
    return f"{'-' if units < 0 else ''}{whole}.{decimals}"


def optional_text(units: int | None) -> str | None:
    """As `decimal_text`; None, which is null in JSON, for an amount that is not known."""
    return None if units is None else decimal_text(units)
