"""Streams of Cohere's Chat API, versions 2 and 1.

Source: docs.cohere.com/reference/chat-stream.
"""

from __future__ import annotations

from collections.abc import Sequence

from service.agents.wire.streams.events import join_text, kind_of
from service.agents.wire.streams.failures import Event, incomplete, stream_error
from service.agents.wire.streams.tool_calls import ToolCalls
from service.domain.model import Json
from service.domain.provider_errors import says_something

_KINDS = frozenset({"message-start", "content-start", "content-delta", "tool-plan-delta", "tool-call-start"})


def is_cohere(event: Event) -> bool:
    """True for an event of either version."""
    return (kind_of(event) in _KINDS and "delta" in event) or kind_of(event, "event_type") == "stream-start"


def join_cohere(events: Sequence[Event]) -> Json:
    """Join events to one reply. In version 1 the last event holds it."""
    last = events[-1]
    if kind_of(last, "event_type") == "stream-end" and isinstance(last.get("response"), dict):
        return {**last["response"], "finish_reason": last.get("finish_reason")}
    if kind_of(last) != "message-end":
        raise incomplete()
    blocks: dict[int, tuple[str, list[str]]] = {}
    plan: list[str] = []
    calls = ToolCalls()
    for event in events:
        message = (event.get("delta") or {}).get("message") or {}
        content, call = message.get("content"), message.get("tool_calls")
        if isinstance(content, dict):
            key = "thinking" if "thinking" in content else "text"
            blocks.setdefault(event.get("index") or 0, (key, []))[1].append(content.get(key) or "")
        if isinstance(call, dict):
            calls.add([{"index": event.get("index"), **call}])
        plan.append(message.get("tool_plan") or "")
    return _whole(events, blocks, join_text(plan), calls)


def _whole(
    events: Sequence[Event], blocks: dict[int, tuple[str, list[str]]], plan: str, calls: ToolCalls
) -> Json:
    end = events[-1].get("delta") or {}
    if says_something(end.get("error")):
        raise stream_error({"message": end["error"]} if isinstance(end["error"], str) else end["error"])
    parts = [blocks[index] for index in sorted(blocks)]
    content = [{"type": key, key: join_text(pieces)} for key, pieces in parts]
    message: Event = {"role": "assistant", "content": content}
    message |= {key: value for key, value in (("tool_plan", plan), ("tool_calls", calls.calls)) if value}
    return {"id": events[0].get("id"), **end, "message": message}
