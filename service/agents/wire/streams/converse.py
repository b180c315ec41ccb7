"""Events of Bedrock's ConverseStream, as Strands agents and gateways pass them on.

The reply is that of Converse, or a list of messages if the agent spoke more than once.
Source: docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStream.html.
"""

from __future__ import annotations

from collections.abc import Sequence

from service.agents.wire.streams.events import join_text
from service.agents.wire.streams.failures import Event, incomplete, is_error, stream_error
from service.domain import exact_json
from service.domain.model import Json

_KINDS = frozenset(
    {"messageStart", "contentBlockStart", "contentBlockDelta", "contentBlockStop", "messageStop"}
)


def is_converse(event: Event) -> bool:
    """True for an event of ConverseStream."""
    return not _KINDS.isdisjoint(_inner(event))


def join_converse(events: Sequence[Event]) -> Json:
    """Join the events to Converse's reply. If whole messages come beside them, the events are the reply."""
    if any(isinstance(event.get("message"), dict) and "result" not in event for event in events):
        return list(events)
    messages: list[Event] = []
    end: Event = {}
    is_open = False
    blocks: dict[int, _Block] = {}
    for event in map(_inner, events):
        _check(event)
        if "messageStart" in event:
            blocks, is_open = {}, True
            messages.append({"role": event["messageStart"].get("role", "assistant"), "content": []})
        for key in ("contentBlockStart", "contentBlockDelta"):
            if key in event:
                index = event[key].get("contentBlockIndex")
                block = blocks.setdefault(index if isinstance(index, int) else 0, _Block())
                block.add(event[key].get("start") or event[key].get("delta") or {})
        if "messageStop" in event:
            is_open = False
            end["stopReason"] = event["messageStop"].get("stopReason")
            messages[-1]["content"] = [blocks[index].whole() for index in sorted(blocks)]
        if "metadata" in event:
            end |= {key: event["metadata"][key] for key in ("usage", "metrics") if key in event["metadata"]}
    if is_open or not messages:
        raise incomplete()
    if len(messages) > 1:
        return {"messages": messages, **end}
    return {"output": {"message": messages[0]}, **end}


def _check(event: Event) -> None:
    """Raise the error of an event: one of AgentCore, or an exception such as `modelStreamErrorException`."""
    for name, value in event.items():
        if name.endswith("Exception") and isinstance(value, dict):
            raise stream_error({"type": name, **value})
    if _KINDS.isdisjoint(event) and is_error(event):
        raise stream_error(event)


def _inner(event: Event) -> Event:
    """The event inside Strands' `{"event": …}`."""
    inner = event.get("event")
    return inner if isinstance(inner, dict) else event


class _Block:
    """A content block while its deltas come."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._reasoning: list[str] = []
        self._call: Event | None = None
        self._input: list[str] = []

    def add(self, delta: Event) -> None:
        """Add the start or a delta of the block."""
        self._texts.append(delta.get("text") or "")
        self._reasoning.append((delta.get("reasoningContent") or {}).get("text") or "")
        if isinstance(call := delta.get("toolUse"), dict):
            self._call = {**(self._call or {}), **{k: v for k, v in call.items() if k != "input"}}
            self._input.append(call.get("input") or "")

    def whole(self) -> Json:
        """The block of the complete message."""
        if self._call is not None:
            text = join_text(self._input)
            try:
                arguments = exact_json.loads(text) if text.strip() else {}
            except ValueError:
                arguments = text
            return {"toolUse": {**self._call, "input": arguments}}
        if any(self._reasoning):
            return {"reasoningContent": {"reasoningText": {"text": join_text(self._reasoning)}}}
        return {"text": join_text(self._texts)}
