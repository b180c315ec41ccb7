"""Haystack: the content of a ChatMessage is a list of `{text}`, `{tool_call}` and `{tool_call_result}`.

Source: docs.haystack.deepset.ai/docs/chatmessage.
"""

from __future__ import annotations

from typing import Any

from service.domain.model import Json
from service.mapping.replies.text import str_or_empty, value_text
from service.mapping.replies.transcript import Part, ToolCall, ToolResult

KEYS = frozenset({"tool_call", "tool_call_result"})
"""The keys of a block with a call or a result."""


def read_block(block: dict[str, Any]) -> Part | None:
    """The call or the result in a block; None for other blocks."""
    if isinstance(call := block.get("tool_call"), dict):
        return ToolCall(
            str_or_empty(call.get("id")), str_or_empty(call.get("tool_name")), call.get("arguments")
        )
    result = block.get("tool_call_result")
    if not isinstance(result, dict):
        return None
    origin = result.get("origin")
    origin = origin if isinstance(origin, dict) else {}
    text, blocks = value_text(result.get("result"))
    id_, name = str_or_empty(origin.get("id")), str_or_empty(origin.get("tool_name"))
    return ToolResult(id_, name, text, result.get("error") is True, blocks)


def unwrap_message(item: Json) -> Json:
    """The message in the form before version 2.9, whose keys begin with `_`; everything else unchanged."""
    if isinstance(item, dict) and {"_role", "_content"} <= item.keys():
        return {"role": item["_role"], "content": item["_content"], "meta": item.get("_meta")}
    return item
