"""The transcript: the common form of all reply shapes. Messages, tool calls, tool results, usage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from service.domain.model import Json


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a tool by the agent. `arguments` are usually an object."""

    id: str
    name: str
    arguments: Json


@dataclass(frozen=True, slots=True)
class ToolResult:
    """The result of a tool call. `name` is the tool's, taken from the call; "" if it is unknown.

    `blocks` are the texts of a result with several blocks; `text` has one per line.
    """

    call_id: str
    name: str
    text: str
    is_error: bool = False
    blocks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that a model read and wrote.

    `cached_input` and `cache_write` are the input tokens that were read from the provider's cache and written
    to it, `reasoning` the output tokens of the model's reasoning. They are parts of the two totals.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_input: int = 0
    cache_write: int = 0
    reasoning: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cached_input + other.cached_input,
            self.cache_write + other.cache_write,
            self.reasoning + other.reasoning,
        )

    def as_json(self) -> dict[str, Json]:
        """The counts in Anthropic's words, where input tokens do not include those of the cache."""
        parts: dict[str, Json] = {
            "cache_read_input_tokens": self.cached_input,
            "cache_creation_input_tokens": self.cache_write,
        }
        found = {name: count for name, count in parts.items() if count}
        if self.reasoning:
            found["output_tokens_details"] = {"reasoning_tokens": self.reasoning}
        return {
            "input_tokens": self.input_tokens - self.cached_input - self.cache_write,
            "output_tokens": self.output_tokens,
            **found,
        }


NO_USAGE = Usage()


Part = str | ToolCall | ToolResult
"""A part of a message: text, a call, or a result."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message.

    `role` is assistant, user or system. A tool's message has the role user, as in Anthropic's API.
    """

    role: str
    parts: tuple[Part, ...]

    @property
    def text(self) -> str:
        """The text of the message, one line per block."""
        return "\n".join(part for part in self.parts if isinstance(part, str))


@dataclass(frozen=True, slots=True)
class Transcript:
    """A conversation, with its calls and results in order.

    `text` is the agent's final text: that of its last message with any text. `structured` is the structured
    output that the reply itself has beside its messages, or None.
    """

    calls: tuple[ToolCall, ...] = ()
    results: tuple[ToolResult, ...] = ()
    text: str = ""
    usage: Usage = Usage()
    structured: Json = None
    messages: tuple[Message, ...] = ()

    def last_result(self, tool: str) -> ToolResult | None:
        """The last result of `tool` (of any tool if that is "") that is not flagged as an error."""
        for result in reversed(self.results):
            if not result.is_error and (not tool or result.name == tool):
                return result
        return None

    def last_call(self, tool: str) -> ToolCall | None:
        """The last call of `tool` that has arguments."""
        return next((call for call in reversed(self.calls) if call.name == tool and call.arguments), None)

    def unanswered_call(self) -> ToolCall | None:
        """The last call with arguments that has no result. Agents hand over their output with such a call."""
        answered = {result.call_id for result in self.results}
        for call in reversed(self.calls):
            # A call without an id cannot be matched with a result.
            if call.arguments and (not call.id or call.id not in answered):
                return call
        return None

    def as_json(self) -> dict[str, Json]:
        """The transcript as Anthropic messages. Normalising these gives an equal transcript."""
        return {
            "messages": [
                {"role": message.role, "content": [_block(part) for part in message.parts]}
                for message in self.messages
            ],
            "structured_output": self.structured,
            "usage": self.usage.as_json(),
        }


def _block(part: Part) -> dict[str, Any]:
    match part:
        case ToolCall():
            return {"type": "tool_use", "id": part.id, "name": part.name, "input": part.arguments}
        case ToolResult():
            return {
                "type": "tool_result",
                "tool_use_id": part.call_id,
                "name": part.name,  # not in Anthropic's API; kept for results whose call is missing
                "content": [_text_block(text) for text in part.blocks] if part.blocks else part.text,
                "is_error": part.is_error,
            }
        case _:
            return _text_block(part)


def _text_block(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}
