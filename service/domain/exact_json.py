"""JSON without loss of digits: exact integers, Decimals where a float would be inexact, no NaN.

`orjson` is for our own messages. This module is for text that agents wrote, where a 20-digit id has to keep
all its digits.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any, NoReturn

from service.domain.model import Json

_HALF = re.compile("[\ud800-\udfff]")

MAX_NUMBER_CHARS = 4_000
"""Longest number, below the limit of CPython's own conversion (sys.int_info), for a clear error."""


def loads(text: str | bytes) -> Json:
    """Parse JSON. Raises ValueError with a readable text, for any input.

    A number with a fraction becomes a float if the float is written exactly so, otherwise a Decimal, so that
    12.50 keeps its last digit.
    """
    try:
        return _parse(text, _STRICT)
    except RecursionError:
        raise ValueError("JSON nested too deeply") from None


def loads_reply(text: str | bytes) -> Json:
    """Parse the JSON of a reply. As `loads`, but NaN, Infinity and -Infinity are null: Python writes them."""
    try:
        return _parse(text, _OF_REPLIES)
    except RecursionError:
        raise ValueError("JSON nested too deeply") from None


def dumps(value: Json, number: Callable[[Decimal], str] | None = None) -> str:
    """Compact JSON in the order of the value's keys. A Decimal is written with all its digits.

    `number` writes a Decimal; by default `plain_number`.
    """
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, dict):
        members = [f"{_quoted(str(name))}:{dumps(member, number)}" for name, member in value.items()]
        return "{" + ",".join(members) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join([dumps(item, number) for item in value]) + "]"
    if isinstance(value, Decimal):
        return (number or plain_number)(value)
    return _SCALARS.encode(value)


def dumps_exactly(value: Json) -> str:
    """Compact JSON from which `loads` makes an equal value of the same types, in characters of UTF-8.

    A Decimal keeps its exponent, and half a surrogate pair is an escape.
    """
    try:
        # ten times faster than `dumps`; it knows all but Decimals
        text = _COMPACT.encode(value)
    except TypeError:
        text = dumps(value, str)
    return text if _is_encodable(text) else _HALF.sub(lambda half: f"\\u{ord(half[0]):04x}", text)


def indented(value: Json, indent: str = "") -> str:
    """Indented JSON, with all digits as `dumps` writes them. `indent` is that of the first line."""
    inner = indent + "  "
    if isinstance(value, dict) and value:
        items = [f"{inner}{_quoted(str(name))}: {indented(item, inner)}" for name, item in value.items()]
        return "{\n" + ",\n".join(items) + f"\n{indent}}}"
    if isinstance(value, list | tuple) and value:
        return "[\n" + ",\n".join(inner + indented(item, inner) for item in value) + f"\n{indent}]"
    return dumps(value)


def utf8(text: str) -> bytes:
    """Text as UTF-8, made well-formed first."""
    return well_formed(text).encode()


def well_formed(text: str) -> str:
    """The text with U+FFFD for each half of a surrogate pair: JSON can carry one, UTF-8 cannot.

    For texts that are shown, such as errors. In a value it would be a character that nobody wrote.
    """
    return text if _is_encodable(text) else _HALF.sub("\ufffd", paired(text))


def paired(text: str) -> str:
    """The text with each two halves of a surrogate pair joined to one character. A half alone stays."""
    if _is_encodable(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


def half_in(value: Json) -> str:
    r"""The first half of a surrogate pair in the texts of a paired value, as `\ud83d`; "" without any."""
    if isinstance(value, str):
        found = None if _is_encodable(value) else _HALF.search(value)
        return f"\\u{ord(found[0]):04x}" if found else ""
    if isinstance(value, dict):
        return next(filter(None, map(half_in, (*value, *value.values()))), "")
    if isinstance(value, list | tuple):
        return next(filter(None, map(half_in, value)), "")
    return ""


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def plain_number(value: Decimal | float) -> str:
    """A number as text, with an exponent only beyond usual sizes: 0.1, 12345678901234567890, 1E+400."""
    number = value if isinstance(value, Decimal) else Decimal(repr(value))
    return format(number, "f") if -20 < number.adjusted() < 40 else str(number)  # noqa: PLR2004 -- taste


def _parse_fraction(text: str) -> float | Decimal:
    value = float(text)
    try:
        exact = Decimal(text)
    except InvalidOperation:
        raise ValueError(f"a number with an exponent beyond all measure: {text[:40]}") from None
    # repr is the shortest decimal that denotes this float.
    return value if repr(value) == text else exact


def _parse_integer(text: str) -> int:
    if len(text) > MAX_NUMBER_CHARS:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _constant_as_null(_name: str) -> None:
    return None


def is_scalar(value: Any) -> bool:
    """True if a value is neither list nor object."""
    return not isinstance(value, dict | list | tuple)


def _parse(text: str | bytes, decoder: json.JSONDecoder) -> Json:
    """The value of a JSON text, as by `json.loads`, which makes a decoder for each call."""
    if isinstance(text, str):
        if text.startswith("\ufeff"):
            raise json.JSONDecodeError("Unexpected UTF-8 BOM (decode using utf-8-sig)", text, 0)
    else:
        text = text.decode(json.detect_encoding(text), "surrogatepass")
    return decoder.decode(text)


_STRICT = json.JSONDecoder(
    parse_float=_parse_fraction, parse_int=_parse_integer, parse_constant=_refuse_constant
)
_OF_REPLIES = json.JSONDecoder(
    parse_float=_parse_fraction, parse_int=_parse_integer, parse_constant=_constant_as_null
)
_SCALARS = json.JSONEncoder(ensure_ascii=False, allow_nan=False)
_COMPACT = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_quoted = json.encoder.encode_basestring
"""A text as a JSON string, in characters beyond ASCII."""
