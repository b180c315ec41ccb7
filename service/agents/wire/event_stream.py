"""Server-sent events, joined to the reply that would have come without streaming.

The format is WHATWG's (html.spec.whatwg.org/multipage/server-sent-events.html). OpenAI's and Anthropic's
streams become those providers' ordinary replies (`chat_streams`); of any other stream the texts are joined.
A stream of a known kind that ends before its last event has broken off, and is no reply.
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
    """The reply of a stream. Raises AgentRetryableError or AgentRejectedError where it states an error.

    Of a stream that no provider's is: JSON texts are joined, as are texts that are no JSON; one object stays
    one, and several become a list.
    """
    try:
        return _join(text)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f"the stream is not what its first events say ({type(error).__name__})"
        raise AgentUnavailableError(reason) from None


def _join(text: str) -> Json:
    data = [item for item in _data(text) if item]
    done = bool(data) and data[-1] == _DONE
    parsed = [_parsed(item) for item in (data[:-1] if done else data)]
    objects = [item for item in parsed if isinstance(item, dict)]
    for item in objects:
        if item.get("object") == "chat.completion.chunk":
            return join_openai(objects, done=done)
        kind = str(item.get("type", ""))
        if kind == "message_start" or (kind == "error" and isinstance(item.get("error"), dict)):
            return join_anthropic(objects)
        if kind.startswith("response."):
            return join_responses(objects)
    if len(objects) < len(parsed):
        return _joined(parsed, data)
    return objects[0] if len(objects) == 1 else objects


def _joined(parsed: Sequence[Json], data: Sequence[str]) -> Json:
    """Texts in a row, those in JSON quotes without them; and what they make together, parsed."""
    text = "".join(item if isinstance(item, str) else raw for item, raw in zip(parsed, data, strict=False))
    return _parsed(text)


def _data(text: str) -> list[str]:
    """The data of every event, in order; other fields and comments are dropped."""
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
    if lines:  # many servers leave out the last blank line
        found.append("\n".join(lines))
    return found


def _parsed(text: str) -> Json:
    try:
        return exact_json.loads(text)
    except ValueError:
        return text
