"""Gemini: contents with `parts`, and events of Google's Agent Development Kit (ADK) that hold contents.

The keys are in camel case in the REST API and in snake case in the Python SDK; both are read.
Source: ai.google.dev/api/generate-content, ai.google.dev/api/caching#Part, google.github.io/adk-docs/events.
"""

from __future__ import annotations

from typing import Any

from service.domain.model import Json
from service.mapping.replies.text import content_text, json_text, output_text, str_or_empty
from service.mapping.replies.transcript import ToolCall, ToolResult

THOUGHT = "thought"
"""A part with this key is the model's reasoning."""


def read_part(part: dict[str, Any]) -> ToolCall | ToolResult | None:
    """The call or result in a part; None for other parts."""
    call = part.get("functionCall") or part.get("function_call")
    if isinstance(call, dict):
        return ToolCall(str_or_empty(call.get("id")), str_or_empty(call.get("name")), call.get("args"))
    answer = part.get("functionResponse") or part.get("function_response")
    if isinstance(answer, dict):
        text, is_error = _read_response(answer.get("response"))
        return ToolResult(str_or_empty(answer.get("id")), str_or_empty(answer.get("name")), text, is_error)
    return None


def join_chunks(chunks: list[Json]) -> Json:
    """One reply for the list of partial replies that `streamGenerateContent` sends; None for another list.

    The parts of the first candidate are joined. Every other key has its last value, so that finish reason and
    usage are those of the whole.
    """
    if len(chunks) == 0 or not all(_is_chunk(chunk) for chunk in chunks):
        return None
    whole: dict[str, Any] = {}
    candidate: dict[str, Any] = {}
    parts: list[Json] = []
    for chunk in chunks:
        whole |= chunk
        listed = chunk.get("candidates")
        first = listed[0] if isinstance(listed, list) and listed else None
        if isinstance(first, dict):
            content = first.get("content")
            pieces = content.get("parts") if isinstance(content, dict) else None
            for piece in pieces if isinstance(pieces, list) else []:
                _add_piece(parts, piece)
            candidate |= first
    if candidate:
        whole["candidates"] = [{**candidate, "content": {"role": "model", "parts": parts}}]
    return whole


def _is_chunk(value: Json) -> bool:
    return isinstance(value, dict) and (
        isinstance(value.get("candidates"), list) or "usageMetadata" in value or "promptFeedback" in value
    )


def _add_piece(parts: list[Json], piece: Json) -> None:
    """Add a part; text continues the part before if that is plain text of the same kind."""
    last = parts[-1] if parts else None
    if (
        isinstance(piece, dict)
        and isinstance(last, dict)
        and isinstance(piece.get("text"), str)
        and isinstance(last.get("text"), str)
        and piece.get(THOUGHT) == last.get(THOUGHT)
    ):
        parts[-1] = {**last, "text": last["text"] + piece["text"]}
    else:
        parts.append(piece)


def _read_response(response: Json) -> tuple[str, bool]:
    """The text of a function's response, and True if it is an error.

    By the API's documentation the key `output` holds the output and `error` the details of an error; without
    these keys the whole response is the output. ADK puts an output that is no object under `result`.
    """
    if not isinstance(response, dict):
        return json_text(response) if response is not None else "", False
    if response.get("output") is not None:
        return json_text(response["output"]), False
    if error := response.get("error"):
        return json_text(error), True
    if response.keys() == {"name", "content"}:  # Vertex AI's first examples
        return _read_response(response["content"])
    if isinstance(content := response.get("content"), list):  # ADK passes on results of MCP
        return content_text(content), response.get("isError") is True
    return output_text(response), False
