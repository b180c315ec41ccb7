"""Conversion of a Python function's result to plain JSON values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from service.domain.exact_json import MAX_NUMBER_CHARS
from service.domain.model import Json

MAX_DEPTH = 100
"""Deepest nesting, far beyond real replies. It also ends the walk through a value that contains itself."""

_MAX_INTEGER_BITS = int(MAX_NUMBER_CHARS * math.log2(10))


def to_json(value: Any, at: str = "$", depth: int = 0) -> Json:
    """A copy of `value` that consists of None, bool, int, float, Decimal, str, list and dict.

    Subclasses of these types, tuples and other mappings are converted. Raises ValueError with the path of a
    value that JSON cannot hold.
    """
    if depth > MAX_DEPTH:
        raise ValueError(f"{at[:40]}... is nested deeper than {MAX_DEPTH} levels, or holds itself")
    match value:
        case None | bool():
            return value
        case str():
            # Not str(value): a subclass, such as an enum, may have a `__str__` of its own.
            return str.__str__(value)
        case int() | float() | Decimal():
            return _number(value, at)
        case Mapping():
            return {_key(key, at): to_json(item, f"{at}.{key}", depth + 1) for key, item in value.items()}
        case list() | tuple():
            return [to_json(item, f"{at}[{index}]", depth + 1) for index, item in enumerate(value)]
        case _:
            raise ValueError(f"{at} is of type {type(value).__name__}")


def _number(value: float | Decimal, at: str) -> Json:
    if isinstance(value, int):
        # Counting bits first: Python refuses to format very large integers.
        if value.bit_length() > _MAX_INTEGER_BITS:
            raise ValueError(f"{at} is a number of more than {MAX_NUMBER_CHARS:,} digits")
        return int(value)
    # Python refuses to convert a signaling NaN to a float.
    if not (value.is_finite() if isinstance(value, Decimal) else math.isfinite(value)):
        raise ValueError(f"{at} is {value}, which JSON cannot hold")
    return value if isinstance(value, Decimal) else float(value)


def _key(key: Any, at: str) -> str:
    if isinstance(key, str | int) and not isinstance(key, bool):
        return str(key)
    raise ValueError(f"{at} has a key of type {type(key).__name__}")
