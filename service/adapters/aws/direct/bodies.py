"""Parameters of calls as JSON, and responses as Python values."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable
from typing import Any

import orjson
from botocore.parsers import ResponseParserError

_QUOTED_BYTES = 100
"""Bytes of a foreign reply that an error text quotes."""


def request_body(parameters: dict[str, Any], tokens: Iterable[str]) -> bytes:
    """The body of a request; each absent parameter in `tokens` gets a random UUID.

    The parameters hold no bytes and no times, so their JSON is what botocore's serializer makes of them.
    """
    for name in tokens:
        parameters.setdefault(name, str(uuid.uuid4()))
    try:
        return orjson.dumps(parameters)
    except TypeError:
        # orjson writes neither half a surrogate pair nor an int above 64 bits, which the service may refuse
        return json.dumps(parameters).encode()


def response_values(body: bytes, shape: Any) -> dict[str, Any]:
    """The values of a successful response, by `shape`, botocore's description of its output.

    Raises ResponseParserError for bytes that are not JSON, and for JSON of something else than the service.
    """
    try:
        values = orjson.loads(body or b"{}")
    except orjson.JSONDecodeError:
        raise ResponseParserError(f"its reply is no JSON: {body[:_QUOTED_BYTES]!r}") from None
    # Other services answer in JSON as well. A key that botocore does not know may be new.
    if not isinstance(values, dict) or (values and shape and values.keys().isdisjoint(shape.members)):
        raise ResponseParserError(f"its reply is other JSON: {body[:_QUOTED_BYTES]!r}")
    return values
