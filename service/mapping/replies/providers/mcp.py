"""Model Context Protocol (MCP): the result of a tool, alone or in a response of JSON-RPC.

Source: modelcontextprotocol.io/specification, CallToolResult.
"""

from __future__ import annotations

from typing import Any

from service.domain.model import Json

_MARKS = ("isError", "structuredContent")


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
