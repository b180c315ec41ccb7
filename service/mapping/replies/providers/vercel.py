"""Vercel's AI SDK: parts of messages, messages of user interfaces, and the steps of `generateText`.

Version 4 has `args` and `result` where version 5 has `input` and `output`; both are read.
Source: ai-sdk.dev/docs/reference/ai-sdk-core (generate-text, model-message, ui-message).
"""

from __future__ import annotations

from typing import Any

from service.domain.model import Json
from service.mapping.replies.text import str_or_empty, value_text
from service.mapping.replies.transcript import Part, ToolCall, ToolResult

_ERROR_OUTPUTS = frozenset({"error-text", "error-json", "execution-denied"})
_OUTPUTS = _ERROR_OUTPUTS | {"text", "json", "content"}
_STEP_KEYS = ("finishReason", "toolCalls", "toolResults", "stepType")


def read_part(part: dict[str, Any], kind: str) -> list[Part]:
    """The call, the result, or both in a part of type `kind`; [] for other parts."""
    match kind:
        case "tool-call":
            return [_call(part)]
        case "tool-result":
            return [_result(part, part.get("output", part.get("result")))]
        case "tool-error":
            return [_result(part, part.get("error"), is_error=True)]
        case "tool-invocation" if isinstance(part.get("toolInvocation"), dict):
            return _interface_part(part["toolInvocation"])
    if kind == "dynamic-tool" or (kind.startswith("tool-") and "state" in part):
        named = part if "toolName" in part else {**part, "toolName": kind.removeprefix("tool-")}
        return _interface_part(named)
    return []


def read_invocations(message: dict[str, Any]) -> list[Part]:
    """The calls and results in the `toolInvocations` of a message, before version 5."""
    invocations = _objects(message.get("toolInvocations"))
    return [part for invocation in invocations for part in _interface_part(invocation)]


def find_steps(reply: dict[str, Any]) -> list[Json]:
    """An item for each step of `generateText`, or for a reply with calls and results beside its text."""
    steps = reply.get("steps")
    if isinstance(steps, list) and steps and all(_is_step(step) for step in steps):
        return [_step_item(step) for step in steps]
    if isinstance(reply.get("toolCalls"), list) or isinstance(reply.get("toolResults"), list):
        return [_step_item(reply)]
    return []


def _is_step(value: Json) -> bool:
    return isinstance(value, dict) and any(key in value for key in _STEP_KEYS)


def _step_item(step: dict[str, Any]) -> Json:
    """The message of a step, with its results in it."""
    content = step.get("content")
    if not isinstance(content, list):
        calls = [{**call, "type": "tool-call"} for call in _objects(step.get("toolCalls"))]
        results = [{**result, "type": "tool-result"} for result in _objects(step.get("toolResults"))]
        content = [{"type": "text", "text": str_or_empty(step.get("text"))}, *calls, *results]
    return {"role": "assistant", "content": content, "usage": step.get("usage")}


def _objects(value: Json) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _call(part: dict[str, Any]) -> ToolCall:
    id_, name = str_or_empty(part.get("toolCallId")), str_or_empty(part.get("toolName"))
    return ToolCall(id_, name, part.get("input", part.get("args")))


def _result(part: dict[str, Any], output: Json, *, is_error: bool = False) -> ToolResult:
    kind = str_or_empty(output.get("type")) if isinstance(output, dict) else ""
    if isinstance(output, dict) and kind in _OUTPUTS and ("value" in output or "reason" in output):
        is_error = kind in _ERROR_OUTPUTS
        output = output.get("value", output.get("reason"))
    # Version 4 flags an error beside the result; tools of MCP servers have content of their own.
    is_error = is_error or part.get("isError") is True
    if isinstance(output, dict) and isinstance(output.get("content"), list):
        is_error, output = is_error or output.get("isError") is True, output["content"]
    id_, name = str_or_empty(part.get("toolCallId")), str_or_empty(part.get("toolName"))
    text, blocks = value_text(output)
    return ToolResult(id_, name, text, is_error, blocks)


def _interface_part(part: dict[str, Any]) -> list[Part]:
    """The call, and its result once there is one, in a part of a message for a user interface."""
    call, state = _call(part), str_or_empty(part.get("state"))
    if state in {"output-available", "result"}:
        return [call, _result(part, part.get("output", part.get("result")))]
    if state in {"output-error", "output-denied"}:
        return [call, _result(part, part.get("errorText"), is_error=True)]
    return [call]
