"""Streams of LangGraph's platform, by the names of their events.

| stream mode | event | reply |
| --- | --- | --- |
| `values` | `values`: the state after each step | the last state |
| `messages-tuple` | `messages`: a piece of a message, and metadata | `{messages}` with whole messages |
| `messages` | `messages/partial`, `messages/complete`: messages so far | the same |
| `updates` | `updates`: what each node added | `{messages}` of all nodes, or the updates as a list |

Events of subgraphs (`values|namespace`) do not count beside those of the graph itself. An `__interrupt__` in
the last update stays in the reply: the graph waits for input.
Source: docs.langchain.com/langsmith/streaming.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from service.agents.wire.streams.events import StreamEvent, join_text, kind_of
from service.agents.wire.streams.failures import Event, incomplete, is_error, stream_error
from service.agents.wire.streams.tool_calls import ToolCalls
from service.domain import exact_json
from service.domain.model import Json

_STATES = frozenset({"values", "updates"})
_MESSAGES = frozenset({"messages", "messages/partial", "messages/complete"})
_INTERRUPT = "__interrupt__"
_OTHER = frozenset(
    {"metadata", "messages/metadata", "end", "custom", "debug", "events", "tasks", "checkpoints"}
)


def is_langgraph(events: Sequence[StreamEvent]) -> bool:
    """True if the names and values of events are those of LangGraph."""
    names = {_name(event) for event in events}
    if not names & (_STATES | _MESSAGES) or not names <= _STATES | _MESSAGES | _OTHER | {"", "error"}:
        return False
    return all(_fits(event) for event in events)


def _fits(event: StreamEvent) -> bool:
    match _name(event):
        case "values" | "updates":
            return isinstance(event.value, dict)
        case "messages" | "messages/partial" | "messages/complete":
            return isinstance(event.value, list)
    return True


def join_langgraph(events: Sequence[StreamEvent]) -> Json:
    """The reply of the richest mode in the stream: states, else messages, else updates."""
    top = [event for event in events if "|" not in event.name]
    found = top if any(_name(event) in _STATES | _MESSAGES for event in top) else events
    by_name: dict[str, list[Any]] = {}
    for event in found:
        by_name.setdefault(_name(event), []).append(event.value)
    if states := by_name.get("values"):
        if is_error(states[-1]):
            raise stream_error(states[-1])
        return _with_interrupt(states[-1], by_name)
    if tuples := by_name.get("messages"):
        return _with_interrupt({"messages": _join_tuples(tuples)}, by_name)
    if whole := [*by_name.get("messages/partial", []), *by_name.get("messages/complete", [])]:
        messages = _last_of_each(message for messages in whole for message in messages)
        return _with_interrupt({"messages": messages}, by_name)
    if updates := by_name.get("updates"):
        joined = _join_updates(updates)
        return _with_interrupt(joined, by_name) if isinstance(joined, dict) else joined
    raise incomplete()


def _with_interrupt(state: dict[str, Json], by_name: Mapping[str, Sequence[Any]]) -> dict[str, Json]:
    """The state with the interrupt of the last update: the graph waits for input, and has not answered."""
    last = (by_name.get("updates") or [{}])[-1]
    waits = last.get(_INTERRUPT)
    return {**state, _INTERRUPT: waits} if waits and not state.get(_INTERRUPT) else state


def _name(event: StreamEvent) -> str:
    return event.name.partition("|")[0]


def _join_tuples(tuples: Sequence[Sequence[Any]]) -> list[Json]:
    """Whole messages from pairs of a message chunk and its metadata."""
    chunks: dict[str, list[Event]] = {}
    for chunk, *_ in tuples:
        chunks.setdefault(str(chunk.get("id")), []).append(chunk)
    return [_join_chunks(pieces) for pieces in chunks.values()]


def _join_chunks(pieces: Sequence[Event]) -> Event:
    if len(pieces) == 1 and not pieces[0].get("tool_call_chunks"):
        return pieces[0]
    whole: Event = {}
    texts: list[str] = []
    blocks: list[Json] = []
    calls = ToolCalls()
    for piece in pieces:
        whole |= {key: value for key, value in piece.items() if value not in (None, "", [], {})}
        content = piece.get("content")
        for block in content if isinstance(content, list) else [content]:
            text = block
            if isinstance(block, dict) and block.get("type") in ("text", None):
                text = block.get("text")
            if isinstance(text, str):
                texts.append(text)
            elif isinstance(block, dict):
                blocks.append(block)
        calls.add([_as_openai(chunk) for chunk in piece.get("tool_call_chunks") or []])
    whole.pop("tool_call_chunks", None)
    kind = kind_of(whole)
    whole |= {"type": {"AIMessageChunk": "ai"}.get(kind, kind), "content": join_text(texts) or blocks or ""}
    if calls.calls:
        whole["tool_calls"] = [_as_langchain(call) for call in calls.calls]
    return whole


def _as_openai(chunk: Event) -> Event:
    function = {"name": chunk.get("name"), "arguments": chunk.get("args")}
    return {"id": chunk.get("id"), "index": chunk.get("index"), "function": function}


def _as_langchain(call: Event) -> Event:
    function = call["function"]
    text = function.get("arguments") or "{}"
    try:
        arguments = exact_json.loads(text) if isinstance(text, str) else text
    except ValueError:
        arguments = text
    return {"type": "tool_call", "id": call["id"], "name": function.get("name"), "args": arguments}


def _last_of_each(messages: Any) -> list[Json]:
    """The last version of each message, by id."""
    found: dict[str, Json] = {}
    for message in messages:
        found[str(message.get("id") or len(found))] = message
    return list(found.values())


def _join_updates(updates: Sequence[Event]) -> Json:
    messages: list[Json] = []
    for update in updates:
        for name, change in update.items():
            if name == _INTERRUPT:
                continue
            added = change.get("messages") if isinstance(change, dict) else None
            messages += added if isinstance(added, list) else [added] if isinstance(added, dict) else []
    return {"messages": messages} if messages else list(updates)
