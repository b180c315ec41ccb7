"""Failures of a stream: the error that it states, or its end before it was complete.

The end of a stream of text may say in the words of any framework that the text is not whole (`broken_end`):

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

from service.agents.wire.streams.events import StreamEvent
from service.domain.errors import AgentUnavailableError, FailureScope
from service.domain.model import Json
from service.domain.provider_errors import AgentError, classify_error, error_summary, says_something

Event = dict[str, Any]

_ERROR_NAMES = ("error", "exception")
"""Ends of the names of events that state an error; Bedrock's are `throttlingException` and so on."""

_ERROR_KINDS = frozenset({"error", "exception", "stream_error", "run_error"})
_KIND_KEYS = ("type", "event", "object", "kind", "status", "event_type")
_VOCABULARY = frozenset(
    {
        *("error", "error_type", "errorType", "error_code", "errorCode", "errorMessage", "error_message"),
        *("errorText", "code", "type", "kind", "status", "object", "status_code", "statusCode", "message"),
        *("detail", "details", "description", "reason", "event", "name", "param", "path", "instance"),
        *("title", "description"),
        *("traceback", "trace", "stack", "stackTrace", "cause", "timestamp", "time", "id", "request_id"),
        *("requestId", "trace_id", "traceId", "run_id", "runId", "session_id", "sessionId", "thread_id"),
        *("threadId", "metadata", "retryable", "retry_after", "success", "ok", "done", "data", "result"),
        *("response", "output", "content", "text", "__type", "internal"),
    }
)
"""Keys of an object that is an error and nothing else; its values of `result` and the like must be empty."""

FAILED_NAMES = frozenset(
    {
        *("failed", "failure", "fatal", "run_failed", "run.failed", "stream_failed", "workflow_failed"),
        *("agent_failed", "task_failed", "aborted", "cancelled", "canceled", "interrupted", "crashed"),
    }
)
"""Names of events after which nothing comes: the run has failed."""

_ENDS_OF_RUNS = ("finished", "completed", "failed", "ended", "_end")
_STATUSES_OF_ERRORS = range(400, 600)
_RESULT_KEYS = ("data", "result", "response", "output", "content", "text")
_MESSAGE_KEYS = ("message", "detail", "errorMessage", "error_message", "errorText", "error")

_WORDS_OF_FAILURE = frozenset(
    {
        *("error", "failed", "failure", "fatal", "crashed", "abort", "aborted", "cancelled", "canceled"),
        *("timeout", "interrupted", "exception", "expired"),
    }
)
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
_KEYS_OF_KINDS = ("type", "event", "kind", "message_type", "event_type", "event_kind")
_KEYS_OF_STATES = ("status", "state", "finish_reason", "stop_reason", "finishReason")
_PIECE_KEYS = frozenset(
    {
        *("content", "text", "token", "delta", "chunk", "answer", "response", "textresponse", "output"),
        *("document", "bytes", "value", "generated_text", "completion"),
    }
)
_KEYS_OF_EVENTS = _PIECE_KEYS | {
    *(
        "type",
        "event",
        "kind",
        "message_type",
        "event_type",
        "event_kind",
        "status",
        "state",
        "reason",
        "error",
    ),
    *("message", "detail", "msg", "time", "timestamp", "ts", "created_at", "finish_reason", "stop_reason"),
    *(
        "index",
        "seq",
        "sequence",
        "sequence_number",
        "offset",
        "pct",
        "percent",
        "progress",
        "tokens",
        "elapsed",
    ),
    *("duration", "created", "step", "round", "code"),
}
"""Keys of events whose texts differ in one stream. By any other, such as a city, records are told apart."""

_FLAGS = (
    "err",
    "exception",
    "failure",
    "failed",
    "fatal",
    "error",
    "errorMessage",
    "error_message",
    "errmsg",
)
_PHRASES = frozenset(status.phrase.lower() for status in HTTPStatus if status >= HTTPStatus.BAD_REQUEST)
_KEYS_OF_ENDS = frozenset(
    {"final", "is_final", "finished", "complete", "end", "usage", "role", "model", "uuid", "close", "failed"}
)
_MAX_DEPTH, _MAX_KEYS = 6, 20
_REASON_KEYS = (
    *("message", "detail", "errorText", "msg", "reason", "error", "text", "content", "data", "err"),
    *("exception", "failure"),
)
_RUN_KEYS = ("run", "data", "last_error", "response", "payload")
_CODES_OF_SUCCESS = frozenset({0, 200})
_LATE = 3
"""After an event with a code of failure come at most two more: an end, a count of tokens."""


def stream_error(error: Json) -> AgentError:
    """The failure of a stream that states an error."""
    summary = error_summary(error)
    failure = classify_error(error, f"the stream ended with an error: {summary}" if summary else _NO_REASON)
    failure.stated_in = [error]
    return failure


_ERROR_MARK = "[ERROR]"
"""Beginning of a text in place of `[DONE]`."""

_NO_REASON = "the stream ended with an error, and gave no reason"


def incomplete(reason: str = "the stream broke off before its last event") -> AgentUnavailableError:
    """The failure of a stream that ended too early."""
    # A connection that ends is a sign of an outage as a reset is.
    return AgentUnavailableError(reason, scope=FailureScope.UNCLEAR)


