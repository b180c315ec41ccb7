"""Failures of a stream: the error that it states, or its end before it was complete."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from service.agents.wire.streams.events import StreamEvent, kind_of
from service.domain.errors import AgentUnavailableError, FailureScope
from service.domain.model import Json
from service.domain.provider_errors import AgentError, classify_error, error_summary, says_something

Event = dict[str, Any]

_ERROR_NAMES = ("error", "exception")
"""Ends of the names of events that state an error; Bedrock's are `throttlingException` and so on."""

_ERROR_KINDS = frozenset({"error", "exception", "stream_error", "run_error"})
_KIND_KEYS = ("type", "event", "object", "kind", "status", "event_type")
VOCABULARY = frozenset(
    {
        *("error", "error_type", "errorType", "error_code", "errorCode", "errorMessage", "error_message"),
        *("errorText", "code", "type", "kind", "status", "object", "status_code", "statusCode", "message"),
        *("detail", "details", "description", "reason", "event", "name", "param", "path", "instance"),
        *("title", "description"),
        *("traceback", "trace", "stack", "stackTrace", "cause", "timestamp", "time", "id", "request_id"),
        *("requestId", "trace_id", "traceId", "run_id", "runId", "session_id", "sessionId", "thread_id"),
        *("threadId", "metadata", "retryable", "retry_after", "success", "ok", "done", "data", "result"),
        *("response", "output", "content", "text", "__type", "internal", "error_msg", "errmsg", "errors"),
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
    if not event.keys() <= VOCABULARY or any(says_something(event.get(key)) for key in _RESULT_KEYS):
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
    if not event.keys() <= VOCABULARY or any(says_something(event.get(key)) for key in _RESULT_KEYS):
        return False
    has_code = isinstance(event.get("errorMessage"), str) or isinstance(event.get("__type"), str)
    said = any(isinstance(event.get(key), str) for key in ("message", "error_msg", "error_message"))
    has_code = has_code or (said and says_something(event.get("error_code")))
    errors = event.get("errors")
    has_errors = isinstance(errors, list) and any(
        isinstance(error, dict) and not {"message", "code"}.isdisjoint(error) for error in errors
    )
    return has_code or has_errors or says_something(event.get("error"))


def check_chunk(event: Event) -> None:
    """Raise the error in a chunk of a provider's stream. An `error` that is null or empty says nothing."""
    if says_something(event.get("error")) or "error" in (kind_of(event), kind_of(event, "object")):
        raise stream_error(event)
