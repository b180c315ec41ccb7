"""Streams of OpenAI: Chat Completions, Completions before them, Responses; and of servers that speak these.

Chunks of completions are joined. The last event of Responses holds the whole response.
Sources: platform.openai.com/docs/api-reference/chat-streaming and responses-streaming.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from service.agents.wire.streams.events import index_of, join_text, kind_of, stated_fields
from service.agents.wire.streams.failures import Event, check_chunk, incomplete, is_error, stream_error
from service.agents.wire.streams.tool_calls import ToolCalls
from service.domain.model import Json
from service.domain.provider_errors import says_something

CHUNK = "chat.completion.chunk"
_COMPLETION = "text_completion"
_FINAL = frozenset({"response.completed", "response.incomplete", "response.done"})
_UNSTATED = frozenset({"", "null"})
"""Finish reasons of chunks that are not the last one; `null` as a text is DashScope's."""

_FAILED = frozenset({"response.failed", "response.cancelled", "error"})


def is_chunk(event: Event) -> bool:
    """True for a chunk of a completion."""
    if kind_of(event, "object") == CHUNK:
        return True
    choices = event.get("choices")
    if not isinstance(choices, list):
        return False
    return any(
        isinstance(choice, dict) and ("delta" in choice or _is_text(event, choice)) for choice in choices
    )


def _is_text(event: Event, choice: Event) -> bool:
    return kind_of(event, "object") == _COMPLETION and "text" in choice


def join_openai(events: Sequence[Event]) -> Json:
    """Join chunks to one `chat.completion`, or to one `text_completion`."""
    whole: Event = {}
    choices: dict[int, _Choice] = {}
    for event in events:
        check_chunk(event)
        whole |= stated_fields(event, "choices")
        for chunk in event.get("choices") or []:
            _check_choice(chunk, event)
            choices.setdefault(index_of(chunk), _Choice()).add(chunk)
    if events and is_error(events[-1]):
        raise stream_error(events[-1])
    if not choices:
        raise incomplete("the stream ended without an answer: no chunk has a choice")
    # [DONE] alone shows nothing: proxies send it after a stream that broke off.
    if not all(choice.finish_reason for choice in choices.values()):
        raise incomplete("the stream broke off: it ended without a finish reason")
    kind = _COMPLETION if kind_of(whole, "object") == _COMPLETION else "chat.completion"
    return {**whole, "object": kind, "choices": [choices[index].whole(index) for index in sorted(choices)]}


def is_response_event(event: Event) -> bool:
    """True for an event of the Responses API."""
    return kind_of(event).startswith("response.")


def join_responses(events: Sequence[Event]) -> Json:
    """The response in the last event. `response.incomplete` is a response that says so in its status."""
    for event in reversed(events):
        kind, response = kind_of(event), event.get("response")
        if kind in _FAILED or (kind not in _FINAL and is_error(event)):
            error = response.get("error") if isinstance(response, dict) else event
            raise stream_error(error if says_something(error) else {"message": kind})
        if kind in _FINAL and isinstance(response, dict):
            if not response.get("output"):
                # Some gateways send the items only in events of their own.
                items = [e.get("item") for e in events if kind_of(e) == "response.output_item.done"]
                return {**response, "output": items or response.get("output", [])}
            return response
    raise incomplete()


def _check_choice(chunk: Event, event: Event) -> None:
    """Raise the error that a choice states, or that its finish reason says."""
    error = chunk.get("error")
    if says_something(error):
        raise stream_error(error)
    if chunk.get("finish_reason") == "error":
        raise stream_error({"message": "finish_reason is error", "type": kind_of(event)})


@dataclass(slots=True)
class _Block:
    """A block of content while its pieces come: texts, or the items of a list."""

    first: Event
    kind: str
    pieces: list[Any]

    def is_like(self, piece: Json) -> bool:
        """True if a piece is of the type of the block's first one."""
        return type(self.first.get(self.kind)) is type(piece)

    def whole(self) -> Event:
        """The block with all pieces."""
        if isinstance(self.first.get(self.kind), str):
            return {**self.first, self.kind: join_text(self.pieces)}
        return {**self.first, self.kind: self.pieces} if self.pieces else self.first


