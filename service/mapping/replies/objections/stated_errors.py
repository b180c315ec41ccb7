"""Errors that a reply states: an error object, `success: false`, a status code, a failed task.

| the reply has | it is |
| --- | --- |
| `error` that says something; `__error__` of LangGraph; `object: error` | the error that it names |
| nothing but an error: `{code: 429, message}`, `{errors: […]}`, `{errorType, errorMessage}` | the same |
| `statusCode` of at least 400 beside `body`; `FunctionError` beside `Payload` | the same, by this status |
| `success: false`, `ok: false`; MCP's `isError`; Claude Code's `is_error` | a rejection with its reason |
| A2A's states failed, rejected, canceled, input-required and auth-required | the same |

Sources, besides those in `providers`: docs.aws.amazon.com/lambda (urls-invocation, API_Invoke),
spec.graphql.org (Errors), rfc-editor.org/rfc/rfc9457, github.com/omniti-labs/jsend,
code.claude.com (headless mode), docs.langchain.com (LangGraph server, waiting for a run).
"""

from __future__ import annotations

import re
from decimal import Decimal

from service.domain.errors import (
    AgentOutageError,
    AgentRetryableError,
    AgentThrottledError,
    AgentUnavailableError,
    FailureScope,
    ReplyRejectedError,
    RowfleetError,
)
from service.domain.model import Json
from service.domain.provider_errors import classify_error, error_summary, says_something
from service.mapping.replies.objections.finish_reasons import is_finish_reason
from service.mapping.replies.objections.objection import Objection, Objections, entries, in_words, words
from service.mapping.replies.providers import a2a
from service.mapping.replies.text import content_text, decode_json_string, json_text, str_or_empty

_NOTHING = frozenset(
    {"", "null", "none", "nil", "false", "no", "ok", "success", "no error", "no errors", "n/a"}
)
"""Texts under `error` that say there is none."""

_ERROR_KEYS = words(
    "code type status message detail details reason name kind msg error errors error_code error_type "
    "error_message errorCode errorType errorMessage error_description description title cause "
    "statusCode status_code __type metadata param innererror info text Code Message"
)
"""An object under `error` that has none of these keys is data, such as the margins of a measurement."""

_ABOUT_AN_ERROR = _ERROR_KEYS | words(
    "success ok data result timestamp path instance request_id requestId requestID trace_id traceId id "
    "object jsonapi meta extensions stackTrace stack_trace stack trace errorMsg error_msg log_id "
    "documentation_url help retry_after retryAfter ResponseMetadata version method"
)
"""Keys of a reply that is nothing but an error."""

_NAMES_OF_ERRORS = {
    "errorMessage": frozenset({"errorType", "stackTrace", "errorCode"}),  # Lambda
    "__type": frozenset({"__type"}),  # AWS
    "error_message": frozenset({"error_message"}),
    "error_code": frozenset({"error_msg", "error_message"}),  # Baidu
}
"""Keys of a reply that is nothing but an error, with others of which one stands beside them."""

_LAMBDA_KEYS = words(
    "statusCode statusDescription headers multiValueHeaders cookies isBase64Encoded body error message"
    " errorType errorMessage requestId"
)
"""Keys of a function's response. With others, `statusCode` and `body` are those of a page that was read."""

_FAILED_STATES = {
    "failed": "failed",
    "rejected": "was rejected",
    "canceled": "was canceled",
    "input-required": "asks for input",
    "auth-required": "asks for authentication",
}
_FAILED_STATUS = frozenset({"error", "failed", "failure", "fail"})
_API_ERROR = re.compile(r"\bAPI Error:? \(?(?:Status )?([45][0-9]{2})\b", re.IGNORECASE)
"""Claude Code begins the text of an error of the API with its status."""

_USAGE_LIMIT = "usage limit reached"
"""Claude Code, when a subscription has used up its hours."""

_LOWEST_STATUS, _HIGHEST_STATUS = 400, 599


def find_stated_errors(document: Json, said: str) -> Objections:
    """The errors that a document of a reply states, the most specific one first.

    The text that the agent `said` last is the reason, if the document gives no other.
    """
    if isinstance(document, list):
        for entry in entries(document):
            yield from _claude_code(entry)
            if entry.get("type") == "error" or entry.get("object") == "error":
                yield from _error_object(entry)
        # The last event of an ADK run.
        if (events := entries(document)) and "errorCode" in events[-1]:
            yield from _error_object(events[-1])
        return
    if not isinstance(document, dict):
        return
    response = document.get("response")
    if isinstance(response, dict) and str(document.get("type")).startswith("response."):
        yield from _error_object(response)
    yield from _wrapper_status(document)
    yield from _claude_code(document)
    yield from _error_object(document)
    yield from _only_an_error(document)
    yield from _tool_or_task(document)
    for key in ("success", "ok"):
        if document.get(key) is False:
            yield _soft(document, f"the reply says {key}: false", _reason(document) or said, key)


