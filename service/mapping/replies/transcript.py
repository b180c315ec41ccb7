"""What an agent did, whatever the shape of its reply: the one form that every envelope is turned into."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from service.domain.model import Json


@dataclass(frozen=True, slots=True)
class ToolCall:
    """The agent called a tool with `arguments` (an object, as a rule)."""

    id: str
    name: str
    arguments: Json


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool answered. `name` is that of the call it answers; "" where neither tells."""

    call_id: str
    name: str
    text: str
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that were spent."""

    input_tokens: int = 0
    output_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.input_tokens + other.input_tokens, self.output_tokens + other.output_tokens)


Part = str | ToolCall | ToolResult
"""What a message holds: text that was said, a call, or a result."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. `role` is assistant, user or system; a message of a tool is the user's, as with Anthropic."""

    role: str
    parts: tuple[Part, ...]

    @property
    def text(self) -> str:
        """What was said, one line per block."""
        return "\n".join(part for part in self.parts if isinstance(part, str))


@dataclass(frozen=True, slots=True)
class Transcript:
    """Calls and results in the order they came; `structured` is the envelope's own, if it has one.

    `text` is the last thing the agent said: of its messages, the last with any text.
    """

    calls: tuple[ToolCall, ...] = ()
    results: tuple[ToolResult, ...] = ()
    text: str = ""
    usage: Usage = Usage()
    structured: Json = None
    messages: tuple[Message, ...] = ()

    def last_result(self, tool: str) -> ToolResult | None:
        """The last result of `tool` (of any, where it is "") that is not flagged as an error."""
        fitting = (r for r in reversed(self.results) if not r.is_error and (not tool or r.name == tool))
        return next(fitting, None)

    def last_call(self, tool: str) -> ToolCall | None:
        """The last call of `tool` that has arguments."""
        return next((call for call in reversed(self.calls) if call.name == tool and call.arguments), None)

    def unanswered_call(self) -> ToolCall | None:
        """The last call with arguments that no result answers: how an agent hands over what it puts out."""
        answered = {result.call_id for result in self.results}
        calls = (call for call in reversed(self.calls) if call.arguments)
        return next((call for call in calls if not call.id or call.id not in answered), None)

    def as_json(self) -> dict[str, Json]:
        """The transcript as Anthropic messages; normalising them gives this transcript again."""
        return {
            "messages": [
                {"role": message.role, "content": [_block(part) for part in message.parts]}
                for message in self.messages
            ],
            "structured_output": self.structured,
            "usage": {
                "input_tokens": self.usage.input_tokens,
                "output_tokens": self.usage.output_tokens,
            },
        }


def _block(part: Part) -> dict[str, Any]:
    match part:
        case ToolCall():
            return {"type": "tool_use", "id": part.id, "name": part.name, "input": part.arguments}
        case ToolResult():
            return {
                "type": "tool_result",
                "tool_use_id": part.call_id,
                "name": part.name,
                "content": part.text,
                "is_error": part.is_error,
            }
        case _:
            return {"type": "text", "text": part}
