"""Cohere: the reply and the chat history of the first version of its API. The second is like OpenAI's.

Source: docs.cohere.com/v1/reference/chat, docs.cohere.com/docs/tool-use.
"""

from __future__ import annotations

from typing import Any

from service.domain.model import Json
from service.mapping.replies.text import output_text, str_or_empty
from service.mapping.replies.transcript import ToolCall, ToolResult


def find_items(reply: dict[str, Any]) -> list[Json]:
    """The messages of a reply: its `chat_history`, else its own `text` and calls."""
    history = reply.get("chat_history")
    if isinstance(history, list) and history:
        return [_message(entry) for entry in history]
    if isinstance(reply.get("text"), str) and ("generation_id" in reply or "chat_history" in reply):
        return [{"role": "assistant", "content": reply["text"], "tool_calls": reply.get("tool_calls")}]
    return []


def read_call(entry: dict[str, Any]) -> ToolCall | None:
    """The call in an entry of `tool_calls`: `{name, parameters}`; None for entries of another form."""
    if "parameters" not in entry:
        return None
    return ToolCall(str_or_empty(entry.get("id")), str_or_empty(entry.get("name")), entry.get("parameters"))


def read_results(item: dict[str, Any]) -> list[ToolResult]:
    """The results in the `tool_results` of a message: `{call: {name, parameters}, outputs: […]}`."""
    found: list[ToolResult] = []
    entries = item.get("tool_results")
    for entry in entries if isinstance(entries, list) else []:
        call = entry.get("call") if isinstance(entry, dict) else None
        if isinstance(call, dict):
            outputs = entry.get("outputs")
            # A single output is the tool's own object, which Cohere asks for in a list.
            is_single = isinstance(outputs, list) and len(outputs) == 1
            text = output_text(outputs[0] if is_single else outputs)
            found.append(ToolResult(str_or_empty(call.get("id")), str_or_empty(call.get("name")), text))
    return found


def _message(entry: Json) -> Json:
    if isinstance(entry, dict) and "content" not in entry and isinstance(entry.get("message"), str | None):
        return {**entry, "content": entry.get("message")}
    return entry
