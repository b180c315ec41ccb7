"""Format of all queue messages: a versioned JSON object in ASCII, read strictly.

Readers raise PoisonMessageError with the reason: a malformed message goes to the dead-letter queue, no reader
guesses its meaning.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from json.encoder import encode_basestring_ascii
from typing import Any

import orjson

from service.domain.errors import PoisonMessageError
from service.domain.model import is_incarnation

VERSION = 1

_TASK_TOKEN = re.compile(r'(\\*"task_token\\*"\s*:\s*\\*")(?:[^"\\]|\\+/)*')
"""A task token in a body, also inside the text of an SNS notification; the body may be cut off in it."""


_encode = json.JSONEncoder(separators=(",", ":")).encode

_DELETE = b"\x7f"


def encode(body: dict[str, Any]) -> str:
    """Compact ASCII JSON, because SQS accepts only some Unicode characters."""
    return _encode(body)


def encode_texts(texts: Sequence[str]) -> str:
    """The same for an array of texts, quicker."""
    try:
        body = orjson.dumps(texts)
    except TypeError:  # half of a surrogate pair
        body = b""
    if body.isascii() and body and _DELETE not in body:
        return body.decode("ascii")
    return f"[{','.join(map(encode_basestring_ascii, texts))}]"


def shown_body(body: str, most_chars: int | None = None) -> str:
    """The body as logs and commands show it: without a task token, the first `most_chars` of it."""
    return _TASK_TOKEN.sub(r"\1********", body)[:most_chars]


def read_object(body: str) -> dict[str, Any]:
    """The JSON object in a message body, maybe after a byte order mark, as some programs on Windows write."""
    try:
        data = orjson.loads(body.removeprefix("\ufeff"))
    except orjson.JSONDecodeError as error:
        raise PoisonMessageError(f"not JSON: {error}") from None
    if not isinstance(data, dict):
        raise PoisonMessageError("not a JSON object")
    return data


def read_versioned(body: str) -> dict[str, Any]:
    """The JSON object in a message body, with a version that this code understands."""
    data = read_object(body)
    check_version(data)
    return data


def check_version(data: dict[str, Any]) -> None:
    """Check the key `v`, which may be absent."""
    version = data.get("v", VERSION)
    # A JSON `true` would equal 1.
    if version != VERSION or isinstance(version, bool):
        raise PoisonMessageError(f"version {version!r}; this rowfleet reads version {VERSION}")


def field(data: dict[str, Any], name: str, kind: type, *, may_be_empty: bool = False) -> Any:
    """The value of a required key, of type `kind`. An empty str is refused unless `may_be_empty`."""
    value = data.get(name)
    if not isinstance(value, kind) or (kind is str and not value and not may_be_empty):
        raise PoisonMessageError(f"{name!r} is missing or not a {kind.__name__}")
    return value


def whole_number(data: dict[str, Any], name: str, most: int) -> int:
    """The value of a required key: a whole number from 1 to `most`."""
    value = data.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise PoisonMessageError(f"{name!r} is not a whole number from 1 to {most}")
    return value


def optional_whole_number(data: dict[str, Any], name: str, most: int) -> int | None:
    """Like `whole_number`; None if the key is absent."""
    return whole_number(data, name, most) if name in data else None


def incarnation_field(data: dict[str, Any]) -> str:
    """The value of the key `incarnation`; "" without it, as in messages of earlier versions."""
    if "incarnation" not in data:
        return ""
    value: str = field(data, "incarnation", str)
    if not is_incarnation(value):
        raise PoisonMessageError(f"'incarnation' {value[:40]!r} is not 16 hexadecimal digits")
    return value
