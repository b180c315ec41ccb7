"""Anthropic Messages: `tool_use` and `tool_result` blocks in the `content` of messages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from service import jsontext
from service.mapping.transcript import ToolCall, ToolResult, Transcript, Usage, usage_of
from service.model import Json


def read_anthropic(reply: Json) -> Transcript | None:
    """`{messages: […]}`, one message, `{content: […]}` or a list of messages; None for every other shape."""
    messages = _messages(reply)
    if not messages:
        return None
    calls = tuple(_calls(messages))
    names = {call.id: call.name for call in calls if call.id}
    return Transcript(
        calls=calls,
        results=tuple(_results(messages, names)),
        text=_final_text(messages),
        usage=sum((usage_of(message) for message in messages), Usage()),
        structured=reply.get("structured_output") if isinstance(reply, dict) else None,
    )


def _messages(reply: Json) -> list[dict[str, Json]]:
    candidates = reply
    if isinstance(reply, dict):
        candidates = reply.get("messages", [reply])
    if not isinstance(candidates, list):
        return []
    return [
        item for item in candidates if isinstance(item, dict) and isinstance(item.get("content"), str | list)
    ]


def _blocks(messages: list[dict[str, Json]], kind: str) -> Iterator[dict[str, Json]]:
    for message in messages:
        content = message["content"]
        if isinstance(content, list):
            yield from (b for b in content if isinstance(b, dict) and b.get("type") == kind)


def _calls(messages: list[dict[str, Json]]) -> Iterator[ToolCall]:
    for block in _blocks(messages, "tool_use"):
        yield ToolCall(_text(block.get("id")), _text(block.get("name")), block.get("input"))


def _results(messages: list[dict[str, Json]], names: dict[str, str]) -> Iterator[ToolResult]:
    for block in _blocks(messages, "tool_result"):
        result = ToolResult(
            call_id=_text(block.get("tool_use_id")),
            name=_text(block.get("name")),
            text=content_text(block.get("content")),
            is_error=block.get("is_error") is True,
        )
        # Real blocks carry the id of the call and no name; the original sketch has a name and no id.
        yield replace(result, name=names.get(result.call_id, result.name))


def content_text(content: Json) -> str:
    """The text of a `content`: a string, or the text blocks of a list; anything else as JSON."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(text for block in content if (text := _block_text(block)))
    try:
        return jsontext.dumps(content)
    except (RecursionError, ValueError, TypeError):
        return ""


def _block_text(block: Json) -> str:
    if isinstance(block, dict):
        return _text(block.get("text"))
    return _text(block)


def _final_text(messages: list[dict[str, Json]]) -> str:
    said = [m for m in messages if m.get("role", "assistant") == "assistant"]
    return content_text(said[-1]["content"]) if said else ""


def _text(value: Json) -> str:
    return value if isinstance(value, str) else ""
