"""Failed calls that a reply reports: of a function, a tool, a task or a run.

| the reply has | it is |
| --- | --- |
| `statusCode` of at least 400 beside `body`; `FunctionError` beside `Payload` | an error with this status |
| `status` FAILED, TIMED_OUT or ABORTED beside `executionArn` | the error that it names |
| MCP's `isError`; Claude Code's `is_error` | a rejection, or a throttle or server error if its text is one |
| `status` error or failed beside a run's id and usage (Agno); its event `RunError` | the error in its text |
| `status` or `state` failed of a job, whose `result` is the text of its error (Celery) | the same |
| A2A's states failed, rejected, canceled, input-required and auth-required | the same |

Sources, besides those in `providers`: docs.aws.amazon.com/lambda (urls-invocation, API_Invoke),
code.claude.com (headless mode), docs.celeryq.dev (states).
"""

from __future__ import annotations

import re
from dataclasses import replace

from service.domain.errors import AgentRetryableError, AgentUnavailableError, ReplyRejectedError
from service.domain.model import Json
from service.domain.provider_errors import classify_error, error_summary, says_something
from service.mapping.replies.objections.classification import (
    error_status,
    reason_in,
    rejection,
    stated_error,
)
from service.mapping.replies.objections.objection import Objection, Objections, in_words, words
from service.mapping.replies.objections.read_places import snake_case
from service.mapping.replies.providers import a2a
from service.mapping.replies.text import content_text, decode_json_string, json_text, str_or_empty

_LAMBDA_KEYS = words(
    "statusCode statusDescription headers multiValueHeaders cookies isBase64Encoded body error message"
    " errorType errorMessage requestId statusMessage"
)
"""Keys of a function's response. With others, `statusCode` and `body` are those of a page that was read."""

_RESPONSE_KEYS = words(
    "status statusText data headers config request ok type redirected body bodyUsed error message"
)
"""Keys of a response of axios or fetch. With others, a status is that of what the reply is about."""

_FAILED_STATES = {
    "failed": "failed",
    "rejected": "was rejected",
    "canceled": "was canceled",
    "input-required": "asks for input",
    "auth-required": "asks for authentication",
}
_MARKS_OF_RUNS = words(
    "run_id runId agent_id agentId team_id workflow_id thread_id model usage token_usage metrics"
)
_FEWEST_MARKS = 2
"""Of these keys a run has several. One alone may be an id or a model of anything."""

_STATUSES_OF_FAILED_RUNS = words("error failed")
_STATUSES_OF_FAILED_JOBS = words(
    "failed failure error errored crashed revoked cancelled canceled aborted timed_out"
)
_JOB_KEY = re.compile(
    r"(?:\w+_)?(?:id|uuid|identifier|at|time|date|datetime|date_done|urls?|progress|status|state)|is_\w+|logs?"
    r"|name|type|kind|object|model|version|input|args|kwargs|metrics|usage|metadata|traceback|exc_info|error"
    r"|attempts?|retries|worker|queue|children|result|output|response|data|message"
)
"""Keys of a job. With any other key, a status may be that of what the reply is about."""

_JOB_ID = re.compile(r"(?:job|task|run|execution|prediction|workflow_run)_(?:id|uuid)")
_TEXTS_OF_RUNS = ("error", "content", "output", "response", "text", "message")
_AGNO_EVENTS = words("RunError TeamRunError WorkflowError")
_API_ERROR = re.compile(r"\bAPI Error:? \(?(?:Status )?([45][0-9]{2})\b", re.IGNORECASE)
"""Claude Code begins the text of an error of the API with its status."""

_USAGE_LIMIT = "usage limit reached"
"""Claude Code, when a subscription has used up its hours."""


def find_failed_calls(document: dict[str, Json]) -> Objections:
    """The failed calls that a document of a reply reports."""
    yield from _wrapper_status(document)
    yield from failed_work(document)


def failed_work(document: dict[str, Json]) -> Objections:
    """The failed run, tool or task that a document is; also one in a wrapper."""
    yield from claude_code_errors(document)
    yield from _tool_or_task(document)
    yield from _failed_runs(document)
    yield from _failed_jobs(document)
    answer = document.get("answer")
    if isinstance(answer, dict) and "answerText" in answer:  # Vertex AI Search
        reason = "the answer has state FAILED" if answer.get("state") == "FAILED" else ""
        if skipped := answer.get("answerSkippedReasons"):
            reason = f"the answer was skipped, {json_text(skipped)}"
        if reason:
            text = in_words(reason, str_or_empty(answer["answerText"]))
            yield Objection(ReplyRejectedError(text), "state", "answerSkippedReasons")


