"""Last events of streams of text that say, in the words of any framework, that the text is not whole.

| the last event | such as |
| --- | --- |
| has a kind or a name that ends in `failed`, `aborted`, `timeout` and the like | `{type: abort, error: …}` |
| has a status or a state of these words, or `success: false`, and no text | `{content: "", state: error}` |
| has another code than the events before it, which have that of success | `{code: 500, msg: …, data: null}` |
| says that a guardrail intervened | `{guardrail: {action: INTERVENED}}` |

Only a stream of pieces of text is judged so: among records, such as those of a list of tasks, it is data.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any

from service.agents.wire.streams.events import DONE, StreamEvent
from service.agents.wire.streams.failures import VOCABULARY, named_exception
from service.domain.model import Json
from service.domain.provider_errors import says_something
from service.mapping.replies.objections.objection import words
from service.mapping.replies.text import str_or_empty

_WORDS_OF_FAILURE = words(
    "error failed failure fatal crashed abort aborted cancelled canceled timeout interrupted exception"
    " expired paused suspended"
)
_KINDS_OF_FAILURE = words(
    "tripwire content_filter content_filtered rate_limit rate_limited blocked moderation_blocked refusal"
    " refused policy_violation error_message error_event guardrail_triggered"
    " guardrail_intervened guardrail_blocked"
)
"""Whole kinds of events, beside those that end in a word of failure."""

_STATES_OF_FAILURE = _WORDS_OF_FAILURE | {"requires_action", "input_required", "blocked", "rejected"}
_ENDS = words("end done close complete stop finish finished completed")
_ACTIONS_OF_FAILURE = ("INTERVENED", "GUARDRAIL_INTERVENED", "block", "blocked", "BLOCK", "BLOCKED")
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
_KEYS_OF_KINDS = ("type", "event", "kind", "message_type", "event_type", "event_kind")
_KEYS_OF_STATES = ("status", "state", "finish_reason", "stop_reason", "finishReason")
_PIECE_KEYS = words(
    "content text token delta chunk answer response textresponse output document bytes value generated_text"
    " completion generation"
)
_KEYS_OF_EVENTS = _PIECE_KEYS | words(
    "type event kind message_type event_type event_kind status state reason error message detail msg time"
    " timestamp ts created_at finish_reason stop_reason index seq sequence sequence_number offset pct percent"
    " progress tokens elapsed duration created step round code"
)
"""Keys of events whose texts differ in one stream. By any other, such as a city, records are told apart."""

_FLAGS = words(
    "err exception failure failed fatal error errorMessage error_message errmsg is_error isError interrupted"
    " aborted cancelled canceled timed_out"
)
_PHRASES = frozenset(status.phrase.lower() for status in HTTPStatus if status >= HTTPStatus.BAD_REQUEST)
_KEYS_OF_ENDS = words("final is_final finished complete end usage role model uuid close failed")
_MAX_DEPTH, _MAX_KEYS = 6, 20
_REASON_KEYS = (
    *("message", "detail", "errorText", "msg", "reason", "error", "text", "content", "data", "err"),
    *("exception", "failure"),
)
_RUN_KEYS = ("run", "data", "last_error", "response", "payload")
_CODES_OF_SUCCESS = frozenset({0, 200})
_LATE = 3
"""After an event with a code of failure come at most two more: an end, a count of tokens."""


def broken_end(
    events: Sequence[StreamEvent], is_record: Callable[[dict[str, Any], dict[str, Any]], bool]
) -> dict[str, Any] | None:
    """The facts of the failure that the last event states, None if it states none.

    `is_record` tells if two objects are records about two things, by their ids and the like. Events that only
    mark an end are left out.
    """
    others = [event.value for event in events[:-1]]
    if not any(map(is_piece, others)):
        return None
    failed = _with_failed_code(events)
    last = events[-1]
    if failed is None and isinstance(last.value, dict):
        objects = [other for other in others if isinstance(other, dict)]
        # Messages of several kinds, of which the last is about an error.
        is_alike = _has_text(last.value) and any(one.keys() == last.value.keys() for one in objects)
        is_data = is_alike or any(
            is_record(last.value, one) or _is_record(last.value, one) for one in objects
        )
        failed = last.value if not is_data and _says_failure(last.name, last.value) else None
    return None if failed is None else _facts(failed, last.name)


def is_piece(value: Json, depth: int = 0) -> bool:
    """True for a piece of text, and for an object that has one, in whatever it puts it."""
    if isinstance(value, str):
        return bool(value) and depth == 0
    if isinstance(value, list):
        return any(is_piece(item, depth + 1) for item in value[:_MAX_DEPTH])
    if not isinstance(value, dict) or depth > _MAX_DEPTH:
        return False
    kind = str_or_empty(next((value[key] for key in _KEYS_OF_KINDS if key in value), ""))
    named = any(
        isinstance(text, str)
        and text
        # ERNIE's `result`; `{event: token, data: …}` of Flowise.
        and (_last_word(key) in _PIECE_KEYS or key == "result" or (key == "data" and kind in _PIECE_KEYS))
        for key, text in value.items()
    )
    # OpenAI's threads have `text: {value: …}`.
    return (
        named
        or _has_text(value)
        or any(is_piece(item, depth + 1) for item in list(value.values())[:_MAX_KEYS])
    )


def _has_text(event: dict[str, Any]) -> bool:
    return any(
        isinstance(text, str) and text and (key.lower() in _PIECE_KEYS or key.endswith("_delta"))
        for key, text in event.items()
    )


def _is_record(event: dict[str, Any], other: dict[str, Any]) -> bool:
    """True if two objects are records about two things: of the same keys, and with different names."""
    return event.keys() == other.keys() and any(
        key.lower() not in _KEYS_OF_EVENTS and _is_name(value) and value != other[key]
        for key, value in event.items()
    )


def _is_name(value: Json) -> bool:
    return bool(value) and isinstance(value, str | int) and not isinstance(value, bool) and value != DONE


def _last_word(text: Json) -> str:
    found = _WORD.findall(text) if isinstance(text, str) else []
    return found[-1].lower() if found else ""


def _says_failure(name: str, event: dict[str, Any]) -> bool:
    kinds = [name, *(event.get(key) for key in _KEYS_OF_KINDS)]
    if any(_last_word(kind) in _WORDS_OF_FAILURE for kind in kinds) or _nested_failure(event):
        return True
    if any(isinstance(kind, str) and kind.lower() in _KINDS_OF_FAILURE for kind in kinds):
        return True
    if event.get("action") in _ACTIONS_OF_FAILURE and not _has_text(event):
        return True
    return not _has_text(event) and (_is_flagged(event) or _is_a_phrase(event))


def _nested_failure(event: dict[str, Any]) -> Json:
    """The failure under a key of a single provider: Tencent's, or a guardrail of Bedrock's."""
    if isinstance(guardrail := event.get("guardrail"), dict) and guardrail.get("action") == "INTERVENED":
        return {"code": "content_filter", "message": "a guardrail intervened"}
    if exception := named_exception(event):
        return exception
    wrapped = event.get("Response")
    return wrapped.get("Error") if isinstance(wrapped, dict) else None


def _is_flagged(event: dict[str, Any]) -> bool:
    """True for a flag, a state or a finish reason of a failure, in an event that has no data of its own."""
    if not event.keys() <= VOCABULARY | _KEYS_OF_EVENTS | _KEYS_OF_ENDS | _FLAGS | {*_KEYS_OF_STATES}:
        return False
    if any(says_something(event.get(key)) for key in _FLAGS):
        return True
    states = {str(event.get(key)).lower() for key in _KEYS_OF_STATES}
    if any(_last_word(event.get(key)) in _ENDS for key in _KEYS_OF_KINDS):
        states.add(str(event.get("reason")).lower())
    return (
        event.get("success") is False or event.get("ok") is False or not _STATES_OF_FAILURE.isdisjoint(states)
    )


def _is_a_phrase(event: dict[str, Any]) -> bool:
    """True for nothing but the phrase of a status of HTTP: `{detail: Internal Server Error}`."""
    said = event.get("detail", event.get("message"))
    return len(event) == 1 and isinstance(said, str) and said.strip(" .!").lower() in _PHRASES


def _with_failed_code(events: Sequence[StreamEvent]) -> dict[str, Any] | None:
    """The first of the last events with a code of failure, after events of the same form with success."""
    found = [event.value for event in events if isinstance(event.value, dict) and _has_code(event.value)]
    if not any(event["code"] in _CODES_OF_SUCCESS for event in found):
        return None
    late = [event.value for event in events[-_LATE:] if isinstance(event.value, dict)]
    return next(
        (event for event in late if _has_code(event) and event["code"] not in _CODES_OF_SUCCESS), None
    )


def _has_code(event: dict[str, Any]) -> bool:
    code = event.get("code")
    is_code = isinstance(code, int) and not isinstance(code, bool)
    return is_code and "data" in event and not {"msg", "message"}.isdisjoint(event)


def _facts(event: dict[str, Any], name: str) -> dict[str, Any]:
    """The names and the reason of a failure, also from the run that the event holds."""
    run: dict[str, Any] = next((event[key] for key in _RUN_KEYS if isinstance(event.get(key), dict)), {})
    stated = event.get("error")
    error = stated if isinstance(stated, dict) else None
    error = error or run.get("error") or run.get("last_error") or event.get("last_error")
    if says_something(error):
        return {"error": error}
    if nested := _nested_failure(event):
        return {"error": nested}
    if not {"code", "message"}.isdisjoint(run):
        return {"error": run}
    reason = next((event[key] for key in _REASON_KEYS if isinstance(event.get(key), str) and event[key]), "")
    return {**event, "message": reason or name or "the last event says that it failed"}
