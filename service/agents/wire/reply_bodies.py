"""Bodies of replies: JSON, a stream, or text, told by the bytes rather than by the media type.

| body | reply |
| --- | --- |
| server-sent events, under any media type | joined (`event_stream.py`) |
| JSON documents, one a line | joined; under `text/…` but `text/event-stream` only those of known providers |
| a data stream of Vercel's AI SDK | joined |
| JSON | the JSON; a list of Gemini's chunks is joined |
| JSON that ends in the middle, of a server that states no length or says that it is JSON | it broke off |
| nothing | a failure, except where a method has no other reply |
| anything else | text |
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from service.agents.wire.charsets import decode_reply
from service.agents.wire.event_stream import (
    MEDIA_TYPE,
    are_chunks,
    is_chunk,
    join_data_stream,
    join_events,
    join_json_lines,
    join_objects,
    knows_lines,
)
from service.agents.wire.streams.events import are_json_lines, is_sse, read_json_lines
from service.agents.wire.streams.failures import incomplete
from service.agents.wire.streams.vercel import is_data_stream
from service.agents.wire.truncation import is_truncated_json
from service.domain import exact_json
from service.domain.errors import AgentRejectedError, AgentRetryableError, AgentUnavailableError
from service.domain.model import Json

_JSON_LINES = frozenset(
    {
        *("application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonl"),
        *("application/jsonlines", "application/x-jsonlines", "application/json-lines"),
        *("application/json-seq", "application/stream+json", "application/x-json-stream"),
    }
)


@dataclass(frozen=True, slots=True)
class BodyType:
    """The header of a body. `is_framed`: its length is stated or it is chunked, so that a cut is noticed."""

    media_type: str = ""
    charset: str | None = None
    is_framed: bool = True

    @classmethod
    @lru_cache(maxsize=64)
    def parse(cls, content_type: str, *, is_framed: bool = True) -> BodyType:
        """The type in a header `Content-Type`."""
        media_type, *parameters = (part.strip() for part in content_type.split(";"))
        charsets = [p.partition("=")[2].strip("\"' ") for p in parameters if p.lower().startswith("charset=")]
        return cls(media_type.lower(), charsets[0] if charsets else None, is_framed)

    @property
    def is_json(self) -> bool:
        """True if the media type is one of JSON."""
        return self.media_type.endswith(("/json", "+json"))


_UNSTATED = BodyType()


def parse_reply(data: bytes, type_: BodyType = _UNSTATED) -> Json:
    """The reply in a body: streams joined, JSON parsed, else text.

    Raises AgentRetryableError or AgentRejectedError.
    """
    text = decode_reply(data, type_.charset)
    if not text.strip():
        raise AgentUnavailableError("the reply is empty")
    is_stream = type_.media_type == MEDIA_TYPE
    if is_sse(text):
        return join_events(text)
    try:
        value = exact_json.loads_reply(text)
    except ValueError:
        if not is_stream:
            return _parse_other(text, type_)
        if are_json_lines(text):
            return join_json_lines(text)
        return join_data_stream(text) if is_data_stream(text) else join_events(text)
    if is_chunk(value):
        return join_objects([value])
    return join_objects(value) if are_chunks(value) else value


def parse_labelled(data: bytes, type_: BodyType, label: str, redact: Callable[[str], str]) -> Json:
    """As `parse_reply`; errors begin with the agent's label, and their texts are redacted."""
    try:
        return parse_reply(data, type_)
    except (AgentRetryableError, AgentRejectedError) as error:
        raise error.reworded(f"{label}: {redact(str(error))}") from None


def parse_output(data: bytes, label: str) -> Json:
    """The output of a function or program: JSON, else text; it may be empty. Raises AgentRejectedError."""
    try:
        text = decode_reply(data, None)
    except AgentRejectedError as error:
        raise error.reworded(f"{label}: {error}") from None
    try:
        return exact_json.loads_reply(text)
    except ValueError:
        return text


def is_json(data: bytes) -> bool:
    """True if a body is one whole JSON document."""
    try:
        exact_json.loads(data)
    except ValueError:
        return False
    return True


def _parse_other(text: str, type_: BodyType) -> Json:
    """The reply in a text that is neither server-sent events nor one JSON document."""
    if type_.media_type in _JSON_LINES:
        return join_json_lines(text)
    if are_json_lines(text) and (not type_.media_type.startswith("text/") or knows_lines(text)):
        return join_json_lines(text)
    if is_data_stream(text):
        return join_data_stream(text)
    if (type_.is_json or not type_.is_framed) and is_truncated_json(text):
        raise incomplete("the reply broke off: its JSON ends in the middle")
    _check_last_line(text, type_)
    return text


def _check_last_line(text: str, type_: BodyType) -> None:
    """Raise the failure of JSON documents, one a line, of which the last one ends in the middle."""
    before, _, last = text.rstrip().rpartition("\n")
    lines = [event.value for event in read_json_lines(before)]
    is_cut = last.startswith("{") and is_truncated_json(last) and all(isinstance(v, dict) for v in lines)
    if lines and is_cut and (not type_.media_type.startswith("text/") or knows_lines(before)):
        raise incomplete("the stream broke off: its last line ends in the middle")
