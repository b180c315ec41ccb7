"""Anthropic Messages: blocks with a `type` in the `content` of messages.

Anthropic's server tools have types of their own on the same pattern. `server_tool_use` and `mcp_tool_use` are
calls; `web_search_tool_result`, `mcp_tool_result` and `code_execution_tool_result` are results. The text of a
fetched page is that of its document.
"""

from __future__ import annotations

from typing import Any

from service.domain.model import Json
from service.mapping.replies.text import content_blocks, content_text, json_text, str_or_empty
from service.mapping.replies.transcript import ToolCall, ToolResult

_TEXT_RESULTS = ("tool_result", "mcp_tool_result")
"""Results with text as content. Those of the server tools are data: lists of hits, output of programs."""


def read_block(block: dict[str, Any], kind: str) -> ToolCall | ToolResult | None:
    """The call or result in a block of type `kind`; None for other blocks."""
    if kind.endswith("tool_use"):
        return ToolCall(str_or_empty(block.get("id")), str_or_empty(block.get("name")), block.get("input"))
    if kind.endswith("tool_result"):
        content = _fetched(block.get("content"))
        return ToolResult(
            call_id=str_or_empty(block.get("tool_use_id")),
            # Anthropic's blocks have the id of the call and no name. Those of rowfleet's first agents have a
            # name and no id.
            name=str_or_empty(block.get("name")),
            text=content_text(content) if kind in _TEXT_RESULTS else json_text(content),
            is_error=block.get("is_error") is True or _is_server_tool_error(content),
            blocks=content_blocks(content) if kind in _TEXT_RESULTS else (),
        )
    return None


def _fetched(content: Json) -> Json:
    """The text of a page that was fetched, without the block around it; other content unchanged."""
    if isinstance(content, dict) and content.get("type") == "web_fetch_result":
        return content_text([content.get("content")]) or content
    return content


def _is_server_tool_error(content: Json) -> bool:
    """True if the content's own type says so, as in `web_search_tool_result_error`."""
    return isinstance(content, dict) and str_or_empty(content.get("type")).endswith("_error")