def _error_object(document: dict[str, Json]) -> Objections:
    for key in ("error", "__error__", "Error"):
        value = document.get(key)
        if key == "Error" and not {"Cause", "Message", "Code"} & (document.keys() | _keys(value)):
            continue  # not one of AWS
        if _states_error(value, document):
            # With a text, the facts may stand beside it: `{error: true, message}`.
            stated = value if isinstance(value, dict | list) else {"code": value, **document}
            is_refusal = document.get("success") is False and isinstance(value, str)
            classify = _soft if is_refusal else _hard
            detail = error_summary(value) if isinstance(value, dict | list) else ""
            yield classify(stated, "the reply states an error", detail or _reason(document), key)
    if document.get("object") == "error":
        yield _hard(document, "the reply states an error", error_summary(document), "object")
    yield from _error_of_provider(document)


def _error_of_provider(document: dict[str, Json]) -> Objections:
    """Errors under keys of a single provider, each with another key that it is known by."""
    for choice in entries(document.get("choices")):
        if says_something(choice.get("error")):  # OpenRouter
            yield _hard(choice["error"], "the model failed", error_summary(choice["error"]), "choices")
    run = document.get("last_error")
    if isinstance(run, dict) and str(document.get("object")).startswith("thread"):  # OpenAI's Assistants
        yield _hard(run, "the run failed", error_summary(run), "last_error")
    code = document.get("errorCode")
    if says_something(code) and not is_finish_reason(code) and {"author", "invocationId"} & document.keys():
        facts: Json = {"code": code, "message": document.get("errorMessage")}  # ADK
        yield _hard(facts, "the reply states an error", error_summary(facts), "errorCode")
    base = document.get("base_resp")
    if isinstance(base, dict) and says_something(base.get("status_code")):  # MiniMax
        facts = {"code": base.get("status_code"), "message": base.get("status_msg")}
        yield _hard(facts, "the reply states an error", error_summary(facts), "base_resp")
    if isinstance(waits := document.get("__interrupt__"), list) and waits:  # LangGraph
        text = in_words("the graph waits for input", json_text(waits))
        yield Objection(ReplyRejectedError(text), "__interrupt__")
    for task in entries(document.get("tasks")):
        if "values" in document and says_something(task.get("error")):  # LangGraph
            yield _hard(task["error"], "a task of the graph failed", json_text(task["error"]), "tasks")


def _states_error(value: Json, document: dict[str, Json]) -> bool:
    """True if the value of a key `error` states an error."""
    if isinstance(value, str):
        return value.strip().strip(".").casefold() not in _NOTHING
    if isinstance(value, bool) or value is None:
        return value is True
    if isinstance(value, int | float | Decimal):
        # Such a number may be a result: the error of an estimate.
        return value in range(_LOWEST_STATUS, _HIGHEST_STATUS + 1) and document.keys() <= _ABOUT_AN_ERROR
    if isinstance(value, dict):
        is_alone = document.keys() <= _ABOUT_AN_ERROR
        return _has_content(value) and (is_alone or not _ERROR_KEYS.isdisjoint(value))
    return bool(value) and any(_states_error(item, document) for item in value)


def _has_content(value: dict[str, Json]) -> bool:
    """True for an error object that says something; `{code: 0, message: ""}` says nothing."""
    return any(
        item not in (0, 200, "0", "200")
        and (not isinstance(item, str) or item.strip().casefold() not in _NOTHING)
        for item in value.values()
        if says_something(item)
    )


def _only_an_error(document: dict[str, Json]) -> Objections:
    """The error of a reply that has nothing else: `{errors: […]}`, `{code, message}`, `{errorMessage, …}`."""
    if not document.keys() <= _ABOUT_AN_ERROR or any(
        says_something(document.get(key)) for key in ("data", "result")
    ):
        return
    errors = entries(document.get("errors"))
    if errors and all(not {"message", "detail", "title", "code"}.isdisjoint(error) for error in errors):
        yield _hard(errors, "the reply states an error", error_summary(errors), "errors")
    yield from _only_a_status(document)
    for key, other_keys in _NAMES_OF_ERRORS.items():
        others = other_keys & document.keys()
        if says_something(document.get(key)) and others:
            facts: Json = {"code": document[key], "message": document[min(others)], **document}
            yield _hard(facts, "the reply states an error", error_summary(facts), key)


def _only_a_status(document: dict[str, Json]) -> Objections:
    """The error of a reply that is a status and its message."""
    key = next((key for key in ("statusCode", "status_code", "status", "code") if key in document), "")
    status = document.get(key)
    has_message = not {"message", "detail", "title", "msg"}.isdisjoint(document)
    if _error_status(status) and (has_message or key == "statusCode"):
        detail = error_summary(document) or f"{key} {status}"
        yield _hard(document, "the reply states an error", detail, key)
    elif key == "status" and status is False and has_message:
        yield _soft(document, "the reply says status: false", _reason(document), key)
    elif isinstance(status, str) and status.casefold() in _FAILED_STATUS and has_message:
        yield _soft(document, f"the reply says {key}: {status}", _reason(document), key)
    elif isinstance(status, str) and has_message and _is_known(document):
        yield _hard(document, "the reply states an error", error_summary(document), key)


