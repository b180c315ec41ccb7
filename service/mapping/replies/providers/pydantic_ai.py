"""pydantic-ai: `kind: request` and `kind: response` with `parts` that have a `part_kind`.

Source: ai.pydantic.dev/api/messages.
"""

from __future__ import annotations

from typing import Any

from service.domain.model import Json
from service.mapping.replies.text import content_text, str_or_empty, value_text
from service.mapping.replies.transcript import Part, ToolCall, ToolResult

ROLES = {"request": "user", "response": "assistant"}
"""The role for a message's `kind`."""

KIND = "part_kind"


def read_part(part: dict[str, Any], kind: str) -> Part | None:
    """The text, call or result in a part; None for reasoning and the like."""
    content = part.get("content")
    match kind:
        case "text" | "user-prompt" | "system-prompt":
            return content_text(content)
        case "tool-call" | "builtin-tool-call":
            id_, name = str_or_empty(part.get("tool_call_id")), str_or_empty(part.get("tool_name"))
            return ToolCall(id_, name, part.get("args"))
        case "tool-return" | "builtin-tool-return":
            return _result(part, content, is_error=str_or_empty(part.get("outcome")) in {"failed", "denied"})
        case "retry-prompt" if part.get("tool_name"):
            return _result(part, content, is_error=True)
    return None


def _result(part: dict[str, Any], content: Json, *, is_error: bool) -> ToolResult:
    id_, name = str_or_empty(part.get("tool_call_id")), str_or_empty(part.get("tool_name"))
    text, blocks = value_text(content)
    return ToolResult(id_, name, text, is_error, blocks)
