"""One item of a reply -> one message of the transcript, for every provider.

The shape is recognised message by message, not once per reply, because shapes come mixed: LangChain keeps
Anthropic's blocks as content, and gateways put Anthropic's models behind OpenAI's shape.
"""

from __future__ import annotations

from typing import Any

from service.domain.model import Json
from service.mapping.replies.providers import (
    anthropic,
    autogen,
    cohere,
    converse,
    gemini,
    haystack,
    langchain,
    mcp,
    openai,
    pydantic_ai,
    vercel,
)
from service.mapping.replies.text import (
    block_text,
    content_blocks,
    content_text,
    decode_json_string,
    str_or_empty,
)
from service.mapping.replies.transcript import Part, ToolCall, ToolResult

_ROLES = {
    "assistant": "assistant",
    "model": "assistant",
    "ai": "assistant",
    "agent": "assistant",  # A2A
    "role_agent": "assistant",  # A2A, version 1
    "chatbot": "assistant",  # Cohere
    "user": "user",
    "tool": "tool",
    "function": "tool",
    "system": "system",
    "developer": "system",
}
_REASONING = ("reasoning", "thinking", "redacted_thinking")
"""Beginnings of the types of reasoning items and blocks. They are neither messages nor text."""

_BLOCK_KEYS = frozenset(
    {
        "type",
        "toolUse",
        "toolResult",
        "functionCall",
        "functionResponse",
        "function_call",
        "function_response",
        pydantic_ai.KIND,
        *haystack.KEYS,
    }
)
"""An object with one of these keys is a block of a message."""


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
        parts = _tool_message(item) if role == "tool" else _parts(item)
    if not parts:
        return None
    for index, part in enumerate(parts):
        if isinstance(part, ToolCall) and isinstance(part.arguments, str):
            parts[index] = ToolCall(part.id, part.name, decode_json_string(part.arguments))
        elif isinstance(part, ToolResult):
            parts[index] = mcp.unwrap_result(part)
    # Tool results belong to a message of the user, as in Anthropic's API.
    return "user" if role == "tool" else role, parts


def is_agents(item: Json) -> bool:
    """True for a message of the agent, also for one without text, call or result."""
    return isinstance(item, dict) and _role(item, str_or_empty(item.get("type"))) == "assistant"


def _role(item: dict[str, Any], kind: str) -> str:
    """The role of a message; "" if the item is no message."""
    role = item.get("role")
    if isinstance(role, str):
        # An unknown role is not the agent: its text is not the final text.
        return _ROLES.get(role.lower(), "user")
    content = item.get("content")
    if kind in langchain.ROLES and isinstance(content, str | list):
        return langchain.ROLES[kind]
    if role := autogen.role_of(item, kind):
        return role
    blocks = content if isinstance(content, list) else item.get("parts")
    # Without a role, blocks or calls make it a message. Text as content does not: search results have that.
    has_blocks = isinstance(blocks, list) and any(_is_block(block) for block in blocks)
    if has_blocks and (role := pydantic_ai.ROLES.get(str_or_empty(item.get("kind")))):
        return role
    is_message = has_blocks or any(isinstance(item.get(key), list) for key in ("tool_calls", "toolCalls"))
    return "assistant" if is_message and not kind.startswith(_REASONING) else ""


def _is_block(block: Json) -> bool:
    return isinstance(block, dict) and not _BLOCK_KEYS.isdisjoint(block)


def _tool_message(item: dict[str, Any]) -> list[Part]:
    """The results in a message of role `tool`.

    OpenAI's has an id, LangChain's also a name and a status, Ollama's a `tool_name`. Those of Gemini, Vercel
    and Cohere hold several results.
    """
    content, parts = item.get("content"), item.get("parts")
    blocks = content if isinstance(content, list) else parts if isinstance(parts, list) else []
    found = [part for block in blocks for part in _read_block(block) if isinstance(part, ToolResult)]
    found += cohere.read_results(item)
    if found:
        return list(found)
    content = parts if content is None else content
    return [
        ToolResult(
            call_id=str_or_empty(item.get("tool_call_id")) or str_or_empty(item.get("toolCallId")),
            name=str_or_empty(item.get("name")) or str_or_empty(item.get("tool_name")),
            text=content_text(content),
            is_error=item.get("status") == "error" or item.get("is_error") is True,
            blocks=content_blocks(content),
        )
    ]


def _parts(item: dict[str, Any]) -> list[Part]:
    content, parts = item.get("content"), item.get("parts")
    if isinstance(content, list):
        blocks: list[Json] = content
    elif isinstance(parts, list):
        # A message for a user interface has its text twice: in its parts and as content.
        blocks = parts
    else:
        # OpenAI has a refusal beside the content, in place of text.
        blocks = [content, item.get("refusal")]
    found = [part for block in blocks for part in _read_block(block)]
    if not any(isinstance(part, ToolCall) for part in found):
        found += vercel.read_invocations(item)
    calls = _calls(item)
    if not calls:
        return found
    # LangChain has a call twice: as the provider's block, and in tool_calls with complete arguments.
    listed = {call.id for call in calls if isinstance(call, ToolCall)}
    return [part for part in found if not isinstance(part, ToolCall) or part.id not in listed] + calls


def _read_block(block: Json) -> list[Part]:
    """The text, call or result in a block; [] for reasoning, images and the like."""
    if not isinstance(block, dict):
        return [block] if isinstance(block, str) and block else []
    kind = block.get("type")
    if isinstance(kind, str) and (several := vercel.read_part(block, kind)):
        return several
    found = _part(block, kind)
    return [found] if found else []


def _part(block: dict[str, Any], kind: Json) -> Part | None:
    if isinstance(part_kind := block.get(pydantic_ai.KIND), str):
        return pydantic_ai.read_part(block, part_kind)
    if not isinstance(kind, str):
        is_thought = block.get(gemini.THOUGHT) is True
        return (
            None
            if is_thought
            else converse.read_block(block)
            or gemini.read_part(block)
            or haystack.read_block(block)
            or autogen.read_block(block)
            or block_text(block)
        )
    if kind.startswith(_REASONING):
        return None
    return anthropic.read_block(block, kind) or converse.read_block(block) or block_text(block)


def _calls(item: dict[str, Any]) -> list[Part]:
    """The calls that a message has beside its content. LangChain keeps OpenAI's in `additional_kwargs`."""
    entries = item.get("tool_calls") or item.get("toolCalls")  # AG-UI, the SDKs in TypeScript
    if not entries and isinstance(extra := item.get("additional_kwargs"), dict):
        entries = extra.get("tool_calls")
    # OpenAI's form before tool_calls: one call without an id.
    if not entries and isinstance(legacy := item.get("function_call"), dict):
        entries = [{"function": legacy}]
    if not isinstance(entries, list):
        return []
    objects = [entry for entry in entries if isinstance(entry, dict)]
    calls = (
        openai.read_call(entry) or langchain.read_call(entry) or cohere.read_call(entry) for entry in objects
    )
    return [call for call in calls if call is not None]
