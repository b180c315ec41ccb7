"""JMESPath's own functions, extended to Decimal.

Agents reply with numbers that no float can hold. `exact_json` keeps those as Decimal. The jmespath library
knows only int and float: without this module it would call a Decimal's type "unknown".
"""

from __future__ import annotations

import json
import math
import re
from decimal import Context, Decimal
from typing import Any

from jmespath.functions import Functions, signature

from service.domain import exact_json
from service.domain.model import Json

_MAX_DIGITS = 1_000
"""Most digits for `ceil` and `floor`, which write out every digit: 1E+999999999 would take all memory."""

_JSON_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
_EXACT = Context(prec=2 * _MAX_DIGITS)


class DecimalFunctions(Functions):
    """JMESPath's functions. For values without a Decimal they behave exactly as in the library."""

    def _get_allowed_pytypes(self, types: list[str]) -> tuple[list[str], list[tuple[str, ...]]]:
        outer, inner = super()._get_allowed_pytypes(types)  # type: ignore[misc]
        return _with_decimal(outer), [tuple(_with_decimal(names)) for names in inner]

    def _convert_to_jmespath_type(self, type_name: str) -> str:
        if type_name == "Decimal":
            return "number"
        return str(super()._convert_to_jmespath_type(type_name))  # type: ignore[misc]

    @signature({"types": []})
    def _func_type(self, value: Json) -> Json:
        return "number" if isinstance(value, Decimal) else super()._func_type(value)  # type: ignore[misc]

    @signature({"types": []})
    def _func_to_number(self, value: Json) -> Json:
        if isinstance(value, Decimal):
            return value
        found = super()._func_to_number(value)  # type: ignore[misc]
        if isinstance(value, str) and found is not None:
            # Python would read `1_0` as ten, and lose digits of long fractions.
            return (
                exact_json.loads(value) if _JSON_NUMBER.fullmatch(value) else None if "_" in value else found
            )
        return found

    @signature({"types": []})
    def _func_to_string(self, value: Json) -> str:
        if isinstance(value, str):
            return value
        # json.dumps first: it escapes non-ASCII characters, as the library does, and exact_json does not.
        try:
            return json.dumps(value, separators=(",", ":"))
        except TypeError:  # a Decimal in it
            return exact_json.dumps(value)

    @signature({"types": ["number"]})
    def _func_abs(self, value: Json) -> Json:
        return value.copy_abs() if isinstance(value, Decimal) else abs(value)

    @signature({"types": ["number"]})
    def _func_ceil(self, value: Json) -> int:
        return math.ceil(_within_max_digits(value))

    @signature({"types": ["number"]})
    def _func_floor(self, value: Json) -> int:
        return math.floor(_within_max_digits(value))

    @signature({"types": ["array-number"]})
    def _func_sum(self, values: list[Json]) -> Json:
        if not any(isinstance(value, Decimal) for value in values):
            return sum(values)
        total = Decimal(0)
        for value in values:
            # A float is added as the decimal that it is written as, 0.1, not as its binary value.
            total = _EXACT.add(total, Decimal(repr(value)) if isinstance(value, float) else Decimal(value))
        return total

    @signature({"types": ["array-number"]})
    def _func_avg(self, values: list[Json]) -> Json:
        return self._func_sum(values) / len(values) if values else None


def _with_decimal(names: Any) -> list[str]:
    return [*names, "Decimal"] if "float" in names else list(names)


def _within_max_digits(value: float | Decimal) -> float | Decimal:
    if isinstance(value, Decimal) and value.adjusted() > _MAX_DIGITS:
        raise ValueError(f"a number of more than {_MAX_DIGITS} digits")
    return value


FUNCTIONS = DecimalFunctions()
NATIVES: frozenset[str] = frozenset(DecimalFunctions.FUNCTION_TABLE)
"""The names of JMESPath's own functions."""


def accepts(name: str, argument_count: int) -> bool:
    """True if there is a native function `name` that can be called with so many arguments."""
    if name not in NATIVES:
        return False
    parameters = DecimalFunctions.FUNCTION_TABLE[name]["signature"]
    is_variadic = bool(parameters and parameters[-1].get("variadic"))
    return argument_count >= len(parameters) if is_variadic else argument_count == len(parameters)


def argument_types(name: str, index: int) -> list[str]:
    """The JMESPath types that an argument of a native function may have; [] if any type is accepted."""
    parameters = DecimalFunctions.FUNCTION_TABLE[name]["signature"]
    types: list[str] = parameters[min(index, len(parameters) - 1)]["types"]
    return types


def has_type(value: Json, types: list[str]) -> bool:
    """True if a constant has one of `types`. The elements of an array are not checked."""
    outer = FUNCTIONS._convert_to_jmespath_type(type(value).__name__)  # noqa: SLF001 -- our own class
    return not types or any(outer == kind.split("-", 1)[0] for kind in types)
