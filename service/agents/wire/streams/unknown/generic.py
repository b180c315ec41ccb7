"""Streams of unknown providers: texts are joined, one object is the reply, several are a list."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from service.agents.wire.streams.events import DONE, StreamEvent, join_text, kind_of, objects, parse
from service.agents.wire.streams.failures import (
    FAILED_NAMES,
    failed_run,
    incomplete,
    is_error,
    is_failed,
    named_exception,
    stream_error,
)
from service.agents.wire.streams.unknown.last_event import broken_end, is_piece
from service.agents.wire.truncation import is_truncated_json
from service.domain.model import Json
from service.mapping.replies.objections.objection import words

_KEEP_ALIVES = frozenset({"heartbeat", "ping", "keepalive", "keep-alive"})
_KEYS_OF_KEEP_ALIVES = frozenset({"type", "event", "kind", "id", "time", "timestamp"})
_QUIET = _KEEP_ALIVES | {"metadata"}
"""Names of events that carry no part of the answer (LangServe and others)."""

_ENDS = frozenset({"end", "done", "close", "complete", "stop", "finish"})
"""Names of events at the end of a stream. Their object may be the whole reply of a stream of objects."""

_KINDS_OF_ENDS = (
    _ENDS
    | _QUIET
    | {"usage", "stats", "token_usage", "cost", "completed", "finished", "final", "eof", "eos", "stream_end"}
    | {"message_end", "response_end", "run_end", "run_finished", "session_end", "stream_complete"}
)
"""Kinds of objects that mark the end, or only count, where they have no text."""

_MARKS_OF_END = ("stop", "is_final", "is_finished", "is_end", "isEnd", "is_last", "isFinal")
"""Keys that are true in the last piece of a text, else false (llama.cpp, ERNIE). `done` marks tasks too."""

_REASONS = (
    "finish_reason",
    "stop_reason",
    "finishReason",
    "stopReason",
    "completionReason",
    "generated_text",
)
"""Keys that are null in each piece of a text but the last (models of Bedrock, Text Generation Inference)."""

_END_KEYS = frozenset({"type", "event", "done", "status", "id", "run_id", "is_final", "finished"})
_REASONS_OF_FAILURES = frozenset(
    {"canceled", "cancelled", "error", "failed", "aborted", "timeout", "interrupted", "paused", "suspended"}
)
_TEXT_KEYS = ("message", "content", "text", "data", "delta")
_NAMES_OF_PARTS = frozenset({"data", "token", "text", "delta", "content", "chunk", "message", "answer"})
_KINDS_OF_PARTS = _NAMES_OF_PARTS | words(
    "start begin text_delta thinking on_chat_model_stream item partial response stream"
)
_ERROR_KIND = re.compile(r".*[._-]error|(?:run|agent|llm|chain|stream|model|workflow|task)error")
"""Kinds of the error at the end of a stream, beside `error`: `agent_error`, `RunError`."""

_ADK_IDS = frozenset({"invocationId", "invocation_id"})


def join_unknown(events: Sequence[StreamEvent]) -> Json:
    """The reply of a stream that is of no known provider.

    Strings, and texts that are no JSON, are joined to one text, and parsed if that is JSON. Among objects,
    odd events stay what they are.
    """
    if events and not events[-1].text and events[-1].name.lower() in FAILED_NAMES:
        raise stream_error({"type": events[-1].name, "message": f"its last event is {events[-1].name}"})
    events = [event for event in events if event.text]
    _check_last_name(events)
    events = _with_data(events)
    if (error := last_error(objects(events))) is not None:
        raise stream_error(error)
    last = events[-1].value if events else None
    if isinstance(last, dict) and is_failed(last) and any(isinstance(event.value, str) for event in events):
        raise stream_error(last)
    # An object alone is a reply as without streaming: the mapping judges it, and may take its error as data.
    if isinstance(last, dict) and is_error(last) and (len(events) > 1 or "event" in last):
        raise stream_error(last)
    others = events[:-1]
    if isinstance(last, str) and others and _are_all_objects(others) and is_truncated_json(last):
        raise incomplete("the stream broke off: its last event ends in the middle")
    found = _without_partial(objects(events))
    if found and _are_quoted([event for event in events if not isinstance(event.value, dict)]):
        # Texts that are written as JSON are no pieces of the JSON of an object between them.
        return [event.value for event in events]
    if len(found) * 2 <= len(events) and not _are_all_objects(events):
        return _join_texts(events)
    if _are_all_objects(events):
        _check_marks_of_end(found)
        return found[0] if len(found) == 1 and not _are_of_adk(found) else found
    joined = _join_texts(events)
    if isinstance(joined, dict | list):
        return joined
    return [event.value for event in events]


def _check_marks_of_end(found: Sequence[dict[str, Any]]) -> None:
    """Raise an error if each object has a text and says by the same key that it is not the last one.

    Also if an event says that a run has started, and none that it has completed.
    """
    kinds = {_kind(part) for part in found}
    for run in ("run", "teamrun"):  # Agno
        if f"{run}started" in kinds and f"{run}completed" not in kinds:
            raise incomplete("the stream broke off: its run has not completed")
    if not found or not all(map(is_piece, found)):
        return
    for key in _MARKS_OF_END:
        if all(part.get(key) is False for part in found):
            raise incomplete(f"the stream broke off: no event has {key}: true")
    for key in _REASONS:
        if len(found) > 1 and all(key in part and part[key] is None for part in found):
            raise incomplete(f"the stream broke off: no event has a {key}")


def _with_data(events: Sequence[StreamEvent]) -> list[StreamEvent]:
    """The events that may carry a part of the answer; all of them if none does."""
    found = [event for event in events if event.name.lower() not in _QUIET]
    if len({event.name for event in found}) > 1:
        data = [event for event in found if event.name.lower() not in _ENDS]
        found = found if _are_all_objects(data) else data
    texts = {event.name for event in found if not isinstance(event.value, dict)}
    if texts and texts <= _NAMES_OF_PARTS:
        # Beside events of text, an object under another name is a start, a count of tokens and the like.
        found = [event for event in found if event.name in _NAMES_OF_PARTS | {""} or _states_error(event)]
    return found or list(events)


def _states_error(event: StreamEvent) -> bool:
    return isinstance(event.value, dict) and is_error(event.value)


def _kind(event: dict[str, Any]) -> str:
    return next((kind for key in ("type", "kind", "event") if (kind := kind_of(event, key).lower())), "")


def _is_end(event: dict[str, Any]) -> bool:
    """True for an object that only marks the end."""
    if event.keys() <= _END_KEYS:
        return True
    has_text = any(event.get(key) not in (None, "", [], {}, DONE) for key in _TEXT_KEYS)
    return _kind(event) in _KINDS_OF_ENDS and not has_text


def _check_last_name(events: Sequence[StreamEvent]) -> None:
    """Raise the error of an event `failed` after which only ends come, or of an end with such a reason.

    Also that of a stream in which no event says anything.
    """
    if events and all(map(_is_keep_alive, events)):
        raise incomplete("the stream holds nothing but keep-alives")
    if events and events[-1].name.lower() in _ENDS and isinstance(end := events[-1].value, dict):
        reason = str(end.get("reason")).lower()
        if reason in _REASONS_OF_FAILURES and end.keys() <= _END_KEYS | {"reason"}:  # Replicate
            raise stream_error({**end, "code": reason, "message": f"it ended with reason: {reason}"})
    found = list(events)
    while len(found) > 1 and (found[-1].name.lower() in _ENDS or _is_end_event(found[-1])):
        found.pop()
    for some in (found, list(events)):
        if some and (facts := broken_end(some, _is_like_record)) is not None:
            raise stream_error(facts)
    if found and found[-1].name.lower() in FAILED_NAMES:
        value = found[-1].value
        stated = value if isinstance(value, dict) else {"message": found[-1].text}
        raise stream_error({"message": stated.get("reason"), **stated})


def _is_end_event(event: StreamEvent) -> bool:
    return isinstance(event.value, dict) and _is_end(event.value)


def last_error(found: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The error after parts of an answer, maybe with ends after it: `{type: error, text: …}`, `{error: …}`.

    Among records of other kinds, such as those of a log, an error is data.
    """
    parts = list(found)
    while len(parts) > 1 and _is_end(parts[-1]):
        parts.pop()
    if len(found) < 2:  # noqa: PLR2004 -- one object is a reply
        return None
    last, others = parts[-1], parts[:-1]
    has_end = len(parts) < len(found)
    kinds = {_kind(event) for event in others}
    is_part = bool(others) and (kinds == {""} or not kinds.isdisjoint(_KINDS_OF_PARTS))
    is_named = _kind(last) == "error" or (is_part and _ERROR_KIND.fullmatch(_kind(last)) is not None)
    if is_named and (has_end or is_part):
        text = next((last[key] for key in _TEXT_KEYS if last.get(key)), "")
        return {**last, "message": text} if isinstance(text, str) else {**last, "error": text}
    if is_error(last):
        return last
    if (run := _replaced(found) or failed_run(last) or named_exception(last)) is not None:
        return run
    for part in (last, found[-1]):
        is_record = any(_is_like_record(part, other) for other in others)
        if is_failed(part) and not is_record:
            return {"message": part.get("reason"), **part}
    return None


