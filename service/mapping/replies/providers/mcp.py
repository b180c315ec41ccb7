"""Model Context Protocol (MCP): the result of a tool, alone or in a response of JSON-RPC.

Source: modelcontextprotocol.io/specification, CallToolResult.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from service.domain.model import Json
from service.mapping.replies.text import content_blocks, content_text, embedded_json
from service.mapping.replies.transcript import ToolResult

_MARKS = ("isError", "structuredContent")
_BLOCK_TYPES = ("text", "image", "audio", "resource", "resource_link")
_RESULT_KEYS = frozenset({"content", "isError", "structuredContent", "_meta", "meta"})


def find_items(reply: dict[str, Any]) -> list[Json]:
    """The tool's result as a message of role `tool`; [] for another reply."""
    result = reply.get("result") if "jsonrpc" in reply else reply
    if not isinstance(result, dict) or not isinstance(result.get("content"), list):
        return []
    if "jsonrpc" not in reply and not any(key in result for key in _MARKS):
        return []
    if "role" in result:
        return []
    return [{"role": "tool", "content": result["content"], "is_error": result.get("isError") is True}]


def bare_result(reply: Json) -> ToolResult | None:
    """The result that a reply is without any mark of MCP: its content alone, as a list or as one block."""
    if isinstance(reply, dict) and "content" in reply and reply.keys() <= _RESULT_KEYS:
        reply = reply["content"]
    blocks = [reply] if isinstance(reply, dict) else reply
    if not isinstance(blocks, list) or not blocks:
        return None
    if not all(isinstance(block, dict) and block.get("type") in _BLOCK_TYPES for block in blocks):
        return None
    return ToolResult("", "", content_text(blocks), blocks=content_blocks(blocks))


def unwrap_result(result: ToolResult) -> ToolResult:
    """The result with its own text, if frameworks have written MCP's result or its content as JSON.

    A pattern would find the text with the quotes and escapes of the JSON around it.
    """
    if result.blocks or not result.text.lstrip().startswith(("{", "[")):
        return result
    found = embedded_json(result.text)
    is_error = result.is_error
    if isinstance(found, dict) and "content" in found and found.keys() <= _RESULT_KEYS:
        is_error = is_error or found.get("isError") is True
        found = found["content"]
    if not _is_content(found):
        return result
    # The text may again be such JSON; each time it is shorter.
    return unwrap_result(
        replace(result, text=content_text(found), is_error=is_error, blocks=content_blocks(found))
    )


def _is_content(value: Json) -> bool:
    return (
        isinstance(value, list)
        and len(value) > 0
        and all(isinstance(item, dict) and item.get("type") == "text" and "text" in item for item in value)
    )
