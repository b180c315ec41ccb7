"""OpenAI: `tool_calls` of Chat Completions, and items of the Responses API. Arguments are JSON strings."""

from __future__ import annotations

from typing import Any

from service.mapping.replies.text import content_blocks, content_text, str_or_empty
from service.mapping.replies.transcript import Part, ToolCall, ToolResult


def read_call(entry: dict[str, Any]) -> ToolCall | None:
    """The call in an entry of `tool_calls`, of a function or of a custom tool; None for other entries."""
    id_, function, custom = str_or_empty(entry.get("id")), entry.get("function"), entry.get("custom")
    if isinstance(function, dict):
        return ToolCall(id_, str_or_empty(function.get("name")), function.get("arguments"))
    if isinstance(custom, dict):
        return ToolCall(id_, str_or_empty(custom.get("name")), custom.get("input"))
    return None


def read_item(item: dict[str, Any], kind: str) -> list[Part]:
    """The call, the result or both in an item of the Responses API of type `…_call` or `…_call_output`.

    The result of `function_call` and `custom_tool_call` is an item `…_call_output` with the same `call_id`.
    `mcp_call` carries its own result. Calls without a tool's name, such as `web_search_call`, are left out.
    """
    name, output, error = str_or_empty(item.get("name")), item.get("output"), item.get("error")
    # `mcp_call` has no call_id: its result is in the same item.
    id_ = str_or_empty(item.get("call_id")) or str_or_empty(item.get("id"))
    text = content_text(output if error is None else error)
    blocks = content_blocks(output) if error is None else ()
    result = ToolResult(id_, name, text, is_error=error is not None, blocks=blocks)
    if kind.endswith("_output"):
        return [result]
    if not name:
        return []
    call = ToolCall(id_, name, item.get("arguments", item.get("input")))
    return [call] if output is None and error is None else [call, result]