def _wrapper_status(document: dict[str, Json]) -> Objections:
    """The status of a response that a Lambda function returned, and the mark of a function that crashed."""
    if (
        document.keys() <= _LAMBDA_KEYS
        and "body" in document
        and (status := error_status(document.get("statusCode")))
    ):
        yield _with_status(document["body"], status, "statusCode")
    is_response = "statusText" in document and document.keys() <= _RESPONSE_KEYS
    if is_response and (status := error_status(document.get("status"))):
        yield replace(_with_status(document.get("data"), status, "status"), other_key="statusText")
    if "custom_id" in document and isinstance(result := document.get("result"), dict):  # Anthropic's batches
        kind = str_or_empty(result.get("type"))
        if kind in {"errored", "expired", "canceled"}:
            error = result.get("error")
            reason = f"the request of the batch has the result {kind}"
            yield stated_error(error or {"message": reason}, reason, error_summary(error), "result")
    response = document.get("response")
    if (
        isinstance(response, dict)
        and "custom_id" in document  # OpenAI's batches
        and (status := error_status(response.get("status_code")))
    ):
        yield _with_status(response.get("body"), status, "status_code")
    if "Payload" in document:
        if says_something(document.get("FunctionError")):
            yield stated_error(
                document["Payload"], "the function failed", reason_in(document["Payload"]), "FunctionError"
            )
        elif status := error_status(document.get("StatusCode")):
            yield _with_status(document["Payload"], status, "StatusCode")
    if "executionArn" in document and str_or_empty(document.get("status")) in {
        "FAILED",
        "TIMED_OUT",
        "ABORTED",
    }:
        facts: Json = {"error": document.get("error"), "message": document.get("cause")}
        yield stated_error(
            facts, f"the execution has status {document['status']}", error_summary(facts), "status"
        )


def _with_status(body: Json, status: int, key: str) -> Objection:
    body = decode_json_string(body)
    text = in_words(f"the reply has {key} {status}", reason_in(body))
    return Objection(classify_error(body, text, status=status), key)


def _tool_or_task(document: dict[str, Json]) -> Objections:
    if document.get("isError") is True and ("content" in document or "structuredContent" in document):
        text = content_text(document.get("content"))
        yield rejection({"message": text}, "the tool failed", text, "isError")
    task = document if isinstance(document.get("status"), dict) else document.get("task")
    state = a2a.task_state(task)
    if isinstance(task, dict) and state in _FAILED_STATES:
        status = task["status"]
        message = status.get("message") if isinstance(status, dict) else None
        parts = message.get("parts") if isinstance(message, dict) else message
        text = content_text(parts)
        reason = f"the task {_FAILED_STATES[state]}"
        if state == "failed":
            yield rejection({"message": text}, reason, text, "state")
        else:
            yield Objection(ReplyRejectedError(in_words(reason, text)), "state")


def _failed_runs(document: dict[str, Json]) -> Objections:
    """The error of a run whose status says that it failed; its text says what went wrong."""
    is_failed = (
        has_marks_of_run(document)
        and str_or_empty(document.get("status")).casefold() in _STATUSES_OF_FAILED_RUNS
    )
    if is_failed or str_or_empty(document.get("event")) in _AGNO_EVENTS:
        text = next(filter(None, (str_or_empty(document.get(key)) for key in _TEXTS_OF_RUNS)), "")
        error = document.get("error")  # an object in OpenAI's Responses
        facts: Json = error if isinstance(error, dict) and says_something(error) else {"message": text}
        key = "status" if is_failed else "event"
        yield stated_error(facts, "the run failed", error_summary(facts), key)


def has_marks_of_run(document: dict[str, Json]) -> bool:
    """True for a document with keys of a run of an agent: its ids, its model, its usage."""
    return len(_MARKS_OF_RUNS & document.keys()) >= _FEWEST_MARKS


def _failed_jobs(document: dict[str, Json]) -> Objections:
    """The failure of a job of a queue. The exception stands where its result would be.

    It is known by the id of a job, or by a status in capitals as machines write it.
    """
    text = next(
        filter(None, (str_or_empty(document.get(key)) for key in ("result", "output", "response"))), ""
    )
    for key in ("state", "status"):
        stated = document.get(key)
        if not text or not isinstance(stated, str) or stated.casefold() not in _STATUSES_OF_FAILED_JOBS:
            continue
        names = [snake_case(name) for name in document]
        is_marked = any(map(_JOB_ID.fullmatch, names)) or (
            stated.isupper() and (key == "state" or "id" in names)
        )
        if is_marked and all(map(_JOB_KEY.fullmatch, names)):
            yield rejection({"message": text}, f"the job has {key} {stated}", text, key)


def claude_code_errors(document: dict[str, Json]) -> Objections:
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
    status = int(match[1]) if match else error_status(document.get("api_error_status"))
    error = classify_error({"message": text}, in_words(reason, text), status=status)
    is_known = status > 0 or type(error) is not AgentUnavailableError
    is_retryable = is_known or subtype == "error_during_execution"
    rejected = ReplyRejectedError(in_words(reason, text))
    yield Objection(
        error if is_retryable and isinstance(error, AgentRetryableError) else rejected, "is_error"
    )
