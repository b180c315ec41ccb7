"""Streams of unknown providers: texts are joined, one object is the reply, several are a list."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from service.agents.wire.streams.events import StreamEvent, join_text, objects, parse
from service.agents.wire.streams.failures import incomplete, is_error, stream_error
from service.agents.wire.streams.truncation import is_truncated_json
from service.domain.model import Json

_QUIET = frozenset({"metadata", "heartbeat", "ping", "keepalive", "keep-alive"})
"""Names of events that carry no part of the answer (LangServe and others)."""

_ENDS = frozenset({"end", "done", "close", "complete", "stop", "finish"})
"""Names of events at the end of a stream. Their object may be the whole reply of a stream of objects."""

_END_KEYS = frozenset({"type", "event", "done", "status", "id", "run_id", "is_final", "finished"})
_KINDS_OF_PARTS = frozenset({"token", "text", "delta", "content", "chunk", "message", "answer", "text_delta"})
_ADK_IDS = frozenset({"invocationId", "invocation_id"})


def join_unknown(events: Sequence[StreamEvent]) -> Json:
    """The reply of a stream that is of no known provider.

    Strings, and texts that are no JSON, are joined to one text, and parsed if that is JSON. Among objects,
    odd events stay what they are.
    """
    events = _with_data([event for event in events if event.text])
    _check_last_error(events)
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


def _with_data(events: Sequence[StreamEvent]) -> list[StreamEvent]:
    """The events that may carry a part of the answer; all of them if none does."""
    found = [event for event in events if event.name.lower() not in _QUIET]
    if len({event.name for event in found}) > 1:
        data = [event for event in found if event.name.lower() not in _ENDS]
        found = found if _are_all_objects(data) else data
    return found or list(events)


def _check_last_error(events: Sequence[StreamEvent]) -> None:
    """Raise the error after parts of an answer: `{type: error, content: …}`, maybe with an end after it."""
    found = objects(events)
    while len(found) > 1 and found[-1].keys() <= _END_KEYS:
        found = found[:-1]
    last = found[-1] if found else {}
    kinds = {str(event.get("type")).lower() for event in found[:-1]}
    if str(last.get("type")).lower() == "error" and not kinds.isdisjoint(_KINDS_OF_PARTS):
        text = next((last[key] for key in ("message", "content", "text", "data") if last.get(key)), "")
        raise stream_error({"message": text, **last})


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
