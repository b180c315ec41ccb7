"""Normalisation: any reply -> its transcript, and the root that expressions are evaluated on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain

from service.domain.model import Json
from service.mapping.replies.items import find_inner, find_items, unwrap_item
from service.mapping.replies.linking import link_results
from service.mapping.replies.messages import UnlinkedMessage, is_agents, read_message
from service.mapping.replies.plain import is_plain
from service.mapping.replies.providers import a2a, haystack, langchain
from service.mapping.replies.text import decode_json_string
from service.mapping.replies.transcript import ToolCall, ToolResult, Transcript, Usage
from service.mapping.replies.usage import messages_usage, stated_usage
from service.mapping.replies.wrappers import other_roots, unwrap

_STRUCTURED = ("structured_output", "structured_response", "structuredContent")
"""Keys for the reply's own structured output: of agents on Step Functions, of LangGraph, and of MCP."""

_REPLY_LISTS = ("choices", "output", "candidates")
"""Keys for the messages of a single reply; other lists hold a conversation with earlier replies."""

_NO_TRANSCRIPT = Transcript()


@dataclass(frozen=True, slots=True)
class ReplyView:
    """A reply as extraction reads it: the root for expressions, the transcript, and the raw reply.

    `root` is the raw JSON, or `{content: text}` for plain text. A wrapper of Lambda or Step Functions that
    holds nothing but the reply is removed, so that `$.category` is the agent's category however it was
    invoked. `raw` always has everything. A path that finds nothing in the root is tried on `other_roots`: the
    same reply under the key of its wrapper, and a text or number as `{content: …}`.

    `documents` are the layers of the reply, from the outside in, and the document inside them that has the
    messages. `holders` are the values that hold the messages, such as choices and events, and `answers` those
    that hold the agent's answer: its last message, or every choice. Of a reply that `is_plain` nothing is
    read: it has no messages, and no objections.
    """

    root: Json
    transcript: Transcript
    raw: Json = None
    other_roots: tuple[Json, ...] = field(default=(), compare=False, repr=False)
    documents: tuple[Json, ...] = field(default=(), compare=False, repr=False)
    holders: tuple[Json, ...] = field(default=(), compare=False, repr=False)
    answers: tuple[Json, ...] = field(default=(), compare=False, repr=False)
    is_plain: bool = field(default=False, compare=False, repr=False)

    @classmethod
    def of(cls, reply: Json) -> ReplyView:
        """The view of any reply. Never raises; the transcript of an unknown shape is empty."""
        if is_plain(reply):
            return cls(reply, _NO_TRANSCRIPT, reply, documents=(reply,), is_plain=True)
        return cls.read(reply)

    @classmethod
    def read(cls, reply: Json) -> ReplyView:
        """The same by all readers, also for a plain reply."""
        layers, root = unwrap(reply)
        found = _find_messages(layers)
        return cls(
            root={"content": root} if isinstance(root, str) else root,
            transcript=_transcript(layers, found),
            raw=reply,
            other_roots=other_roots(layers, root),
            documents=tuple(_with_document(layers, found)),
            holders=tuple(found.holders),
            answers=found.answers,
        )


def normalise(reply: Json) -> Transcript:
    """The transcript of a reply; empty for an unknown shape. Never raises.

    If wrappers are nested, messages, usage and structured output are each taken from the outermost layer that
    has them. If no layer states the usage, it is the sum over the messages.
    """
    return ReplyView.of(reply).transcript


def _transcript(layers: list[Json], found: _Found) -> Transcript:
    messages = link_results(found.messages)
    parts = [part for message in messages for part in message.parts]
    texts = (message.text for message in reversed(messages) if message.role == "assistant")
    layers = _with_document(layers, found)
    return Transcript(
        calls=tuple([part for part in parts if isinstance(part, ToolCall)]),
        results=tuple([part for part in parts if isinstance(part, ToolResult)]),
        text=next((text for text in texts if text), ""),
        usage=_usage(layers, found.holders),
        structured=_structured(layers),
        messages=messages,
    )


@dataclass(frozen=True, slots=True)
class _Found:
    """Messages, the document that has them, and the values that hold them, such as choices and events.

    `answers` are the holders of the agent's answer.
    """

    document: Json
    messages: list[UnlinkedMessage]
    holders: list[Json]
    answers: tuple[Json, ...]


def _with_document(layers: list[Json], found: _Found) -> list[Json]:
    """The layers, and the document that has the messages if it is none of them."""
    if any(found.document is layer for layer in layers):
        return layers
    return [*layers, found.document]


def _find_messages(layers: list[Json]) -> _Found:
    """The messages of the outermost layer that has any, else of a document inside the innermost one."""
    answers: tuple[Json, ...] = ()
    for document in chain(layers, find_inner(layers[-1])):
        holders = find_items(document)
        items = [_unwrap(holder) for holder in holders]
        messages = [message for item in items if (message := read_message(item))]
        answers = answers or _answers(document, holders, items)
        if messages:
            return _Found(document, messages, holders, answers)
    return _Found(layers[0], [], [], answers)


def _unwrap(holder: Json) -> Json:
    return haystack.unwrap_message(langchain.unwrap_message(unwrap_item(holder)))


def _answers(document: Json, holders: list[Json], items: list[Json]) -> tuple[Json, ...]:
    """The holders of the agent's messages: all in a single reply, the last one of a conversation."""
    said = [holder for holder, item in zip(holders, items, strict=True) if is_agents(item)]
    is_reply = isinstance(document, dict) and any(isinstance(document.get(key), list) for key in _REPLY_LISTS)
    return tuple(said if is_reply else said[-1:])


def _usage(layers: Iterable[Json], holders: Iterable[Json]) -> Usage:
    """The usage that a layer states, else the sum over the messages."""
    for layer in layers:
        if (stated := stated_usage(layer)) is not None:
            return stated
    return messages_usage(holders)


def _structured(layers: Iterable[Json]) -> Json:
    for layer in layers:
        if isinstance(layer, dict):
            for key in _STRUCTURED:
                if layer.get(key) is not None:
                    return decode_json_string(layer[key])
            # The object of Vercel's generateObject.
            if isinstance(layer.get("object"), dict | list) and "finishReason" in layer:
                return layer["object"]
            if (data := a2a.data_of(layer)) is not None:
                return data
    return None
