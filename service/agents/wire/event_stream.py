"""Streams, joined to the reply that the agent would have sent without streaming.

Streams of known providers become these providers' ordinary replies (`streams`); the data of any other stream
are joined. A stream that states an error, or that ends before it is complete, is no reply.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from service.agents.wire.streams import (
    ag_ui,
    anthropic,
    cohere,
    converse,
    gemini,
    json_rpc,
    langgraph,
    ollama,
    openai,
    vercel,
)
from service.agents.wire.streams.events import DONE, StreamEvent, kind_of, read_json_lines, read_sse
from service.agents.wire.streams.failures import Event, check_events, incomplete, is_error
from service.agents.wire.streams.unknown import generic
from service.domain.errors import AgentRejectedError, AgentRetryableError, AgentUnavailableError
from service.domain.model import Json

MEDIA_TYPE = "text/event-stream"

_MALFORMED = (KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError, RecursionError)


def join_events(text: str) -> Json:
    """The reply of a stream of server-sent events.

    Raises AgentRetryableError or AgentRejectedError for an error that the stream states, with its events in
    `stated_in`, and AgentUnavailableError for a stream that is incomplete or malformed.
    """
    return _join_read(read_sse(text))


def join_json_lines(text: str) -> Json:
    """The reply of a stream of one JSON document a line. Raises as `join_events`."""
    return _join_read(read_json_lines(text))


def knows_lines(text: str) -> bool:
    """True if one of the JSON documents is of a known provider, or the last one is an error."""
    found = [event.value for event in read_json_lines(text) if isinstance(event.value, dict)]
    return any(is_of(item) for item in found for is_of in _PROVIDERS) or _end_in_error(found)


def _end_in_error(found: Sequence[Event]) -> bool:
    return bool(found) and (is_error(found[-1]) or generic.last_error(found) is not None)


def join_objects(found: Sequence[Event]) -> Json:
    """The reply of chunks that came as a list, or of a single one. Raises as `join_events`."""
    return _join_read([StreamEvent("", "{}", item) for item in found])


def join_data_stream(text: str) -> Json:
    """The reply of a data stream of Vercel's AI SDK. Raises as `join_events`."""
    return _joined(lambda: vercel.join_data_stream(text))


def is_chunk(value: Json) -> bool:
    """True for an object that is part of a known provider's stream and no reply of its own."""
    if not isinstance(value, dict):
        return False
    # Perplexity has an empty `delta` beside the message of a whole reply.
    is_whole = kind_of(value, "object") in {"text_completion", "chat.completion"}
    return (openai.is_chunk(value) and not is_whole) or (
        ollama.is_ollama(value) and value.get("done") is False
    )


def are_chunks(value: Json) -> bool:
    """True for a list of objects that are parts of a known provider's stream (Gemini without `alt=sse`)."""
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        return False
    return bool(value) and (is_chunk(value[0]) or all(gemini.is_gemini(item) for item in value))


def _join_read(events: Sequence[StreamEvent]) -> Json:
    try:
        return _joined(lambda: _join(events))
    except (AgentRetryableError, AgentRejectedError) as error:
        if error.stated_in is not None:
            error.stated_in = [event.value for event in events if event.text and event.text != DONE]
        raise


def _joined(join: Callable[[], Json]) -> Json:
    try:
        return join()
    except _MALFORMED as error:
        reason = f"the stream is not what its first events say ({type(error).__name__})"
        raise AgentUnavailableError(reason) from None


def _join(events: Sequence[StreamEvent]) -> Json:
    done = any(event.text == DONE for event in events)
    events = [event for event in events if event.text != DONE]
    check_events(events)
    if not any(event.text for event in events):
        raise incomplete(
            "the stream holds nothing but [DONE]" if done else "the stream ended without an event"
        )
    if langgraph.is_langgraph(events):
        return langgraph.join_langgraph(events)
    found = [_typed(event) for event in events if isinstance(event.value, dict)]
    # The first event that a provider's format is known by decides.
    for item in found:
        for is_of, join in _PROVIDERS.items():
            if is_of(item):
                return join(found)
        if vercel.is_ui_stream(item):
            return vercel.join_ui_stream(found, done=done)
    return generic.join_unknown(events)


def _typed(event: StreamEvent) -> Event:
    """The object of an event, with the event's name as its type if it has none of its own."""
    value: Event = event.value
    is_known = event.name in anthropic.KINDS or event.name.startswith("response.")
    return {"type": event.name, **value} if is_known and "type" not in value else value


_PROVIDERS: Mapping[Callable[[Event], bool], Callable[[Sequence[Event]], Json]] = MappingProxyType(
    {
        openai.is_chunk: openai.join_openai,
        anthropic.is_anthropic: anthropic.join_anthropic,
        openai.is_response_event: openai.join_responses,
        gemini.is_gemini: gemini.join_gemini,
        ollama.is_ollama: ollama.join_ollama,
        json_rpc.is_json_rpc: json_rpc.join_json_rpc,
        converse.is_converse: converse.join_converse,
        cohere.is_cohere: cohere.join_cohere,
        ag_ui.is_ag_ui: ag_ui.join_ag_ui,
    }
)
"""Sign of a provider's event -> function that joins the provider's events."""
