"""AutoGen: messages with a `type` such as `TextMessage`, and events of tool calls, each with its `source`.

Source: microsoft.github.io/autogen (autogen_agentchat.messages, TaskResult).
"""

from __future__ import annotations

from typing import Any

from service.mapping.replies.text import str_or_empty
from service.mapping.replies.transcript import Part, ToolCall, ToolResult

_CALLS = "ToolCallRequestEvent"
_RESULTS = "ToolCallExecutionEvent"
_TEXTS = frozenset(
    {"TextMessage", "ToolCallSummaryMessage", "StopMessage", "HandoffMessage", "MultiModalMessage"}
)


def role_of(message: dict[str, Any], kind: str) -> str:
    """The role of a message of type `kind`; "" for one of another framework."""
    if "source" not in message:
        return ""
    if kind == _RESULTS:
        return "tool"
    if kind == _CALLS or kind in _TEXTS:
        return "user" if message["source"] == "user" else "assistant"
    return ""


def read_block(block: dict[str, Any]) -> Part | None:
    """The call `{id, name, arguments}` or the result `{call_id, content, is_error}` in an event's list."""
    name = str_or_empty(block.get("name"))
    if "call_id" in block and "content" in block:
        text = str_or_empty(block["content"])
        return ToolResult(str_or_empty(block["call_id"]), name, text, block.get("is_error") is True)
    if name and {"id", "arguments"} <= block.keys() and "type" not in block:
        return ToolCall(str_or_empty(block["id"]), name, block["arguments"])
    return None
