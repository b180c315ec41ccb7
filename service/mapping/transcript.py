"""What an agent did, whatever the shape of its reply: the one form that every envelope is turned into."""

from __future__ import annotations

from dataclasses import dataclass

from service.model import Json

_MAX_TOKENS = 10**12
"""More is no token count; the sums in the table have to stay exact."""


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


@dataclass(frozen=True, slots=True)
class Transcript:
    """Calls and results in the order they came; `structured` is the envelope's own, if it has one."""

    calls: tuple[ToolCall, ...] = ()
    results: tuple[ToolResult, ...] = ()
    text: str = ""
    usage: Usage = Usage()
    structured: Json = None

    def last_result(self, tool: str) -> ToolResult | None:
        """The last result of `tool` (of any, where it is "") that is not flagged as an error."""
        fitting = (r for r in reversed(self.results) if not r.is_error and (not tool or r.name == tool))
        return next(fitting, None)

    def last_call(self, tool: str) -> ToolCall | None:
        """The last call of `tool` that has arguments."""
        return next((call for call in reversed(self.calls) if call.name == tool and call.arguments), None)


def usage_of(holder: Json) -> Usage:
    """`usage.input_tokens` and `usage.output_tokens` of an object; what is no count is 0."""
    usage = holder.get("usage") if isinstance(holder, dict) else None
    if not isinstance(usage, dict):
        return Usage()
    return Usage(_count(usage.get("input_tokens")), _count(usage.get("output_tokens")))


def _count(value: Json) -> int:
    is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_TOKENS
    return value if is_count else 0
