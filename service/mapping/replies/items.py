"""The items of a reply: the JSON values that may be messages."""

from __future__ import annotations

from service.domain.model import Json


def find_items(reply: Json) -> list[Json]:
    """The values that may be messages, in conversation order; [] for text and other scalars.

    | shape | where the messages are |
    | --- | --- |
    | Anthropic, LangGraph, Converse and Chat Completions as a conversation | `messages` |
    | Chat Completions | `choices[].message` |
    | Responses | `output[]` |
    | Converse | `output.message` |
    | Anthropic's reply, one message of any kind | the object itself |
    | a conversation, or the input list of the Agents SDK | the list itself |
    """
    if isinstance(reply, list):
        return [_unwrap_choice(item) for item in reply]
    if not isinstance(reply, dict):
        return []
    output = reply.get("output")
    lists = [
        value for value in (reply.get("messages"), reply.get("choices"), output) if isinstance(value, list)
    ]
    found = [_unwrap_choice(item) for items in lists for item in items]
    if isinstance(output, dict) and isinstance(output.get("message"), dict):
        found.append(output["message"])
    # With an empty list of messages the reply is a conversation without messages, not itself a message.
    return found if found or lists else [_unwrap_choice(reply)]


def _unwrap_choice(item: Json) -> Json:
    """The message in a choice (OpenAI) or an event (Claude Code); other items unchanged."""
    if isinstance(item, dict) and "content" not in item:
        message = item.get("message")
        if isinstance(message, dict):
            return message
    return item
