"""The items of a reply: the JSON values that may be messages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from service.domain.model import Json
from service.mapping.replies.providers import a2a, cohere, langchain, mcp, ollama, vercel
from service.mapping.replies.text import decode_json_string

_LISTS = ("messages", "choices", "output", "contents", "candidates")
"""Keys for lists of items, which are read one after another."""

_OTHER_LISTS = (
    "events",  # ADK
    "message_history",  # pydantic-ai
    "all_messages",
    "new_messages",
    "new_items",  # OpenAI's Agents SDK
    "replies",  # Haystack
    "history",
    "conversation",
    "transcript",
)
"""Further keys. The first one that a reply has is read: they repeat each other."""

_INNER = (
    "result",
    "values",
    "value",
    "data",
    "response",
    "output",
    "outputs",
    "state",
    "_state",
    "reply",
    "answer",
    "body",
    "payload",
    "Payload",
    "task",
    "message",
    "return_value",
    "chatResponse",  # Oracle
    "completion_message",  # Llama Stack
)
"""Keys under which frameworks put a whole reply. Only messages are looked for there: `$` stays the reply."""

_ANY_LIST = frozenset((*_LISTS, *_OTHER_LISTS))
_ANY_INNER = frozenset(_INNER)
_MAX_INNER_DEPTH = 3
_MAX_INNER = 50
"""Most documents inside a reply that are looked at."""


def find_items(reply: Json) -> list[Json]:
    """The values that may be messages, in conversation order; [] for text and other scalars.

    | shape | where the messages are |
    | --- | --- |
    | Anthropic, LangGraph, Converse and Chat Completions as a conversation | `messages` |
    | Chat Completions | `choices[].message` |
    | Responses | `output[]` |
    | Converse | `output.message` |
    | Gemini | `candidates[].content`, `contents` |
    | LangChain's AgentExecutor | `intermediate_steps`, `output` |
    | pydantic-ai | `message_history`, or the list itself |
    | Vercel's AI SDK, A2A, MCP, Cohere, Ollama | by their own modules in `providers` |
    | Anthropic's reply, one message of any kind | the object itself |
    | a conversation, the events of ADK, or the input list of the Agents SDK | the list itself |
    """
    if isinstance(reply, list):
        return langchain.find_items(reply) or _oldest_first(reply)
    if not isinstance(reply, dict):
        return []
    found = a2a.find_items(reply) or mcp.find_items(reply)
    if found:
        return found
    lists: list[list[Json]] = []
    if not _ANY_LIST.isdisjoint(reply):
        lists = [value for key in _LISTS if isinstance(value := reply.get(key), list)]
        lists = lists or [value for key in _OTHER_LISTS if isinstance(value := reply.get(key), list)][:1]
    found = [item for items in lists for item in items]
    output = reply.get("output")
    if isinstance(output, dict) and isinstance(output.get("message"), dict):
        found.append(output["message"])
    found = found or cohere.find_items(reply) or ollama.find_items(reply) or vercel.find_steps(reply)
    found = found or langchain.find_steps(reply)
    # With an empty list of messages the reply is a conversation without messages, not itself a message.
    return found if found or lists else [reply]


def _oldest_first(items: list[Json]) -> list[Json]:
    """The items in the order of their times: OpenAI's Assistants list the newest message first."""
    times = [item.get("created_at") if isinstance(item, dict) else None for item in items]
    is_dated = len(times) > 1 and all(isinstance(time, int) for time in times)
    return items[::-1] if is_dated and times[0] > times[-1] else list(items)  # type: ignore[operator]


def find_inner(reply: Json) -> Iterator[Json]:
    """The documents inside a reply that may hold its messages, the outermost first."""
    level: list[Json] = [reply]
    left = _MAX_INNER
    for _ in range(_MAX_INNER_DEPTH):
        below: list[Json] = []
        for value in level:
            for inner in _inner_of(value):
                if left == 0:
                    return
                left -= 1
                yield inner
                below.append(inner)
        level = below


def _inner_of(value: Json) -> Iterator[Json]:
    if not isinstance(value, dict) or _ANY_INNER.isdisjoint(value):
        return
    for key in _INNER:
        inner = decode_json_string(value.get(key))
        if isinstance(inner, dict | list):
            yield inner


def unwrap_item(item: Json) -> Json:
    """The message in a choice (OpenAI), a candidate (Gemini) or an event (Claude Code, ADK), or the item."""
    if not isinstance(item, dict):
        return item
    content, message = item.get("content"), item.get("message", item.get("lastMessage"))
    if "content" not in item and isinstance(message, dict):
        return message
    if isinstance(content, dict) and isinstance(content.get("parts"), list):
        return content
    if isinstance(item.get("raw_item"), dict):
        return item["raw_item"]  # OpenAI's Agents SDK
    if _is_completion(item):
        return {"role": "assistant", "content": item["text"]}
    return item


def _is_completion(item: dict[str, Any]) -> bool:
    """True for a choice of OpenAI's Completions, which has a text and no message."""
    return isinstance(item.get("text"), str) and "finish_reason" in item and "index" in item
