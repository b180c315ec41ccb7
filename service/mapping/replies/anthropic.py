"""Anthropic Messages: blocks with a `type` in the `content` of messages.

The server's own tools have types of their own, all on one pattern: `server_tool_use`, `mcp_tool_use` are
calls, `web_search_tool_result`, `mcp_tool_result`, `code_execution_tool_result` are results.
"""

from __future__ import annotations

from typing import Any

from service.domain.model import Json
from service.mapping.replies.text import content_text, json_text, str_or_empty
from service.mapping.replies.transcript import ToolCall, ToolResult

_OF_TEXT = ("tool_result", "mcp_tool_result")
"""Their content is text; that of the server's tools is data: lists of hits, output of programs."""


def read_block(block: dict[str, Any], kind: str) -> ToolCall | ToolResult | None:
    """A block of type `kind`; None where it is neither call nor result."""
    if kind.endswith("tool_use"):
        return ToolCall(str_or_empty(block.get("id")), str_or_empty(block.get("name")), block.get("input"))
    if kind.endswith("tool_result"):
        content = block.get("content")
        return ToolResult(
            call_id=str_or_empty(block.get("tool_use_id")),
            # Real blocks carry the id of the call and no name; the original design has a name and no id.
            name=str_or_empty(block.get("name")),
            text=content_text(content) if kind in _OF_TEXT else json_text(content),
            is_error=block.get("is_error") is True or _is_error(content),
        )
    return None


def _is_error(content: Json) -> bool:
    """The server's tools say so in the type of the content: `web_search_tool_result_error`."""
    return isinstance(content, dict) and str_or_empty(content.get("type")).endswith("_error")
