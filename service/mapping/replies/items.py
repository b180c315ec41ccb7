"""Where the messages of a reply stand."""

from __future__ import annotations

from service.domain.model import Json


def items_of(reply: Json) -> list[Json]:
    """What may be messages, in the order they were said; [] where there is nowhere to look.

    | shape | place |
    | --- | --- |
    | Anthropic, LangGraph, Converse and Chat Completions as a conversation | `messages` |
    | Chat Completions | `choices[].message` |
    | Responses | `output[]` |
    | Converse | `output.message` |
    | Anthropic's reply, one message of any kind | the object itself |
    | a conversation, or the input list of the Agents SDK | the list itself |
    """
    if isinstance(reply, list):
        return [_inner(item) for item in reply]
    if not isinstance(reply, dict):
        return []
    output = reply.get("output")
    places = [reply.get("messages"), reply.get("choices"), output]
    lists = [place for place in places if isinstance(place, list)]
    found = [_inner(item) for place in lists for item in place]
    if isinstance(output, dict) and isinstance(output.get("message"), dict):
        found.append(output["message"])
    return found if found or lists else [_inner(reply)]


def _inner(item: Json) -> Json:
    """The message of a choice (or of a Claude Code event); other items as they are."""
    if isinstance(item, dict) and "content" not in item:
        message = item.get("message")
        if isinstance(message, dict):
            return message
    return item
