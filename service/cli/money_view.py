"""Money as commands show it to people."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_CEILING, Decimal
from typing import Any

_CENT = Decimal("0.01")
_SMALL = Decimal("0.0001")


def money_text(amount: str, currency: str) -> str:
    """`1,234.50 USD` of a decimal text: rounded up to cents, or to four digits below a cent."""
    value = Decimal(amount)
    digits = _SMALL if Decimal(0) < value < _CENT else _CENT
    return f"{value.quantize(digits, ROUND_CEILING):,} {currency}"


def range_text(bounds: Mapping[str, str], currency: str) -> str:
    """`1.20 to 1.80 USD` of the decimal texts `low` and `high`."""
    low, high = (money_text(bounds[end], currency) for end in ("low", "high"))
    return high if low == high else f"{low.removesuffix(f' {currency}')} to {high}"


def cost_text(cost: Mapping[str, Any]) -> str:
    """The object `cost` of `status --json` in a line; "" if the batch has no price."""
    currency = cost["currency"]
    if currency is None:
        return ""
    if cost["spent"] is None:
        calls = cost["unpriced_calls"]
        which = "1 call has" if calls == 1 else f"{calls:,} calls have"
        return f"unknown: {which} no known price"
    parts = [f"{money_text(cost['spent'], currency)} spent"]
    if cost["in_results"] != cost["spent"]:
        parts.append(f"{money_text(cost['in_results'], currency)} of it in the results")
    if Decimal(cost["saved"]):
        parts.append(f"{money_text(cost['saved'], currency)} saved by reuse")
    if (rest := cost["to_finish"]) is not None and Decimal(rest["high"]):
        parts.append(f"{range_text(rest, currency)} to finish")
    return ", ".join(parts)
