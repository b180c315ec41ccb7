"""LangChain and LangGraph: messages with `type: ai`, plain (model_dump) or serialised with their class."""

from __future__ import annotations

from typing import Any

from service.domain.model import Json
from service.mapping.replies.text import str_or_empty
from service.mapping.replies.transcript import ToolCall

ROLES = {
    "ai": "assistant",
    "AIMessage": "assistant",
    "AIMessageChunk": "assistant",
    "human": "user",
    "HumanMessage": "user",
    "HumanMessageChunk": "user",
    "tool": "tool",
    "ToolMessage": "tool",
    "ToolMessageChunk": "tool",
    "function": "tool",
    "FunctionMessage": "tool",
    "system": "system",
    "SystemMessage": "system",
}
"""The role for a message's `type` or class."""

_PAIR = 2


def find_items(events: list[Json]) -> list[Json]:
    """The messages in a list of LangGraph's states, or of the updates of its nodes; [] for another list.

    Of several states the last one has all messages. Each update has those of a node: `{agent: {messages}}`.
    """
    if not events or not all(isinstance(event, dict) for event in events):
        return []
    if all(isinstance(event.get("messages"), list) for event in events):
        return list(events[-1]["messages"])
    updates = [update for event in events for update in event.values()]
    if not all(isinstance(update, dict) and isinstance(update.get("messages"), list) for update in updates):
        return []
    return [message for update in updates for message in update["messages"]]


def find_steps(reply: dict[str, Any]) -> list[Json]:
    """The messages of an AgentExecutor: the steps are pairs of an action and the tool's observation."""
    steps = reply.get("intermediate_steps")
    found: list[Json] = []
    for step in steps if isinstance(steps, list) else ():
        action = step[0] if isinstance(step, list) and len(step) == _PAIR else None
        action = action.get("kwargs", action) if isinstance(action, dict) else None
        if not isinstance(action, dict) or "tool" not in action:
            return []
        id_ = action.get("tool_call_id") or f"step {len(found)}"
        call = {"id": id_, "name": action["tool"], "args": action.get("tool_input")}
        found.append({"type": "ai", "content": "", "tool_calls": [call]})
        found.append({"type": "tool", "tool_call_id": id_, "content": step[1]})
    if found and isinstance(reply.get("output"), str):
        found.append({"type": "ai", "content": reply["output"]})
    return found


def unwrap_message(item: Json) -> Json:
    """The message in LangChain's serialised form; everything else unchanged.

    `dumpd` gives `{lc, type: constructor, id: […, class], kwargs}`, `messages_to_dict` `{type, data}`.
    """
    if not isinstance(item, dict):
        return item
    kind, inner = item.get("type"), item.get("kwargs")
    if kind == "constructor" and isinstance(inner, dict):
        path = item.get("id")
        name = str_or_empty(path[-1]) if isinstance(path, list) and path else ""
        return {**inner, "type": name if name in ROLES else inner.get("type")}
    inner = item.get("data")
    if isinstance(inner, dict) and str_or_empty(kind) in ROLES:
        return {**inner, "type": kind}
    return item


def read_call(entry: dict[str, Any]) -> ToolCall | None:
    """The call in an entry of `tool_calls`: `{name, args, id}`; None for entries of another form."""
    if "args" not in entry:
        return None
    return ToolCall(str_or_empty(entry.get("id")), str_or_empty(entry.get("name")), entry.get("args"))