def check_events(events: Sequence[StreamEvent]) -> None:
    """Raise the error of an event whose name says that it is one."""
    for event in events:
        if event.name.lower().endswith(_ERROR_NAMES):
            value = event.value
            stated = value if isinstance(value, dict) else {"message": event.text}
            name = {} if event.name.lower() in _ERROR_NAMES else {"type": event.name}
            raise stream_error({**name, **stated})
    texts = [event.text.lstrip() for event in events if not isinstance(event.value, dict)]
    if texts and texts[-1].startswith(_ERROR_MARK) and not any(text.startswith("[") for text in texts[:-1]):
        raise stream_error({"message": texts[-1].removeprefix(_ERROR_MARK).strip()})


def is_failed(event: Event) -> bool:
    """True if an object is nothing but the status of a failure: `{type: failed, …}`, `{status: 500, …}`.

    Or `{success: false, …}`.
    """
    if not event.keys() <= _VOCABULARY or any(says_something(event.get(key)) for key in _RESULT_KEYS):
        return False
    kinds = (event.get(key) for key in ("type", "event", "kind", "status"))
    codes = (event.get(key) for key in ("status_code", "statusCode", "status", "code"))
    is_named = any(str(kind).lower() in FAILED_NAMES for kind in kinds)
    has_status = any(isinstance(code, int) and code in _STATUSES_OF_ERRORS for code in codes)
    has_reason = any(says_something(event.get(key)) for key in (*_MESSAGE_KEYS, "reason"))
    says_no = event.get("success") is False or event.get("ok") is False
    return (is_named or has_status or says_no) and has_reason


def failed_run(event: Event) -> Event | None:
    """The error of the failed run in an event: `{event: workflow_finished, data: {status, error}}`."""
    run = event.get("data")
    kind = next((str(event[key]).lower() for key in ("event", "type") if key in event), "")
    if not isinstance(run, dict) or not kind.endswith(_ENDS_OF_RUNS) or run.get("outputs"):
        return None
    error = run.get("error")
    is_failed_run = str(run.get("status")).lower() in FAILED_NAMES | {"error"} and says_something(error)
    return {"error": error} if is_failed_run else None


def named_exception(event: Event) -> Event | None:
    """The error of an event that has nothing but an exception: of Bedrock's agents, of SageMaker."""
    for key, value in event.items():
        if len(event) == 1 and key.endswith("Exception") and isinstance(value, dict):
            return {"code": key, **value} if isinstance(value.get("message"), str) else None
    return None


def is_error(event: Event) -> bool:
    """True if an object is an error and nothing else."""
    if any(str(event.get(key, "")).lower() in _ERROR_KINDS for key in _KIND_KEYS):
        return any(says_something(event.get(key)) for key in (*_MESSAGE_KEYS, "code", "data"))
    if not event.keys() <= _VOCABULARY or any(says_something(event.get(key)) for key in _RESULT_KEYS):
        return False
    has_code = isinstance(event.get("errorMessage"), str) or isinstance(event.get("__type"), str)
    has_code = has_code or (
        isinstance(event.get("error_code"), str) and isinstance(event.get("message"), str)
    )
    return has_code or says_something(event.get("error"))


def check_chunk(event: Event) -> None:
    """Raise the error in a chunk of a provider's stream. An `error` that is null or empty says nothing."""
    if says_something(event.get("error")) or event.get("object") == "error" or event.get("type") == "error":
        raise stream_error(event)


def broken_end(
    events: Sequence[StreamEvent], is_record: Callable[[dict[str, Any], dict[str, Any]], bool]
) -> dict[str, Any] | None:
    """The facts of the failure that the last event states, None if it states none.

    `is_record` tells if two objects are records about two things, by their ids and the like. Events that only
    mark an end are left out.
    """
    others = [event.value for event in events[:-1]]
    if not any(map(_is_piece, others)):
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


def _is_piece(value: Json, depth: int = 0) -> bool:
    """True for a piece of text, and for an object that has one, in whatever it puts it."""
    if isinstance(value, str):
        return bool(value) and depth == 0
    if isinstance(value, list):
        return any(_is_piece(item, depth + 1) for item in value[:_MAX_DEPTH])
    if not isinstance(value, dict) or depth > _MAX_DEPTH:
        return False
    named = any(
        _last_word(key) in _PIECE_KEYS and isinstance(text, str) and text for key, text in value.items()
    )
    # OpenAI's threads have `text: {value: …}`.
    return (
        named
        or _has_text(value)
        or any(_is_piece(item, depth + 1) for item in list(value.values())[:_MAX_KEYS])
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
    return bool(value) and isinstance(value, str | int) and not isinstance(value, bool)


def _last_word(text: Json) -> str:
    words = _WORD.findall(text) if isinstance(text, str) else []
    return words[-1].lower() if words else ""


def _says_failure(name: str, event: dict[str, Any]) -> bool:
    kinds = [name, *(event.get(key) for key in _KEYS_OF_KINDS)]
    if any(_last_word(kind) in _WORDS_OF_FAILURE for kind in kinds) or _nested_failure(event):
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
    if not event.keys() <= _VOCABULARY | _KEYS_OF_EVENTS | _KEYS_OF_ENDS | {*_FLAGS, *_KEYS_OF_STATES}:
        return False
    if any(says_something(event.get(key)) for key in _FLAGS):
        return True
    words = {str(event.get(key)).lower() for key in _KEYS_OF_STATES}
    return (
        event.get("success") is False or event.get("ok") is False or not _WORDS_OF_FAILURE.isdisjoint(words)
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
    reason = next((event[key] for key in _REASON_KEYS if isinstance(event.get(key), str) and event[key]), "")
    return {**event, "message": reason or name or "the last event says that it failed"}
