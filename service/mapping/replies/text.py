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

_HOLDERS = ("resource", "searchResult", "document")
"""Keys under which a block has its document."""

_OUTPUT_KEYS = frozenset({"result", "output", "content", "text", "response", "results"})

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
            value = exact_json.loads_reply(text)
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

    Images and files have no text.
    """
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        texts = [text for block in content if (text := block_text(block))]
        # Blocks without text, such as images, give "". A list that has no blocks at all is data.
        if texts or not content or _has_types(content):
            return "\n".join(texts)
    return json_text(content)


def _has_types(content: Json) -> bool:
    """True for a list of blocks with a type."""
    return isinstance(content, list) and any(isinstance(item, dict) and "type" in item for item in content)


def content_blocks(content: Json) -> tuple[str, ...]:
    """The texts of a `content` with several blocks; () for one block, a string and other data."""
    if not isinstance(content, list):
        return ()
    texts = [text for block in content if (text := block_text(block))]
    return tuple(texts) if len(texts) > 1 else ()


def value_text(value: Json) -> tuple[str, tuple[str, ...]]:
    """Text and blocks of a value that a tool returned: content if it has typed blocks, else JSON."""
    if _has_types(value):
        return content_text(value), content_blocks(value)
    return "" if value is None else json_text(value), ()


def output_text(value: Json) -> str:
    """The text of an object that a tool returned: JSON, or a text that is alone under a key for results.

    Gemini, ADK and Cohere take objects only, so that a text of a tool has to be put under some key.
    """
    if isinstance(value, dict) and len(value) == 1 and not _OUTPUT_KEYS.isdisjoint(value):
        (inner,) = value.values()
        if not isinstance(inner, dict):
            return "" if inner is None else content_text(inner) if _has_types(inner) else json_text(inner)
    return "" if value is None else json_text(value)


def block_text(block: Json) -> str:
    """The text of one block, or "" if it has none.

    A block is a string or an object with `text`, `json` (Converse, LangChain), `refusal` (OpenAI), `data`
    (A2A), or with a resource, a document or a search result.
    """
    if not isinstance(block, dict):
        return str_or_empty(block)
    text = block.get("text") or block.get("refusal")
    if isinstance(text, dict):
        text = text.get("value")  # OpenAI's Assistants
    if isinstance(text, str) and text:
        return text
    if "json" in block:
        return json_text(block["json"])
    if isinstance(block.get("data"), dict | list):
        return json_text(block["data"])
    return _document_text(block)


def _document_text(block: dict[str, Json]) -> str:
    """The text of a block that is a document.

    | block | its text |
    | --- | --- |
    | MCP's `resource` | `resource.text` |
    | Anthropic's `search_result`, Converse's `searchResult` | its `content`, a list of texts |
    | Anthropic's `document`, Converse's `document` | `source`: `data`, `text` or `content` |
    | Cohere's `document` | `document.data`, a text or an object |
    """
    kind = block.get("type")
    if kind == "search_result":
        return content_text(block.get("content"))
    if kind == "document" and isinstance(block.get("source"), dict):
        return _source_text(block["source"])
    inner: dict[str, Json] = next((block[key] for key in _HOLDERS if isinstance(block.get(key), dict)), {})
    if isinstance(inner.get("source"), dict):
        return _source_text(inner["source"])
    found = inner.get("text", inner.get("data", inner.get("content")))
    return content_text(found)


def _source_text(source: dict[str, Json]) -> str:
    """The text of a document's source. One in base64, such as a PDF, has none."""
    if str_or_empty(source.get("type")) in {"base64", "url", "file"}:
        return ""
    found = source.get("content", source.get("text", source.get("data")))
    return content_text(found) if isinstance(found, str | list) else ""


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
        return exact_json.loads_reply(data if charset is None else text)
    except ValueError:
        return text


def decode_text(data: bytes, charset: str | None) -> str:
    """The bytes as text in `charset`, or in UTF-8 if that is None or unknown; without a byte order mark."""
    try:
        name = codecs.lookup(charset or "utf-8").name
        return data.decode(name, "replace").removeprefix("\ufeff")
    except (LookupError, ValueError):  # also codecs that are no text encodings, and a NUL in the name
        return data.decode("utf-8", "replace")
