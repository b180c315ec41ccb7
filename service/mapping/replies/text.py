"""The text of a content, and JSON within text."""

from __future__ import annotations

import codecs
import re

from service.domain import exact_json
from service.domain.model import Json

MAX_EMBEDDED_CHARS = 8 * 2**20
"""Longer text is not parsed. Lambda's synchronous payload ends at 6 MB, Step Functions' at 256 KiB."""

MAX_ENCODINGS = 3
"""How often JSON may have been turned into a JSON string on top of another."""

_MAY_BE_JSON = re.compile(r'\s*[\[{"]')


def str_or_empty(value: Json) -> str:
    """A string as it is; "" for everything else."""
    return value if isinstance(value, str) else ""


def embedded_json(text: str) -> Json:
    """The object or list that a text is as JSON, or as JSON within a JSON string; None for other text."""
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


def unquoted(value: Json) -> Json:
    """An object or list that came as a JSON string (OpenAI's arguments); any other value as it is."""
    if not isinstance(value, str):
        return value
    found = embedded_json(value)
    return value if found is None else found


def content_text(content: Json) -> str:
    """The text of a `content`: a string, or the blocks of a list, a line each; other data as JSON.

    A block is a string or an object with `text`, `json` (Converse, LangChain) or `refusal` (OpenAI).
    Images and documents have no text.
    """
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        texts = [text for block in content if (text := block_text(block))]
        if texts or not content or any(isinstance(block, dict) and "type" in block for block in content):
            return "\n".join(texts)
    return json_text(content)


def block_text(block: Json) -> str:
    """The text of one block, "" where it has none."""
    if not isinstance(block, dict):
        return str_or_empty(block)
    text = block.get("text") or block.get("refusal")
    if isinstance(text, str):
        return text
    return json_text(block["json"]) if "json" in block else ""


def json_text(value: Json) -> str:
    """Compact JSON; a string as it is, and "" for what cannot be written."""
    if isinstance(value, str):
        return value
    try:
        return exact_json.dumps(value)
    except (RecursionError, ValueError, TypeError):
        return ""


def parse_body(data: bytes, charset: str | None) -> Json:
    """JSON whatever the content type says, if it parses; otherwise text, with undecodable bytes replaced."""
    text = decode(data, charset)
    try:
        return exact_json.loads(data if charset is None else text)
    except ValueError:
        return text


def decode(data: bytes, charset: str | None) -> str:
    """Text in `charset`, or UTF-8 where there is no such thing, without a byte order mark."""
    try:
        name = codecs.lookup(charset or "utf-8").name
        return data.decode(name, "replace").removeprefix("\ufeff")
    except (LookupError, ValueError):
        return data.decode("utf-8", "replace")
