"""Any reply to a transcript, and to the JSON that expressions look at. `envelopes/` has the shapes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from service.domain.model import Json
from service.mapping.replies.items import items_of
from service.mapping.replies.langchain import opened
from service.mapping.replies.messages import Turn, read_turn
from service.mapping.replies.text import unquoted
from service.mapping.replies.transcript import Message, ToolCall, ToolResult, Transcript, Usage
from service.mapping.replies.usage import total, usage_of
from service.mapping.replies.wrappers import unwrapped

_STRUCTURED = ("structured_output", "structured_response")
"""Step Functions agents', and LangGraph's."""


@dataclass(frozen=True, slots=True)
class ReplyView:
    """A reply as the methods see it.

    `root` is the raw JSON as it came, `{content: text}` for plain text. The one exception are Lambda's and
    Step Functions' wrappers around a reply (`envelopes/wrappers.py`), as long as they hold nothing else:
    behind them `$.category` is the agent's category, however it was invoked. `raw` always has everything.
    """

    root: Json
    transcript: Transcript
    raw: Json = None

    @classmethod
    def of(cls, reply: Json) -> ReplyView:
        """Total: an unknown shape has an empty transcript."""
        values, root = unwrapped(reply)
        return cls({"content": root} if isinstance(root, str) else root, _transcript(values), reply)


def normalise(reply: Json) -> Transcript:
    """The transcript of a reply; empty for an unknown shape. Total.

    Of nested envelopes, the outermost that has messages is read, and the outermost that states usage or
    structured output counts. Without such a statement, usage is the sum over the messages.
    """
    return _transcript(unwrapped(reply)[0])


def _transcript(values: list[Json]) -> Transcript:
    for value in values:
        items = [opened(item) for item in items_of(value)]
        turns = [turn for item in items if (turn := read_turn(item))]
        if turns:
            break
    else:
        return Transcript(usage=_usage(values, ()), structured=_structured(values))
    messages = _linked(turns)
    parts = [part for message in messages for part in message.parts]
    said = (message.text for message in reversed(messages) if message.role == "assistant")
    return Transcript(
        calls=tuple([part for part in parts if isinstance(part, ToolCall)]),
        results=tuple([part for part in parts if isinstance(part, ToolResult)]),
        text=next((text for text in said if text), ""),
        usage=_usage(values, items),
        structured=_structured(values),
        messages=messages,
    )


def _linked(turns: list[Turn]) -> tuple[Message, ...]:
    """With the name of each result's call: of calls that share an id, the last before the result."""
    names: dict[str, str] = {}
    for _, parts in reversed(turns):  # so that a result before any call of its id has the first one's name
        names.update([(part.id, part.name) for part in reversed(parts) if isinstance(part, ToolCall)])
    names.pop("", None)
    for _, parts in turns:
        for place, part in enumerate(parts):
            if isinstance(part, ToolResult):
                name = names.get(part.call_id) or part.name
                if name != part.name:
                    parts[place] = ToolResult(part.call_id, name, part.text, part.is_error)
            elif isinstance(part, ToolCall) and part.id:
                names[part.id] = part.name
    return tuple([Message(role, tuple(parts)) for role, parts in turns])


def _usage(values: Iterable[Json], items: Iterable[Json]) -> Usage:
    """What an envelope states, else the sum over its messages."""
    for value in values:
        if (stated := usage_of(value)) is not None:
            return stated
    return total(usage_of(item) for item in items)


def _structured(values: Iterable[Json]) -> Json:
    for value in values:
        if isinstance(value, dict):
            for key in _STRUCTURED:
                if value.get(key) is not None:
                    return unquoted(value[key])
    return None
