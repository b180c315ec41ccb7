"""The types of schema fields: which values fit, and what they are converted to.

To add one, write a function that converts a value, or returns None if the value does not fit, and add it to
TYPES.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from service.domain.model import Json
from service.mapping.expressions.dates import comparable_datetime, iso_date, iso_datetime
from service.mapping.expressions.evaluation import writable_json
from service.mapping.expressions.model_json import parse_model_json
from service.mapping.expressions.transforms import boolean_from, integer_from, number_from, scalar_text

ENUM, PATTERN, MINIMUM, MAXIMUM = "enum", "pattern", "minimum", "maximum"
_BOUNDS = frozenset({MINIMUM, MAXIMUM})


def _itself(value: Json) -> Any:
    return value


@dataclass(frozen=True, slots=True)
class Type:
    """A type of schema fields.

    `convert` accepts the forms that agents write, such as numbers in text, and returns None for a value that
    does not fit. `constraints` are the keys that apply to the type, and `literal_types` the Python types that
    the values of these keys must have in a file. `comparable` makes two converted values comparable.
    """

    name: str
    convert: Callable[[Json], Json]
    constraints: frozenset[str] = frozenset({ENUM})
    literal_types: tuple[type, ...] = (str,)
    comparable: Callable[[Json], Any] = _itself


def _number(value: Json) -> Json:
    """A JSON number as it came; text by the rules of the transform `to_number`."""
    number = number_from(value)
    # number_from gives a Decimal for a float. The float is kept: it is written with the same digits.
    return value if number is not None and isinstance(value, float) else number


def _date(value: Json) -> Json:
    return iso_date(value) if isinstance(value, str) else None


def _datetime(value: Json) -> Json:
    return iso_datetime(value) if isinstance(value, str) else None


def _json_of(kind: type) -> Callable[[Json], Json]:
    """The conversion to a list or an object, which may also come as JSON in a string."""

    def convert(value: Json) -> Json:
        if isinstance(value, str) and value.lstrip()[:1] in {"[", "{"}:
            value = writable_json(parse_model_json(value))
        return value if isinstance(value, kind) else None

    return convert


_NUMBERS = (int, float, Decimal)
TYPES = {
    type_.name: type_
    for type_ in (
        Type("string", scalar_text, frozenset({ENUM, PATTERN})),
        Type("number", _number, _BOUNDS | {ENUM}, _NUMBERS, number_from),
        Type("integer", integer_from, _BOUNDS | {ENUM}, (int,), number_from),
        Type("boolean", boolean_from, literal_types=(bool,)),
        Type("date", _date, _BOUNDS | {ENUM}, comparable=comparable_datetime),
        Type("datetime", _datetime, _BOUNDS | {ENUM}, comparable=comparable_datetime),
        Type("list", _json_of(list), frozenset()),
        Type("object", _json_of(dict), frozenset()),
    )
}
