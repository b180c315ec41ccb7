"""JSON values as DynamoDB attribute values and back, and the size of an encoded item. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from service.domain.item_size import CONTAINER_BYTES, ELEMENT_BYTES
from service.domain.model import Json

Value = dict[str, Any]
"""An attribute value as on the wire: `{"S": "text"}`, `{"N": "17"}`."""

Item = dict[str, Value]

_DIGITS = 38
_INT_LIMIT = 10**_DIGITS
_MIN_EXPONENT, _MAX_EXPONENT = -130, 125
"""Numbers in DynamoDB have 38 significant digits and magnitudes from 1E-130 to 9.99…E+125."""

_NUL = "\0"
"""Stored in place of an empty name. CSV headers can have empty columns; DynamoDB refuses an empty name."""


def encode(value: Json) -> Value:
    """A JSON value as an attribute value.

    A number that DynamoDB cannot hold exactly is stored as text, and one whose last zeros it would drop as
    a set of one text. Half a surrogate pair, which UTF-8 cannot encode, is stored as U+FFFD.
    Raises ValueError for NaN and infinities, TypeError for values outside JSON.
    """
    if isinstance(value, str):
        return {"S": value if value.isascii() else _without_surrogates(value)}
    if value is None:
        return {"NULL": True}
    if isinstance(value, bool):  # before int, of which bool is a subclass
        return {"BOOL": value}
    if isinstance(value, int | float | Decimal):
        return _number(value)
    if isinstance(value, Mapping):
        return {"M": {_stored_name(str(key)): encode(member) for key, member in value.items()}}
    if isinstance(value, list | tuple):
        return {"L": [encode(member) for member in value]}
    raise TypeError(f"{type(value).__name__} is no JSON value")


def decode(value: Value) -> Json:
    """The JSON value of an attribute value, with whole numbers as int and others as Decimal."""
    ((kind, content),) = value.items()
    if kind in ("S", "BOOL"):
        return content
    if kind == "N":
        return decode_number(content)
    if kind == "SS":
        return Decimal(content[0])
    if kind == "M":
        # Most names do not begin with a NUL, and most members are texts.
        return {
            key if key[:1] > _NUL else _original_name(key): member["S"] if "S" in member else decode(member)
            for key, member in content.items()
        }
    if kind == "L":
        return [decode(member) for member in content]
    if kind == "NULL":
        return None
    raise ValueError(f"an attribute of type {kind}, which rowfleet never writes")


def with_floats(value: Json) -> Json:
    """A decoded value with floats for its Decimals: facts of rowfleet's own, which were floats before."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, dict):
        return {name: with_floats(member) for name, member in value.items()}
    if isinstance(value, list):
        return [with_floats(member) for member in value]
    return value


def decode_number(text: str) -> int | Decimal:
    """The text of a number as int if it is a whole number, otherwise as Decimal."""
    try:
        return int(text)
    except ValueError:
        return Decimal(text)


def int_attribute(item: Item, name: str) -> int:
    """A whole number, 0 if the attribute is absent."""
    return int(decode_number(item[name]["N"])) if name in item else 0


def item_bytes(item: Item) -> int:
    """The size of an item by DynamoDB's rules: names and texts in UTF-8, numbers rounded up."""
    return sum(len(name.encode()) + _value_size(value) for name, value in item.items())


def _stored_name(name: str) -> str:
    """The name as stored: the empty name as one NUL, and a name of n NULs as n + 1 NULs."""
    name = _without_surrogates(name)
    return name if name.strip(_NUL) else name + _NUL


def _original_name(name: str) -> str:
    return name if name.strip(_NUL) else name[:-1]


def _without_surrogates(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _number(value: float | Decimal) -> Value:
    # the shortest text that is read back as the same float
    text = repr(value) if isinstance(value, float) else str(value)
    if isinstance(value, int) and abs(value) < _INT_LIMIT:
        return {"N": text}
    number = Decimal(text)
    if not number.is_finite():
        raise ValueError(f"{text} is no number that can be stored")
    digits = number.as_tuple().digits
    # leading and trailing zeros do not count, so that 1E+40 written out fits
    has_few_digits = len(digits) <= _DIGITS or _significant_digits(digits) <= _DIGITS
    is_in_range = number.is_zero() or _MIN_EXPONENT <= number.adjusted() <= _MAX_EXPONENT
    fits = has_few_digits and is_in_range
    if fits and text.endswith("0") and "." in text:
        # DynamoDB would make 50 of 50.0. No other value is a set, and a set, unlike a map, is no nesting.
        return {"SS": [text]}
    return {"N": text} if fits else {"S": text}


def _significant_digits(digits: tuple[int, ...]) -> int:
    return len("".join(map(str, digits)).strip("0"))


def _value_size(value: Value) -> int:
    ((kind, content),) = value.items()
    if kind == "S":
        return len(content.encode())
    if kind == "SS":
        return len(content[0]) + CONTAINER_BYTES
    if kind == "N":
        # one byte per two digits and one more; the sign and the point are counted as digits
        return len(content) // 2 + 2
    if kind == "M":
        members = sum(len(name.encode()) + _value_size(member) for name, member in content.items())
        return CONTAINER_BYTES + ELEMENT_BYTES * len(content) + members
    if kind == "L":
        members = sum(_value_size(member) for member in content)
        return CONTAINER_BYTES + ELEMENT_BYTES * len(content) + members
    return 1
