"""The text of a message's content, JSON within text, and the body of a reply as JSON or text."""

from __future__ import annotations

import codecs
import re

from service.domain import exact_json
from service.domain.model import Json

MAX_EMBEDDED_CHARS = 8 * 2**20
"""Longest text that is parsed as JSON. Lambda's payload limit is 6 MB, Step Functions' 256 KiB."""

MAX_ENCODINGS = 3
"""Most layers of JSON strings within JSON strings that are decoded."""

_MAY_BE_JSON = re.compile(r'\s*[\[{"]')
"""A test that is cheaper than parsing: most texts are prose."""


def str_or_empty(value: Json) -> str:
    """The value if it is a string, else ""."""
    return value if isinstance(value, str) else ""


def embedded_json(text: str) -> Json:
    """The object or list in a text that is JSON, or a JSON string with JSON in it; None for other text."""
    for _ in range(MAX_ENCODINGS):
        if len(text) > MAX_EMBEDDED_CHARS or _MAY_BE_JSON.match(text) is None:
            return None
        try:
            value = exact_json.loads(text)
        except (ValueError, ArithmeticError):
            return None
        if not isinstance(value, str):
            return value if isinstance(value, dict | list) else None
        text = value
    return None


def decode_json_string(value: Json) -> Json:
    """The object or list in a JSON string (such as OpenAI's arguments); any other value unchanged."""
    if not isinstance(value, str):
        return value
    found = embedded_json(value)
    return value if found is None else found


def content_text(content: Json) -> str:
    """The text of a `content`: a string, or the blocks of a list, one per line; other data as JSON.

    A block is a string or an object with `text`, `json` (Converse, LangChain) or `refusal` (OpenAI).
    Images and documents have no text.
    """
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        texts = [text for block in content if (text := block_text(block))]
        # Blocks without text, such as images, give "". A list that has no blocks at all is data.
        is_typed = any(isinstance(block, dict) and "type" in block for block in content)
        if texts or not content or is_typed:
            return "\n".join(texts)
    return json_text(content)


def block_text(block: Json) -> str:
    """The text of one block, or "" if it has none."""
    if not isinstance(block, dict):
        return str_or_empty(block)
    text = block.get("text") or block.get("refusal")
    if isinstance(text, str):
        return text
    return json_text(block["json"]) if "json" in block else ""


def json_text(value: Json) -> str:
    """Compact JSON; a string unchanged, and "" for a value that cannot be written as JSON."""
    if isinstance(value, str):
        return value
    try:
        return exact_json.dumps(value)
    except (RecursionError, ValueError, TypeError):
        return ""


def parse_body(data: bytes, charset: str | None) -> Json:
    """JSON if the bytes parse as such, whatever their content type; else text, with bad bytes replaced."""
    text = decode_text(data, charset)
    try:
        # Bytes without a charset: JSON may also be UTF-16 or UTF-32, which the parser detects.
        return exact_json.loads(data if charset is None else text)
    except ValueError:
        return text


def decode_text(data: bytes, charset: str | None) -> str:
    """The bytes as text in `charset`, or in UTF-8 if that is None or unknown; without a byte order mark."""
    try:
        name = codecs.lookup(charset or "utf-8").name
        return data.decode(name, "replace").removeprefix("\ufeff")
    except (LookupError, ValueError):  # also codecs that are no text encodings, and a NUL in the name
        return data.decode("utf-8", "replace")
