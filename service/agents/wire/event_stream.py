"""Server-sent events, joined to the reply that the agent would have sent without streaming.

The format is WHATWG's (html.spec.whatwg.org/multipage/server-sent-events.html). Streams of OpenAI and
Anthropic become these providers' ordinary replies (`chat_streams`); the data of any other stream are
joined. A provider's stream without its last event is incomplete and no reply: half an answer must not
become a row's result.
"""

from __future__ import annotations

from collections.abc import Sequence

from service.agents.wire.chat_streams import join_anthropic, join_openai, join_responses
from service.domain import exact_json
from service.domain.errors import AgentUnavailableError
from service.domain.model import Json

MEDIA_TYPE = "text/event-stream"

_DONE = "[DONE]"


def join_events(text: str) -> Json:
    """The reply of a stream.

    The data of an unknown provider's stream: strings, and texts that are no JSON, are joined to one text, and
    parsed if that is JSON; one object is the reply, several are a list.

    Raises AgentRetryableError or AgentRejectedError for an error that the stream states, and
    AgentUnavailableError for a stream that is incomplete or malformed.
    """
    try:
        return _join(text)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f"the stream is not what its first events say ({type(error).__name__})"
        raise AgentUnavailableError(reason) from None


def _join(text: str) -> Json:
    data = [item for item in _data_of_events(text) if item]
    done = bool(data) and data[-1] == _DONE
    parsed = [_parse(item) for item in (data[:-1] if done else data)]
    objects = [item for item in parsed if isinstance(item, dict)]
    # The first event that a provider's format is known by decides.
    for item in objects:
        if item.get("object") == "chat.completion.chunk":
            return join_openai(objects, done=done)
        kind = str(item.get("type", ""))
        if kind == "message_start" or (kind == "error" and isinstance(item.get("error"), dict)):
            return join_anthropic(objects)
        if kind.startswith("response."):
            return join_responses(objects)
    if len(objects) < len(parsed):
        return _join_texts(parsed, data)
    return objects[0] if len(objects) == 1 else objects


def _join_texts(parsed: Sequence[Json], data: Sequence[str]) -> Json:
    """All data as one text, parsed if it is JSON. JSON strings are joined without their quotes."""
    # `data` may be longer by the final [DONE].
    text = "".join(item if isinstance(item, str) else raw for item, raw in zip(parsed, data, strict=False))
    return _parse(text)


def _data_of_events(text: str) -> list[str]:
    """The data of every event, in order. Other fields and comments are dropped."""
    found: list[str] = []
    lines: list[str] = []
    for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        if not line:
            if lines:
                found.append("\n".join(lines))
            lines = []
        elif line.startswith("data"):
            name, _, value = line.partition(":")
            if name == "data":
                lines.append(value.removeprefix(" "))
    if lines:  # many servers omit the last blank line
        found.append("\n".join(lines))
    return found


def _parse(text: str) -> Json:
    try:
        return exact_json.loads(text)
    except ValueError:
        return text
