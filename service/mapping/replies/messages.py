"""One item of a reply -> one message of the transcript, for every provider.

The shape is recognised message by message, not once per reply, because shapes come mixed: LangChain keeps
Anthropic's blocks as content, and gateways put Anthropic's models behind OpenAI's shape.
"""

from __future__ import annotations

from typing import Any

from service.domain.model import Json
from service.mapping.replies import anthropic, converse, langchain, openai
from service.mapping.replies.text import block_text, content_text, decode_json_string, str_or_empty
from service.mapping.replies.transcript import Part, ToolCall, ToolResult

_ROLES = {
    "assistant": "assistant",
    "model": "assistant",
    "user": "user",
    "tool": "tool",
    "function": "tool",
    "system": "system",
    "developer": "system",
}
_REASONING = ("reasoning", "thinking")
"""Beginnings of the types of reasoning items and blocks. They are neither messages nor text."""


UnlinkedMessage = tuple[str, list[Part]]
"""Role and parts of a message. Its tool results do not have the names of their calls yet."""


def read_message(item: Json) -> UnlinkedMessage | None:
    """The message in an item; None if the item is no message, or has no text, call or result."""
    if not isinstance(item, dict):
        return None
    kind = str_or_empty(item.get("type"))
    if kind.endswith(("_call", "_call_output")):
        role = "tool" if kind.endswith("_output") else "assistant"
        parts = openai.read_item(item, kind)
    else:
        role = _role(item, kind)
        if not role:
            return None
        parts = [_tool_message(item)] if role == "tool" else _parts(item)
    if not parts:
        return None
    for index, part in enumerate(parts):
        if isinstance(part, ToolCall) and isinstance(part.arguments, str):
            parts[index] = ToolCall(part.id, part.name, decode_json_string(part.arguments))
    # Tool results belong to a message of the user, as in Anthropic's API.
    return "user" if role == "tool" else role, parts


def _role(item: dict[str, Any], kind: str) -> str:
    """The role of a message; "" if the item is no message."""
    role = item.get("role")
    if isinstance(role, str):
        return _ROLES.get(role, "user")  # an unknown role is not the agent: its text is not the final text
    content = item.get("content")
    if kind in langchain.ROLES and isinstance(content, str | list):
        return langchain.ROLES[kind]
    # Without a role, blocks or calls make it a message. Text as content does not: search results have that.
    has_blocks = isinstance(content, list) and any(_is_block(block) for block in content)
    is_message = has_blocks or isinstance(item.get("tool_calls"), list)
    return "assistant" if is_message and not kind.startswith(_REASONING) else ""


def _is_block(block: Json) -> bool:
    return isinstance(block, dict) and ("type" in block or "toolUse" in block or "toolResult" in block)


def _tool_message(item: dict[str, Any]) -> ToolResult:
    """The result in a message of role `tool`: OpenAI's has an id, LangChain's also a name and a status."""
    return ToolResult(
        call_id=str_or_empty(item.get("tool_call_id")),
        name=str_or_empty(item.get("name")),
        text=content_text(item.get("content")),
        is_error=item.get("status") == "error" or item.get("is_error") is True,
    )


def _parts(item: dict[str, Any]) -> list[Part]:
    content = item.get("content")
    # OpenAI has a refusal beside the content, in place of text.
    blocks = content if isinstance(content, list) else (content, item.get("refusal"))
    parts = [part for block in blocks if (part := _part(block))]
    calls = _calls(item)
    if not calls:
        return parts
    # LangChain has a call twice: as the provider's block, and in tool_calls with complete arguments.
    listed = {call.id for call in calls if isinstance(call, ToolCall)}
    return [part for part in parts if not isinstance(part, ToolCall) or part.id not in listed] + calls


def _part(block: Json) -> Part | None:
    if not isinstance(block, dict):
        return str_or_empty(block)
    kind = block.get("type")
    if not isinstance(kind, str):
        return converse.read_block(block) or block_text(block)
    if kind.startswith(_REASONING):
        return None
    return anthropic.read_block(block, kind) or block_text(block)


def _calls(item: dict[str, Any]) -> list[Part]:
    """The calls that a message has beside its content. LangChain keeps OpenAI's in `additional_kwargs`."""
    entries = item.get("tool_calls")
    if not entries and isinstance(extra := item.get("additional_kwargs"), dict):
        entries = extra.get("tool_calls")
    # OpenAI's form before tool_calls: one call without an id.
    if not entries and isinstance(legacy := item.get("function_call"), dict):
        entries = [{"function": legacy}]
    if not isinstance(entries, list):
        return []
    objects = [entry for entry in entries if isinstance(entry, dict)]
    calls = (openai.read_call(entry) or langchain.read_call(entry) for entry in objects)
    return [call for call in calls if call is not None]
