"""JSON that does not change what it carries: exact integers, no float that lies, no NaN.

`orjson` is for our own messages; this is for text that agents wrote, where a 20-digit id has to come out
with the digits it went in with.
"""

from __future__ import annotations

import json
from decimal import Decimal, InvalidOperation
from typing import Any, NoReturn

from service.domain.model import Json

MAX_NUMBER_CHARS = 4_000
"""CPython refuses to convert longer integers (sys.int_info); ours is below it, with a clear error."""


def loads(text: str | bytes) -> Json:
    """Parse JSON. Raises ValueError in words, whatever the text is.

    A number with a fraction is a float where the float stands for the same decimal, otherwise a Decimal.
    """
    try:
        return json.loads(text, parse_float=_exact, parse_int=_integer, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("JSON nested too deeply") from None


def dumps(value: Json) -> str:
    """Compact JSON in the order of the value's keys; a Decimal is written with its own digits."""
    if isinstance(value, dict):
        return (
            "{"
            + ",".join(f"{json.dumps(str(k), ensure_ascii=False)}:{dumps(v)}" for k, v in value.items())
            + "}"
        )
    if isinstance(value, list | tuple):
        return "[" + ",".join(dumps(item) for item in value) + "]"
    if isinstance(value, Decimal):
        return plain_number(value)
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def utf8(text: str) -> bytes:
    """Text as UTF-8; half a surrogate pair, which JSON can carry and UTF-8 cannot, becomes U+FFFD."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


def plain_number(value: Decimal | float) -> str:
    """A number without an exponent for the sizes people write: 0.1, 12345678901234567890, 1E+400."""
    number = value if isinstance(value, Decimal) else Decimal(repr(value))
    return format(number, "f") if -20 < number.adjusted() < 40 else str(number)  # noqa: PLR2004 -- taste


def _exact(text: str) -> float | Decimal:
    value = float(text)
    try:
        exact = Decimal(text)
    except InvalidOperation:
        raise ValueError(f"a number with an exponent beyond all measure: {text[:40]}") from None
    return value if Decimal(repr(value)) == exact else exact


def _integer(text: str) -> int:
    if len(text) > MAX_NUMBER_CHARS:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def is_scalar(value: Any) -> bool:
    """Whether a value is neither list nor object."""
    return not isinstance(value, dict | list | tuple)
