"""Streams of the Agent-User Interaction Protocol (AG-UI), joined to `{messages, state, result}`.

The messages have the keys of OpenAI's. Source: docs.ag-ui.com (events, messages).
"""

from __future__ import annotations

from collections.abc import Sequence

from service.agents.wire.streams.events import join_text, kind_of
from service.agents.wire.streams.failures import Event, incomplete, stream_error
from service.domain.errors import AgentRejectedError
from service.domain.model import Json

_KINDS = frozenset(
    {
        *("RUN_STARTED", "RUN_FINISHED", "RUN_ERROR", "STATE_SNAPSHOT", "MESSAGES_SNAPSHOT"),
        *("TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_CHUNK", "TEXT_MESSAGE_END"),
        *("TOOL_CALL_START", "TOOL_CALL_ARGS", "TOOL_CALL_CHUNK", "TOOL_CALL_RESULT"),
    }
)
_TEXTS = frozenset({"TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_CHUNK"})
_CALLS = frozenset({"TOOL_CALL_START", "TOOL_CALL_ARGS", "TOOL_CALL_CHUNK"})


def is_ag_ui(event: Event) -> bool:
    """True for an event of AG-UI."""
    return kind_of(event) in _KINDS


def join_ag_ui(events: Sequence[Event]) -> Json:
    """Join the events of a run. `state` is left out if the run changed it in parts."""
    found = _Run()
    kinds = {kind_of(event) for event in events}
    for event in events:
        found.add(kind_of(event), event)
    if "RUN_FINISHED" not in kinds and ("RUN_STARTED" in kinds or found.open_texts):
        raise incomplete()
    return found.whole()


class _Run:
    """A run while its events come. `open_texts` are the ids of messages that have not ended."""

    def __init__(self) -> None:
        self.open_texts: set[str] = set()
        self._messages: list[Event] = []
        self._texts: dict[str, list[str]] = {}
        self._calls: dict[str, list[str]] = {}
        self._end: Event = {}

    def add(self, kind: str, event: Event) -> None:
        """Add an event. Raises the error that it states."""
        if kind in _TEXTS:
            self._add_text(kind, event)
        elif kind == "TEXT_MESSAGE_END":
            self.open_texts.discard(str(event.get("messageId")))
        elif kind in _CALLS:
            self._add_call(event)
        elif kind == "TOOL_CALL_RESULT":
            result = {
                "role": "tool",
                "tool_call_id": event.get("toolCallId"),
                "content": event.get("content"),
            }
            self._messages.append(result)
        elif kind == "MESSAGES_SNAPSHOT":
            self._messages = [_as_openai(message) for message in event["messages"]]
            self._texts, self._calls = {}, {}
        elif kind == "STATE_SNAPSHOT":
            self._end["state"] = event.get("snapshot")
        elif kind == "STATE_DELTA":
            self._end.pop("state", None)
        elif kind == "RUN_FINISHED":
            self._finish(event)
        elif kind == "RUN_ERROR":
            raise stream_error(event)

    def whole(self) -> Json:
        """The complete reply."""
        for message in self._messages:
            if (pieces := self._texts.get(str(message.get("id")))) is not None:
                message["content"] = join_text(pieces)
            for call in message.get("tool_calls") or []:
                if (pieces := self._calls.get(str(call.get("id")))) is not None:
                    call["function"]["arguments"] = join_text(pieces)
        return {"messages": self._messages, **self._end}

    def _finish(self, event: Event) -> None:
        outcome = event.get("outcome")
        kind = outcome.get("type") if isinstance(outcome, dict) else outcome
        if kind == "interrupt":
            raise AgentRejectedError("the run waits for input: its outcome is an interrupt")
        if event.get("result") is not None:
            self._end["result"] = event["result"]

    def _add_text(self, kind: str, event: Event) -> None:
        # A chunk without an id continues the message before it.
        id_ = str(event.get("messageId") or next(reversed(self._texts), ""))
        if id_ not in self._texts:
            self._texts[id_] = []
            self._messages.append({"id": id_, "role": event.get("role", "assistant"), "content": ""})
            if kind == "TEXT_MESSAGE_START":
                self.open_texts.add(id_)
        self._texts[id_].append(str(event.get("delta") or ""))

    def _add_call(self, event: Event) -> None:
        id_ = str(event.get("toolCallId") or next(reversed(self._calls), ""))
        if id_ not in self._calls:
            self._calls[id_] = []
            function = {"name": event.get("toolCallName"), "arguments": ""}
            call = {"id": id_, "type": "function", "function": function}
            last = self._messages[-1] if self._messages else {}
            if last.get("role") != "assistant":
                last = {"role": "assistant", "content": None}
                self._messages.append(last)
            last.setdefault("tool_calls", []).append(call)
        self._calls[id_].append(str(event.get("delta") or ""))


def _as_openai(message: Event) -> Event:
    """A message of a snapshot with OpenAI's keys."""
    names = {"toolCalls": "tool_calls", "toolCallId": "tool_call_id"}
    return {names.get(key, key): value for key, value in message.items()}
