"""Streams of chat models, joined to the reply that the provider sends without `stream`.

Sources: platform.openai.com/docs/api-reference/chat-streaming, …/responses-streaming, and
docs.anthropic.com/en/docs/build-with-claude/streaming.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from service.domain import exact_json
from service.domain.errors import AgentUnavailableError
from service.domain.model import Json
from service.domain.provider_errors import classify_error

Event = dict[str, Json]

_EXTENDED_KEYS = {
    "text_delta": "text",
    "thinking_delta": "thinking",
    "signature_delta": "signature",
    "input_json_delta": "input",
}
"""Type of an Anthropic delta -> the key of the content block that it extends."""


def join_openai(events: Sequence[Event], *, done: bool) -> Json:
    """Join `chat.completion.chunk`s to one `chat.completion`. `done` is True after a final `[DONE]`."""
    whole: Event = {}
    choices: dict[int, Event] = {}
    for event in events:
        if "error" in event:
            raise _stream_error(event["error"])
        # Later values win: `usage` is null until the last chunk.
        whole |= {key: value for key, value in event.items() if value is not None and key != "choices"}
        for chunk in event.get("choices") or []:
            _add_choice(choices, chunk)
    # Some servers end without [DONE]; a finish reason for every choice shows that nothing is missing.
    if not done and not all(choice["finish_reason"] for choice in choices.values()):
        raise _incomplete()
    return {**whole, "object": "chat.completion", "choices": [choices[index] for index in sorted(choices)]}


def _add_choice(choices: dict[int, Event], chunk: Event) -> None:
    index = int(chunk.get("index", 0))
    empty: Event = {"index": index, "message": {"role": "assistant", "content": None}, "finish_reason": None}
    choice = choices.setdefault(index, empty)
    message: dict[str, Any] = choice["message"]
    delta = chunk.get("delta") or {}
    for key, value in delta.items():
        if key == "tool_calls":
            _add_calls(message.setdefault("tool_calls", []), value or [])
        # Content, refusal and reasoning come in pieces; the role may be repeated in every chunk.
        elif isinstance(value, str) and key != "role":
            message[key] = (message.get(key) or "") + value
        elif value is not None:
            message[key] = value
    if chunk.get("finish_reason"):
        choice["finish_reason"] = chunk["finish_reason"]


def _add_calls(calls: list[Event], chunks: Sequence[Event]) -> None:
    """Add chunks of tool calls. Id and name come with the first chunk of an index, arguments in pieces."""
    for chunk in chunks:
        index = chunk.get("index", len(calls))
        call = next((call for call in calls if call["index"] == index), None)
        if call is None:
            call = {"index": index, "id": "", "type": "function", "function": {"name": "", "arguments": ""}}
            calls.append(call)
        call |= {key: chunk[key] for key in ("id", "type") if chunk.get(key)}
        for key, text in (chunk.get("function") or {}).items():
            call["function"][key] = call["function"].get(key, "") + (text or "")


def join_responses(events: Sequence[Event]) -> Json:
    """The reply of a stream of the Responses API: its last event holds the whole response."""
    for event in reversed(events):
        kind, response = event.get("type"), event.get("response")
        if kind in {"response.completed", "response.incomplete"}:
            return response
        if kind in {"response.failed", "error"}:
            raise _stream_error(response.get("error") if isinstance(response, dict) else event)
    raise _incomplete()


def join_anthropic(events: Sequence[Event]) -> Json:
    """Join events of the Messages API to one message."""
    message: Event = {}
    blocks: dict[int, Event] = {}
    for event in events:
        match event.get("type"):
            case "message_start":
                message = dict(event["message"])
            case "content_block_start":
                blocks[event["index"]] = dict(event["content_block"])
            case "content_block_delta":
                _add_delta(blocks[event["index"]], event["delta"])
            case "content_block_stop":
                _finish_block(blocks[event["index"]])
            case "message_delta":
                # `message_start` has the input tokens, this event the output tokens.
                usage = {**message.get("usage", {}), **event.get("usage", {})}
                message |= {**event.get("delta", {}), "usage": usage}
            case "error":
                raise _stream_error(event.get("error"))
            case "message_stop":
                return {**message, "content": [blocks[index] for index in sorted(blocks)]}
    raise _incomplete()


def _add_delta(block: Event, delta: Event) -> None:
    kind = str(delta.get("type"))
    if kind == "citations_delta":
        block["citations"] = [*(block.get("citations") or []), delta.get("citation")]
    elif kind in _EXTENDED_KEYS:
        key = _EXTENDED_KEYS[kind]
        piece = delta.get("partial_json" if key == "input" else key, "")
        # `input` begins as an empty object and is collected as a text until its block ends.
        before = block.get(key)
        block[key] = (before if isinstance(before, str) else "") + str(piece)


def _finish_block(block: Event) -> None:
    """Parse the arguments of a tool, collected as pieces of JSON. A call without arguments keeps its `{}`."""
    if isinstance(text := block.get("input"), str):
        block["input"] = exact_json.loads(text) if text.strip() else {}


def _stream_error(error: Json) -> Exception:
    message = error.get("message") if isinstance(error, dict) else error
    kind = f"{error.get('type') or error.get('code')}: " if isinstance(error, dict) else ""
    return classify_error(error, f"the stream ended with an error: {kind}{message}")


def _incomplete() -> AgentUnavailableError:
    return AgentUnavailableError("the stream broke off before its last event")