def _replaced(found: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The refusal of Dify's moderation, which puts a text of its own in place of the answer."""
    for event in found:
        if _kind(event) == "message_replace":
            return {"type": "moderation", "message": f"the answer was replaced by {event.get('answer')!r}"}
    return None


def _is_like_record(event: dict[str, Any], other: dict[str, Any]) -> bool:
    """True if two objects are records about two things: of the same keys, and with different names."""
    return event.keys() == other.keys() and any(
        event.get(key) != other.get(key) for key in ("id", "name", "title", "path", "instance")
    )


def _are_all_objects(events: Sequence[StreamEvent]) -> bool:
    return all(isinstance(event.value, dict) for event in events)


def _are_quoted(events: Sequence[StreamEvent]) -> bool:
    """True if there are events, and each is a JSON string."""
    return bool(events) and all(
        isinstance(event.value, str) and event.text.lstrip().startswith('"') for event in events
    )


def _join_texts(events: Sequence[StreamEvent]) -> Json:
    """All data as one text, parsed if it is JSON. JSON strings are joined without their quotes.

    Among pieces that are mostly no JSON, a piece in quotes is a part of the text.
    """
    strings = [event.text.lstrip().startswith('"') for event in events if isinstance(event.value, str)]
    keeps_quotes = sum(strings) * 2 < len(strings)
    text = join_text(
        [event.text if keeps_quotes or not isinstance(event.value, str) else event.value for event in events]
    )
    value = parse(text)
    if isinstance(value, str) and text.lstrip().startswith("{") and is_truncated_json(text):
        raise incomplete("the stream broke off: its JSON ends in the middle")
    return value


def _is_keep_alive(event: StreamEvent) -> bool:
    """True for an event that says nothing but that the connection is alive: `{type: ping}`."""
    value = event.value
    if not isinstance(value, dict) or not value.keys() <= _KEYS_OF_KEEP_ALIVES:
        return False
    return (_kind(value) or event.name.lower()) in _KEEP_ALIVES


def _are_of_adk(found: Sequence[Any]) -> bool:
    return any("author" in event and not _ADK_IDS.isdisjoint(event) for event in found)


def _without_partial(found: list[Any]) -> list[Any]:
    """The events of an ADK agent without partial ones: a whole event follows them. Others unchanged."""
    if not _are_of_adk(found):
        return found
    if found[-1].get("partial") is True:
        raise incomplete()
    return [event for event in found if event.get("partial") is not True]