@dataclass(slots=True)
class _Choice:
    """A choice while its chunks come. `texts` are pieces by key of the message."""

    texts: dict[str, list[str]] = field(default_factory=dict)
    blocks: list[_Block] = field(default_factory=list)
    calls: ToolCalls = field(default_factory=ToolCalls)
    function_call: dict[str, list[str]] = field(default_factory=dict)
    other: Event = field(default_factory=dict)
    finish_reason: str = ""
    is_text: bool = False

    def add(self, chunk: Event) -> None:
        """Add a chunk of this choice."""
        if isinstance(text := chunk.get("text"), str):
            self.is_text = True
            self.texts.setdefault("text", []).append(text)
        # Some servers end with the whole message in place of a delta.
        if chunk.get("delta") is None and isinstance(message := chunk.get("message"), dict):
            self.texts, self.blocks, self.calls = {}, [], ToolCalls()
            self._add_delta(message)
        self._add_delta(chunk.get("delta") or {})
        if isinstance(reason := chunk.get("finish_reason"), str) and reason not in _UNSTATED:
            self.finish_reason = reason

    def _add_delta(self, delta: Event) -> None:
        for key, value in delta.items():
            if key == "tool_calls":
                self.calls.add(value or [])
            elif key == "function_call":
                self._add_function_call(value or {})
            elif key == "content" and (isinstance(value, list) or self.blocks):
                self._add_blocks(value if isinstance(value, list) else [value])
            # Content, refusal and reasoning come in pieces; the role may be repeated in every chunk.
            elif isinstance(value, str) and key not in {"role", "name", "id"}:
                self.texts.setdefault(key, []).append(value)
            elif isinstance(value, list):
                self.other[key] = self.other.get(key, [])
                self.other[key].extend(value)
            elif value is not None:
                self.other[key] = value

    def _add_function_call(self, pieces: Event) -> None:
        """Add to the one call of the form before `tool_calls`."""
        for key, piece in pieces.items():
            texts = self.function_call.setdefault(key, [])
            if isinstance(piece, str) and not (key == "name" and texts == [piece]):
                texts.append(piece)

    def _add_blocks(self, blocks: Sequence[Json]) -> None:
        """Add content that comes as blocks (Mistral). Adjacent blocks of one kind are one block."""
        texts = [{"type": "text", "text": text} for text in self.texts.pop("content", [])]
        for block in [*texts, *blocks]:
            if isinstance(block, str):
                block = {"type": "text", "text": block}  # noqa: PLW2901
            if not isinstance(block, dict):
                continue
            kind = kind_of(block)
            piece = block.get(kind)
            pieces = [piece] if isinstance(piece, str) else list(piece) if isinstance(piece, list) else []
            is_more = bool(self.blocks) and self.blocks[-1].kind == kind and self.blocks[-1].is_like(piece)
            if is_more and pieces:
                self.blocks[-1].pieces += pieces
            else:
                self.blocks.append(_Block(block, kind, pieces))

    def whole(self, index: int) -> Event:
        """The choice of the complete reply."""
        texts = {key: join_text(pieces) for key, pieces in self.texts.items()}
        end = {"index": index, "finish_reason": self.finish_reason}
        if self.is_text:
            return {**end, "text": texts["text"]}
        message: Event = {"role": "assistant", "content": None, **self.other, **texts}
        if self.blocks:
            is_text = all(block.kind == "text" for block in self.blocks)
            blocks = [block.whole() for block in self.blocks]
            message["content"] = join_text([str(b.get("text", "")) for b in blocks]) if is_text else blocks
        if self.calls.calls:
            message["tool_calls"] = self.calls.calls
        if self.function_call:
            message["function_call"] = {key: join_text(pieces) for key, pieces in self.function_call.items()}
        return {**end, "message": message}
