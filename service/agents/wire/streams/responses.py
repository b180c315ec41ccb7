"""Streams of OpenAI's Responses API, whose last event holds the whole response.

Source: platform.openai.com/docs/api-reference/responses-streaming.
"""

from __future__ import annotations

from collections.abc import Sequence

from service.agents.wire.streams.failures import Event, incomplete, is_error, stream_error
from service.domain.model import Json
from service.domain.provider_errors import says_something

_FINAL = frozenset({"response.completed", "response.incomplete", "response.done"})
_FAILED = frozenset({"response.failed", "response.cancelled", "error"})


def is_response_event(event: Event) -> bool:
    """True for an event of the Responses API."""
    return str(event.get("type", "")).startswith("response.")


def join_responses(events: Sequence[Event]) -> Json:
    """The response in the last event. `response.incomplete` is a response that says so in its status."""
    for event in reversed(events):
        kind, response = event.get("type"), event.get("response")
        if kind in _FAILED or (kind not in _FINAL and is_error(event)):
            error = response.get("error") if isinstance(response, dict) else event
            raise stream_error(error if says_something(error) else {"message": str(kind)})
        if kind in _FINAL and isinstance(response, dict):
            if not response.get("output"):
                # Some gateways send the items only in events of their own.
                items = [e.get("item") for e in events if e.get("type") == "response.output_item.done"]
                return {**response, "output": items or response.get("output", [])}
            return response
    raise incomplete()
