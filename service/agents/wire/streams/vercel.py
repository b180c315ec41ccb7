"""Streams of Vercel's AI SDK, joined to `{text, finishReason, usage, messages}`.

- UI message streams (AI SDK 5 and later): server-sent events with a `type` such as `text-delta`.
- Data streams (AI SDK 4): lines of a code, a colon and JSON, such as `0:"Hello"`.

`messages` are model messages: of the assistant with `text` and `tool-call` parts, and of the role `tool` with
`tool-result` parts. Sources: ai-sdk.dev/docs/ai-sdk-ui/stream-protocol, and the same path at v4.ai-sdk.dev.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from service.agents.wire.streams.events import join_text, kind_of, parse
from service.agents.wire.streams.failures import Event, incomplete, stream_error
from service.domain.model import Json
from service.domain.provider_errors import says_something

_KINDS = frozenset(
    {
        "text-start",
        "text-delta",
        "text-end",
        "start-step",
        "finish-step",
        "tool-input-start",
        "tool-input-available",
    }
)
_CODES: dict[str, type | tuple[type, ...]] = {
    "0": str, "3": str, "g": str, "2": list, "8": list, "9": dict, "a": dict, "b": dict, "c": dict, "d": dict,
    "e": dict, "f": dict, "h": dict, "i": dict, "j": dict, "k": dict,
}  # fmt: skip
_MARKS = frozenset("0389de")
_LINE = re.compile(r"([0-9a-k]):(.*)")
_LEAST_LINES = 2


class _Conversation:
    """The messages of a stream while it is read. `_texts` are the pieces of each text part."""

    def __init__(self) -> None:
        self.messages: list[Event] = []
        self.end: Event = {}
        self._texts: list[tuple[Event, list[str]]] = []
        self._step = 0
        self._tools: dict[str, Json] = {}

    def add_text(self, piece: Json) -> None:
        """Add a piece of the assistant's text."""
        parts = self._parts("assistant")
        if not parts or not self._texts or parts[-1] is not self._texts[-1][0]:
            parts.append({"type": "text", "text": ""})
            self._texts.append((parts[-1], []))
        self._texts[-1][1].append(str(piece))

    def begin_step(self) -> None:
        """Begin a step: the text of the last step is the reply's."""
        self._step = len(self._texts)
        self.messages.append({"role": "assistant", "content": []})

    def add_call(self, id_: Json, name: Json, arguments: Json) -> None:
        """Add a call of the assistant, unless it is known already."""
        if str(id_) not in self._tools:
            self._tools[str(id_)] = name
            part = {"type": "tool-call", "toolCallId": id_, "toolName": name, "input": arguments}
            self._parts("assistant").append(part)

    def add_result(self, id_: Json, output: Json, *, is_error: bool = False) -> None:
        """Add the result of a call."""
        part: Event = {"type": "tool-result", "toolCallId": id_, "toolName": self._tools.get(str(id_), "")}
        self._parts("tool").append({**part, "output": output, **({"isError": True} if is_error else {})})

    def whole(self) -> Json:
        """The complete reply."""
        for part, pieces in self._texts:
            part["text"] = join_text(pieces)
        texts = [part["text"] for part, _ in self._texts]
        text = join_text(texts[self._step :]) or (texts[-1] if texts else "")
        messages = [message for message in self.messages if message["content"]]
        return {"text": text, **self.end, "messages": messages}

    def _parts(self, role: str) -> list[Event]:
        if not self.messages or self.messages[-1]["role"] != role:
            self.messages.append({"role": role, "content": []})
        parts: list[Event] = self.messages[-1]["content"]
        return parts


def is_ui_stream(event: Event) -> bool:
    """True for an event of a UI message stream. Mastra has the same types with a `payload` each."""
    return kind_of(event) in _KINDS and "payload" not in event


def join_ui_stream(events: Sequence[Event], *, done: bool) -> Json:
    """Join the events of a UI message stream."""
    found, has_finished = _Conversation(), done
    for event in events:
        match kind_of(event):
            case "start-step":
                found.begin_step()
            case "text-delta":
                found.add_text(event.get("delta", event.get("textDelta", event.get("text", ""))))
            case "error":
                raise stream_error(event)
            case "abort":
                raise incomplete("the stream was aborted by its server")
            case "finish":
                has_finished = True
                found.end = _end({**(event.get("messageMetadata") or {}), **event})
            case kind:
                _add_tool_event(found, kind, event)
    if not has_finished:
        raise incomplete()
    return found.whole()


def _add_tool_event(found: _Conversation, kind: str, event: Event) -> None:
    id_ = event.get("toolCallId")
    if kind in {"tool-input-available", "tool-call"}:
        found.add_call(id_, event.get("toolName"), event.get("input", event.get("args")))
    elif kind in {"tool-output-available", "tool-result"}:
        found.add_result(id_, event.get("output", event.get("result")))
    elif kind == "tool-output-error":
        found.add_result(id_, event.get("errorText"), is_error=True)


def is_data_stream(text: str) -> bool:
    """True if each line has a code of a data stream with JSON of the type that belongs to it."""
    lines = [line for line in text.split("\n") if line.strip()]
    if len(lines) < _LEAST_LINES or not all(_LINE.fullmatch(line.rstrip("\r")) for line in lines):
        return False
    fits = all(isinstance(parse(line.rstrip("\r")[2:]), _CODES.get(line[0], ())) for line in lines)
    # `parse` returns texts that are no JSON unchanged, so a string must have its quotes.
    is_quoted = all(line[2:].lstrip().startswith('"') for line in lines if line[0] in "03g")
    return fits and is_quoted and any(line[0] in _MARKS for line in lines)


def join_data_stream(text: str) -> Json:
    """Join the lines of a data stream. A text that is no data stream raises ValueError or the like."""
    found, has_finished = _Conversation(), False
    for line in (line.rstrip("\r") for line in text.split("\n") if line.strip()):
        code, value = line[0], parse(line[2:])
        match code:
            case "f":
                found.begin_step()
            case "0":
                found.add_text(value)
            case "9":
                found.add_call(value.get("toolCallId"), value.get("toolName"), value.get("args"))
            case "a":
                found.add_result(value.get("toolCallId"), value.get("result"))
            case "3":
                raise stream_error(value)
            case "d":
                has_finished, found.end = True, _end(value)
    if not has_finished:
        raise incomplete()
    return found.whole()


def _end(event: Event) -> Event:
    usage = event.get("usage") or event.get("totalUsage")
    end = {"finishReason": event.get("finishReason"), "usage": usage}
    return {key: value for key, value in end.items() if says_something(value)}