def _wrapper_status(document: dict[str, Json]) -> Objections:
    """The status of a response that a Lambda function returned, and the mark of a function that crashed."""
    if (
        document.keys() <= _LAMBDA_KEYS
        and "body" in document
        and (status := _error_status(document.get("statusCode")))
    ):
        yield _with_status(document["body"], status, "statusCode")
    if "Payload" in document:
        if says_something(document.get("FunctionError")):
            yield _hard(
                document["Payload"], "the function failed", _reason(document["Payload"]), "FunctionError"
            )
        elif status := _error_status(document.get("StatusCode")):
            yield _with_status(document["Payload"], status, "StatusCode")
    if "executionArn" in document and document.get("status") in {"FAILED", "TIMED_OUT", "ABORTED"}:
        facts: Json = {"error": document.get("error"), "message": document.get("cause")}
        yield _hard(facts, f"the execution has status {document['status']}", error_summary(facts), "status")


def _with_status(body: Json, status: int, key: str) -> Objection:
    body = decode_json_string(body)
    text = in_words(f"the reply has {key} {status}", _reason(body))
    return Objection(classify_error(body, text, status=status), key)


def _tool_or_task(document: dict[str, Json]) -> Objections:
    if document.get("isError") is True and ("content" in document or "structuredContent" in document):
        text = content_text(document.get("content"))
        yield _soft({"message": text}, "the tool failed", text, "isError")
    task = document if isinstance(document.get("status"), dict) else document.get("task")
    state = a2a.task_state(task)
    if isinstance(task, dict) and state in _FAILED_STATES:
        status = task["status"]
        message = status.get("message") if isinstance(status, dict) else None
        parts = message.get("parts") if isinstance(message, dict) else message
        text = content_text(parts)
        reason = f"the task {_FAILED_STATES[state]}"
        if state == "failed":
            yield _soft({"message": text}, reason, text, "status")
        else:
            yield Objection(ReplyRejectedError(in_words(reason, text)), "status")


def _claude_code(document: dict[str, Json]) -> Objections:
    """The error in a result of Claude Code. A run that met a limit is an error, though older ones deny it."""
    if document.get("type") != "result" or "subtype" not in document:
        return
    subtype = str_or_empty(document["subtype"])
    if document.get("is_error") is not True and not subtype.startswith("error"):
        return
    text = str_or_empty(document.get("result")) or json_text(document.get("errors") or "")
    match = _API_ERROR.search(text)
    if _USAGE_LIMIT in text:
        text = f"rate limit: {text}"
    reason = "the run failed" if subtype in {"", "success"} else f"the run failed with {subtype}"
    error = classify_error({"message": text}, in_words(reason, text), status=int(match[1]) if match else 0)
    is_known = match is not None or type(error) is not AgentUnavailableError
    is_retryable = is_known or subtype == "error_during_execution"
    rejected = ReplyRejectedError(in_words(reason, text))
    yield Objection(
        error if is_retryable and isinstance(error, AgentRetryableError) else rejected, "is_error"
    )


def _hard(facts: Json, reason: str, detail: str, key: str) -> Objection:
    """An error that is classified like the same error of a failed call."""
    return Objection(classify_error(facts, in_words(reason, detail)), key)


def _is_known(facts: Json) -> bool:
    """True if the names of an error are known, and are about the target rather than the row."""
    error = classify_error(facts, "")
    return isinstance(error, AgentThrottledError | AgentOutageError) or _is_of_server(error)


def _is_of_server(error: RowfleetError) -> bool:
    return isinstance(error, AgentUnavailableError) and error.scope is FailureScope.UNCLEAR


def _soft(facts: Json, reason: str, detail: str, key: str) -> Objection:
    """A refusal, unless the facts name a throttle or a failure of the server."""
    text = in_words(reason, detail)
    error: RowfleetError = classify_error(facts, text)
    is_retryable = isinstance(error, AgentThrottledError) or _is_of_server(error)
    return Objection(error if is_retryable else ReplyRejectedError(text), key)


def _reason(value: Json) -> str:
    """The reason in the words of a document: the summary of its error, or the text itself."""
    if isinstance(value, str):
        return value
    if not isinstance(value, dict):
        return ""
    summary = error_summary(value)
    texts = (
        str_or_empty(value.get(key)) for key in ("reason", "result", "content", "text", "output", "status")
    )
    return summary or next((text for text in texts if text), "")


def _error_status(value: Json) -> int:
    """A status code of at least 400, else 0."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value[:4])
    is_status = isinstance(value, int) and not isinstance(value, bool)
    return value if is_status and _LOWEST_STATUS <= value <= _HIGHEST_STATUS else 0


def _keys(value: Json) -> frozenset[str]:
    return frozenset(value) if isinstance(value, dict) else frozenset()
