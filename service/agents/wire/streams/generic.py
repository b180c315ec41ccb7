"""Streams of unknown providers: texts are joined, one object is the reply, several are a list."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from service.agents.wire.streams.events import StreamEvent, join_text, objects, parse
from service.agents.wire.streams.failures import incomplete, is_error, stream_error
from service.agents.wire.streams.truncation import is_truncated_json
from service.domain.model import Json

_ADK_IDS = frozenset({"invocationId", "invocation_id"})


def join_unknown(events: Sequence[StreamEvent]) -> Json:
    """The reply of a stream that is of no known provider.

    Strings, and texts that are no JSON, are joined to one text, and parsed if that is JSON. Among objects,
    odd events stay what they are.
    """
    events = [event for event in events if event.text]
    last = events[-1].value if events else None
    # An object alone is a reply as without streaming: the mapping judges it, and may take its error as data.
    is_part = len(events) > 1 or (isinstance(last, dict) and "event" in last)
    if isinstance(last, dict) and is_error(last) and is_part:
        raise stream_error(last)
    others = events[:-1]
    if isinstance(last, str) and others and _are_all_objects(others) and is_truncated_json(last):
        raise incomplete("the stream broke off: its last event ends in the middle")
    found = _without_partial(objects(events))
    if len(found) * 2 <= len(events) and not _are_all_objects(events):
        return _join_texts(events)
    if _are_all_objects(events):
        return found[0] if len(found) == 1 else found
    joined = _join_texts(events)
    if isinstance(joined, dict | list):
        return joined
    return [event.value for event in events]


def _are_all_objects(events: Sequence[StreamEvent]) -> bool:
    return all(isinstance(event.value, dict) for event in events)


def _join_texts(events: Sequence[StreamEvent]) -> Json:
    """All data as one text, parsed if it is JSON. JSON strings are joined without their quotes."""
    text = join_text([event.value if isinstance(event.value, str) else event.text for event in events])
    value = parse(text)
    if isinstance(value, str) and text.lstrip().startswith("{") and is_truncated_json(text):
        raise incomplete("the stream broke off: its JSON ends in the middle")
    return value


def _without_partial(found: list[Any]) -> list[Any]:
    """The events of an ADK agent without partial ones: a whole event follows them. Others unchanged."""
    if not any("author" in event and not _ADK_IDS.isdisjoint(event) for event in found):
        return found
    if found[-1].get("partial") is True:
        raise incomplete()
    return [event for event in found if event.get("partial") is not True]
