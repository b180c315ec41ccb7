"""JSON values as DynamoDB attribute values and back, and their size by DynamoDB's rules. Pure."""

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
_SAFE_INT = 10**_DIGITS
_LOWEST, _HIGHEST = -130, 125
"""DynamoDB numbers: 38 significant digits, magnitudes 1E-130 to 9.99…E+125."""

_NUL = "\0"
"""Stands for an empty name, which DynamoDB refuses in maps too: CSV headers do have empty columns."""


def encode(value: Json) -> Value:
    """A JSON value as an attribute value. Raises ValueError for NaN and infinities, TypeError for no JSON.

    A number that DynamoDB cannot hold exactly is stored as its text; half a surrogate pair, which no UTF-8
    can carry, as U+FFFD.
    """
    if isinstance(value, str):
        return {"S": value if value.isascii() else _clean(value)}
    if value is None:
        return {"NULL": True}
    if isinstance(value, bool):
        return {"BOOL": value}
    if isinstance(value, int | float | Decimal):
        return _number(value)
    if isinstance(value, Mapping):
        return {"M": {_stored_name(str(key)): encode(member) for key, member in value.items()}}
    if isinstance(value, list | tuple):
        return {"L": [encode(member) for member in value]}
    raise TypeError(f"{type(value).__name__} is no JSON value")


def decode(value: Value) -> Json:
    """The JSON value of an attribute value: whole numbers come back as int, others as Decimal."""
    ((kind, content),) = value.items()
    if kind in ("S", "BOOL"):
        return content
    if kind == "N":
        return decode_number(content)
    if kind == "M":
        return {_original_name(key): decode(member) for key, member in content.items()}
    if kind == "L":
        return [decode(member) for member in content]
    if kind == "NULL":
        return None
    raise ValueError(f"an attribute of type {kind}, which rowfleet never writes")


def decode_number(text: str) -> int | Decimal:
    """An N as int where its text is integral, otherwise as Decimal."""
    try:
        return int(text)
    except ValueError:
        return Decimal(text)


def int_attribute(item: Item, name: str) -> int:
    """A whole number, 0 if the attribute is absent."""
    return int(decode_number(item[name]["N"])) if name in item else 0


def item_bytes(item: Item) -> int:
    """The bytes an item counts for in DynamoDB's limits: UTF-8 names and values, numbers rounded up."""
    return sum(len(name.encode()) + _value_size(value) for name, value in item.items())


def _stored_name(name: str) -> str:
    """The empty name as NUL; so that nothing else becomes NUL, a name of NULs gets one more."""
    name = _clean(name)
    return name if name.strip(_NUL) else name + _NUL


def _original_name(name: str) -> str:
    return name if name.strip(_NUL) else name[:-1]


def _clean(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _number(value: float | Decimal) -> Value:
    text = repr(value) if isinstance(value, float) else str(value)
    if isinstance(value, int) and -_SAFE_INT < value < _SAFE_INT:
        return {"N": text}
    number = Decimal(text)
    if not number.is_finite():
        raise ValueError(f"{text} is no number that can be stored")
    digits = number.as_tuple().digits
    significant = len(digits) if len(digits) <= _DIGITS else _significant(digits)
    fits = significant <= _DIGITS and (not number or _LOWEST <= number.adjusted() <= _HIGHEST)
    return {"N": text} if fits else {"S": text}


def _significant(digits: tuple[int, ...]) -> int:
    return len("".join(map(str, digits)).strip("0"))


def _value_size(value: Value) -> int:
    ((kind, content),) = value.items()
    if kind == "S":
        return len(content.encode())
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
