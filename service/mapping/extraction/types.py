"""The types of a schema: what fits each of them, and what a value becomes.

To add one, write a function that gives the value as it should be, or None where it does not fit, and list it
in `_ALL`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from service.domain import exact_json
from service.domain.model import Json
from service.mapping.expressions.dates import instant, iso_date, iso_datetime
from service.mapping.expressions.transforms import exact_integer, exact_number, scalar_text, truth

ENUM, PATTERN, MINIMUM, MAXIMUM = "enum", "pattern", "minimum", "maximum"
_BOUNDS = frozenset({MINIMUM, MAXIMUM})


def _itself(value: Json) -> Any:
    return value


@dataclass(frozen=True, slots=True)
class Type:
    """A type by name; `rules` are those that apply to it.

    `convert` takes what agents write for it, numbers in text among others, and gives None for what does not
    fit. `written` are the Python types that a rule's own value must have in a file. `key` makes two values
    comparable.
    """

    name: str
    convert: Callable[[Json], Json]
    rules: frozenset[str] = frozenset({ENUM})
    written: tuple[type, ...] = (str,)
    key: Callable[[Json], Any] = _itself


def _number(value: Json) -> Json:
    """A JSON number as it came; text by the rules of `to_number`."""
    number = exact_number(value)
    return value if number is not None and isinstance(value, float) else number


def _date(value: Json) -> Json:
    return iso_date(value) if isinstance(value, str) else None


def _datetime(value: Json) -> Json:
    return iso_datetime(value) if isinstance(value, str) else None


def _parsed(kind: type) -> Callable[[Json], Json]:
    def convert(value: Json) -> Json:
        if isinstance(value, str) and value.lstrip()[:1] in {"[", "{"}:
            try:
                value = exact_json.loads(value)
            except ValueError:
                return None
        return value if isinstance(value, kind) else None

    return convert


_NUMBERS = (int, float, Decimal)
_ALL = (
    Type("string", scalar_text, frozenset({ENUM, PATTERN})),
    Type("number", _number, _BOUNDS | {ENUM}, _NUMBERS, exact_number),
    Type("integer", exact_integer, _BOUNDS | {ENUM}, (int,), exact_number),
    Type("boolean", truth, written=(bool,)),
    Type("date", _date, _BOUNDS | {ENUM}, key=instant),
    Type("datetime", _datetime, _BOUNDS | {ENUM}, key=instant),
    Type("list", _parsed(list), frozenset()),
    Type("object", _parsed(dict), frozenset()),
)
TYPES = {kind.name: kind for kind in _ALL}
