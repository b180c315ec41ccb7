"""Normalisation: any reply -> its transcript, and the root that expressions are evaluated on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from service.domain.model import Json
from service.mapping.replies.items import find_items
from service.mapping.replies.langchain import unwrap_message
from service.mapping.replies.messages import UnlinkedMessage, read_message
from service.mapping.replies.text import decode_json_string
from service.mapping.replies.transcript import Message, ToolCall, ToolResult, Transcript, Usage
from service.mapping.replies.usage import stated_usage, total_usage
from service.mapping.replies.wrappers import unwrap

_STRUCTURED = ("structured_output", "structured_response")
"""Keys for the reply's own structured output: of agents on Step Functions, and of LangGraph."""


@dataclass(frozen=True, slots=True)
class ReplyView:
    """A reply as extraction reads it: the root for expressions, the transcript, and the raw reply.

    `root` is the raw JSON, or `{content: text}` for plain text. A wrapper of Lambda or Step Functions that
    holds nothing but the reply is removed, so that `$.category` is the agent's category however it was
    invoked. `raw` always has everything.
    """

    root: Json
    transcript: Transcript
    raw: Json = None

    @classmethod
    def of(cls, reply: Json) -> ReplyView:
        """The view of any reply. Never raises; the transcript of an unknown shape is empty."""
        layers, root = unwrap(reply)
        return cls({"content": root} if isinstance(root, str) else root, _transcript(layers), reply)


def normalise(reply: Json) -> Transcript:
    """The transcript of a reply; empty for an unknown shape. Never raises.

    If wrappers are nested, messages, usage and structured output are each taken from the outermost layer that
    has them. If no layer states the usage, it is the sum over the messages.
    """
    return _transcript(unwrap(reply)[0])


def _transcript(layers: list[Json]) -> Transcript:
    for layer in layers:
        items = [unwrap_message(item) for item in find_items(layer)]
        unlinked = [message for item in items if (message := read_message(item))]
        if unlinked:
            break
    else:
        return Transcript(usage=_usage(layers, ()), structured=_structured(layers))
    messages = _link_results(unlinked)
    parts = [part for message in messages for part in message.parts]
    texts = (message.text for message in reversed(messages) if message.role == "assistant")
    return Transcript(
        calls=tuple([part for part in parts if isinstance(part, ToolCall)]),
        results=tuple([part for part in parts if isinstance(part, ToolResult)]),
        text=next((text for text in texts if text), ""),
        usage=_usage(layers, items),
        structured=_structured(layers),
        messages=messages,
    )


def _link_results(unlinked: list[UnlinkedMessage]) -> tuple[Message, ...]:
    """The messages with every result named after its call.

    Some servers number calls anew in every message. Of calls that share an id, the last one before the result
    is meant.
    """
    names: dict[str, str] = {}
    # Backwards, so that each id begins with the name of its first call: a result may precede all its calls.
    for _, parts in reversed(unlinked):
        names.update([(part.id, part.name) for part in reversed(parts) if isinstance(part, ToolCall)])
    names.pop("", None)  # a call without an id belongs to no result
    for _, parts in unlinked:
        for index, part in enumerate(parts):
            if isinstance(part, ToolResult):
                name = names.get(part.call_id) or part.name
                if name != part.name:
                    parts[index] = ToolResult(part.call_id, name, part.text, part.is_error)
            elif isinstance(part, ToolCall) and part.id:
                names[part.id] = part.name
    return tuple([Message(role, tuple(parts)) for role, parts in unlinked])


def _usage(layers: Iterable[Json], items: Iterable[Json]) -> Usage:
    """The usage that a layer states, else the sum over the messages."""
    for layer in layers:
        if (stated := stated_usage(layer)) is not None:
            return stated
    return total_usage(stated_usage(item) for item in items)


def _structured(layers: Iterable[Json]) -> Json:
    for layer in layers:
        if isinstance(layer, dict):
            for key in _STRUCTURED:
                if layer.get(key) is not None:
                    return decode_json_string(layer[key])
    return None
