"""JMESPath's own functions, taught that a Decimal is a number.

Agents answer with numbers that no float holds, and `jsontext` keeps those as Decimal; the library knows int
and float only, and would call a Decimal's type "unknown".
"""

from __future__ import annotations

import json
import math
from decimal import Context, Decimal
from typing import Any

from jmespath.functions import Functions, signature

from service.domain import exact_json
from service.domain.model import Json

_MAX_DIGITS = 1_000
"""Beyond this, 1E+999999999 would be written out by `ceil` digit for digit, which takes all memory."""

_EXACT = Context(prec=2 * _MAX_DIGITS)


class DecimalFunctions(Functions):
    """For values without a Decimal, exactly JMESPath's functions."""

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
        return value if isinstance(value, Decimal) else super()._func_to_number(value)  # type: ignore[misc]

    @signature({"types": []})
    def _func_to_string(self, value: Json) -> str:
        if isinstance(value, str):
            return value
        try:
            return json.dumps(value, separators=(",", ":"))
        except TypeError:  # a Decimal in it
            return exact_json.dumps(value)

    @signature({"types": ["number"]})
    def _func_abs(self, value: Json) -> Json:
        return value.copy_abs() if isinstance(value, Decimal) else abs(value)

    @signature({"types": ["number"]})
    def _func_ceil(self, value: Json) -> int:
        return math.ceil(_writable(value))

    @signature({"types": ["number"]})
    def _func_floor(self, value: Json) -> int:
        return math.floor(_writable(value))

    @signature({"types": ["array-number"]})
    def _func_sum(self, values: list[Json]) -> Json:
        if not any(isinstance(value, Decimal) for value in values):
            return sum(values)
        total = Decimal(0)
        for value in values:
            total = _EXACT.add(total, Decimal(repr(value)) if isinstance(value, float) else Decimal(value))
        return total

    @signature({"types": ["array-number"]})
    def _func_avg(self, values: list[Json]) -> Json:
        return self._func_sum(values) / len(values) if values else None


def _with_decimal(names: Any) -> list[str]:
    return [*names, "Decimal"] if "float" in names else list(names)


def _writable(value: float | Decimal) -> float | Decimal:
    if isinstance(value, Decimal) and value.adjusted() > _MAX_DIGITS:
        raise ValueError(f"a number of more than {_MAX_DIGITS} digits")
    return value


FUNCTIONS = DecimalFunctions()
NATIVES: frozenset[str] = frozenset(DecimalFunctions.FUNCTION_TABLE)


def takes(name: str, count: int) -> bool:
    """Whether the native function `name` exists and can be called with `count` arguments."""
    if name not in NATIVES:
        return False
    wanted = DecimalFunctions.FUNCTION_TABLE[name]["signature"]
    is_variadic = bool(wanted and wanted[-1].get("variadic"))
    return count >= len(wanted) if is_variadic else count == len(wanted)


def wanted_types(name: str, place: int) -> list[str]:
    """The JMESPath types that argument `place` of a native function may have; [] where any will do."""
    wanted = DecimalFunctions.FUNCTION_TABLE[name]["signature"]
    types: list[str] = wanted[min(place, len(wanted) - 1)]["types"]
    return types


def has_type(value: Json, types: list[str]) -> bool:
    """Whether a constant may stand where one of `types` is wanted; elements of arrays are not looked at."""
    outer = FUNCTIONS._convert_to_jmespath_type(type(value).__name__)  # noqa: SLF001 -- our own class
    return not types or any(outer == kind.split("-", 1)[0] for kind in types)
