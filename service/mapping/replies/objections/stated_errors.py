"""Errors that a reply states: an error object, `success: false`, or nothing but a status and a message.

| the reply has | it is |
| --- | --- |
| `error` that says something; `__error__` of LangGraph; `object: error` | the error that it names |
| nothing but an error: `{code: 429, message}`, `{errors: […]}`, `{errorType, errorMessage}` | the same |
| one of these under `data`, `result` and the like, or as the only object of a list | the same |
| `success: false`, `ok: false` | a rejection with its reason |

Sources, besides those in `providers`: spec.graphql.org (Errors), rfc-editor.org (RFC 9457),
docs.dify.ai (workflows), docs.n8n.io (on error: continue), docs.langchain.com (LangGraph server, waiting for
a run). Replies without `error`: `bare_errors`.
"""

from __future__ import annotations

from decimal import Decimal

from service.domain.errors import AgentRejectedError, AgentUnavailableError, ReplyRejectedError
from service.domain.model import Json
from service.domain.provider_errors import classify_error, error_summary, says_something
from service.domain.stated.facts import GRPC_FINAL, GRPC_NAMES
from service.mapping.replies.objections.bare_errors import (
    ABOUT_AN_ERROR,
    ERROR_KEYS,
    FAILED_STATUS,
    find_bare_errors,
)
from service.mapping.replies.objections.classification import (
    HIGHEST_STATUS,
    LOWEST_STATUS,
    error_status,
    is_about_the_target,
    reason_in,
    rejection,
    stated_error,
)
from service.mapping.replies.objections.failed_calls import claude_code_errors, failed_work, find_failed_calls
from service.mapping.replies.objections.finish_reasons import is_finish_reason
from service.mapping.replies.objections.objection import Objection, Objections, entries, in_words, words
from service.mapping.replies.objections.read_places import is_beside_a_reply
from service.mapping.replies.text import json_text, str_or_empty

_NOTHING = frozenset(
    {"", "0", "null", "none", "nil", "false", "no", "ok", "success", "no error", "no errors", "n/a"}
)
"""Texts under `error` that say there is none."""

_OF_A_COMPLETION = words(
    "choices id object created model usage system_fingerprint service_tier provider prompt_filter_results"
    " prompt_logprobs kv_transfer_params time_info x_groq"
)
_OF_GEMINI = words("candidates usageMetadata modelVersion responseId createTime")
"""Keys of a model's reply that say nothing about the row, with the key of its answers."""

_WRAPPERS = ("data", "result", "output", "response", "Response")
"""Keys of a reply under which an agent puts its own document, and so an error of it."""

_ENVELOPE = ABOUT_AN_ERROR | words(
    "jsonrpc output response Response workflow_run_id task_id message_id conversation_id event created_at "
    "model usage"
)
"""Keys beside the document of an agent."""

_SUCCESS_KEYS = words("Success isSuccess IsSuccess is_success succeeded Succeeded isSuccessful is_successful")

_STATUSES_OF_MINIMAX = {
    **dict.fromkeys(("1002", "1039", "1041"), 429),
    **dict.fromkeys(("1004", "2049"), 401),
    **dict.fromkeys(("1026", "1027", "2013"), 400),  # sensitive input or output, invalid parameters
}
"""Codes of MiniMax: the status of HTTP that each is like."""

_OF_ETHERSCAN = words("status message result")
_WORDS_OF_A_NAME = 3
"""A longer text under `error` is a sentence; a list of mistakes that a text has names each of them."""

_EVENT_KEYS = words("type message content text code timestamp request_id requestId")
"""Keys of an event that is an error, which is the only one of its stream."""


def find_stated_errors(document: Json, said: str) -> Objections:
    """The errors that a document of a reply states, the most specific one first.

    The text that the agent `said` last is the reason, if the document gives no other.
    """
    if isinstance(document, list):
        for entry in entries(document):
            yield from claude_code_errors(entry)
            if entry.get("type") == "error" or entry.get("object") == "error":
                yield from _error_object(entry)
        yield from _error_in_list(document)
        # The last event of an ADK run.
        for event in entries(document)[-1:]:
            yield from _error_of_provider(event)
        return
    if not isinstance(document, dict):
        return
    response = document.get("response")
    if isinstance(response, dict) and str(document.get("type")).startswith("response."):
        yield from _error_object(response)
    yield from find_failed_calls(document)
    yield from _error_object(document)
    yield from _error_event(document)
    yield from _only_an_error(document)
    yield from _wrapped_error(document)
    yield from _no_choices(document)
    yield from _of_etherscan(document)
    yield from _says_no(document, said)


def _says_no(document: dict[str, Json], said: str) -> Objections:
    """`success: false` or `ok: false`, of the reply itself or of the document in its wrapper.

    Other spellings, such as .NET's `isSuccess`, count beside a reason only.
    """
    status = document.get("status")
    for key, value in [*document.items(), *(status.items() if isinstance(status, dict) else ())]:
        is_no = value is False or (isinstance(value, str) and value.strip().lower() == "false")
        if not is_no:
            continue
        reason = reason_in(document)
        if key in {"success", "ok"}:
            yield rejection(document, f"the reply says {key}: false", reason or said, key)
        elif reason and key in _SUCCESS_KEYS:
            yield rejection(document, f"the reply says {key}: false", reason, key)


def _no_choices(document: dict[str, Json]) -> Objections:
    """A model's reply that has neither choices nor candidates, and nothing else but its own bookkeeping."""
    kind = str(document.get("object"))
    is_completion = "usage" in document or kind.startswith(("chat.completion", "text_completion"))
    has_choices = not is_completion or "choices" not in document or document["choices"]
    if not has_choices and document.keys() <= _OF_A_COMPLETION:
        yield Objection(AgentUnavailableError("the model gave no answer: the reply has no choices"))
    elif "usageMetadata" in document and not document.get("candidates") and document.keys() <= _OF_GEMINI:
        yield Objection(AgentUnavailableError("the model gave no answer: the reply has no candidates"))


def _error_in_list(values: list[Json]) -> Objections:
    """The error that is the only object of a list, or the last one of Gemini's partial replies.

    A list of several errors is an answer: those that a text has.
    """
    last = values[-1] if values else None
    if len(values) == 1 and isinstance(last, dict):
        yield from failed_work(last)
        yield from _of_etherscan(last)
    if len(values) == 1 and isinstance(last, dict) and _is_failed_item(last):  # n8n
        yield from _error_object(last)
        return
    if not isinstance(last, dict) or "id" in last or not last.keys() <= ABOUT_AN_ERROR:
        return
    if len(values) > 1 and not all(
        isinstance(value, dict) and "candidates" in value for value in values[:-1]
    ):
        return
    error = last.get("error")
    if isinstance(error, dict):  # Gemini, n8n
        if not {"message", "code", "status"}.isdisjoint(error):
            yield from _error_object(last)
    elif isinstance(error, str):
        if "estimated_time" in last or is_about_the_target(last):  # Hugging Face
            yield from _error_object(last)
    else:
        yield from _only_an_error(last)


def _is_failed_item(item: dict[str, Json]) -> bool:
    """True for an item of n8n whose node failed and went on: its error is a sentence beside its data."""
    error = item.get("error")
    return isinstance(error, str) and len(error.split()) > _WORDS_OF_A_NAME and "id" not in item


def _error_event(document: dict[str, Json]) -> Objections:
    """The error of an event `{type: error, content: …}` that is the only one of its stream."""
    if document.get("type") == "error" and document.keys() <= _EVENT_KEYS:
        text = next((value for key in ("message", "content", "text") if (value := document.get(key))), "")
        if isinstance(text, str) and text:
            yield stated_error({"message": text, **document}, "the reply states an error", text, "type")


def _wrapped_error(document: dict[str, Json]) -> Objections:
    """The error inside a wrapper: alone, beside a failed status (Dify), or with a code and a message."""
    if not all(key in _ENVELOPE or is_beside_a_reply(key) for key in document):
        return
    for key in _WRAPPERS:
        inner = document.get(key)
        if isinstance(inner, list):
            yield from _error_in_list(inner)
        if not isinstance(inner, dict):
            continue
        error = inner.get("error")
        is_failed = str(inner.get("status")).casefold() in FAILED_STATUS
        is_alone = inner.keys() <= ABOUT_AN_ERROR
        if is_failed or is_alone or not isinstance(error, str) or is_about_the_target({"error": error}):
            yield from _error_object(inner)
        yield from _only_an_error(inner)
        yield from _of_etherscan(inner)
        yield from failed_work(inner)
        yield from _says_no(inner, "")


def _error_object(document: dict[str, Json]) -> Objections:
    for key in ("error", "__error__", "Error"):
        value = document.get(key)
        if key == "Error" and not {"Cause", "Message", "Code"} & (document.keys() | _keys(value)):
            continue  # not one of AWS
        code = value.get("code") if _is_of_operation(document) and isinstance(value, dict) else None
        if isinstance(code, int) and code in GRPC_FINAL:
            text = in_words("the operation failed", f"{GRPC_NAMES[code - 1]}: {error_summary(value)}")
            yield Objection(AgentRejectedError(text), key)
        elif _states_error(value, document):
            if _is_of_operation(document) and isinstance(value, dict):
                value = {"details": [], **value}  # by which codes of gRPC are known
            # The facts may stand beside a text, `{error: true, message}`, and a status beside an object.
            beside = {"error": value, **_stated_statuses(document)}
            if isinstance(value, dict) and not error_summary(value):  # Feishu: `{code, msg, error: {log_id}}`
                beside = {**document, **beside}
            stated = beside if isinstance(value, dict | list) else {"code": value, **document}
            says_no = any(document.get(flag) is False for flag in ("success", "ok"))
            is_refusal = says_no and isinstance(value, str)
            classify = rejection if is_refusal else stated_error
            detail = error_summary(value) if isinstance(value, dict | list) else ""
            yield classify(stated, "the reply states an error", detail or reason_in(document), key)
    if document.get("object") == "error":
        yield stated_error(document, "the reply states an error", error_summary(document), "object")
    yield from _error_of_provider(document)


def _is_of_operation(document: dict[str, Json]) -> bool:
    """True for a long-running operation of Google that has ended, whose errors have codes of gRPC."""
    return document.get("done") is True and isinstance(document.get("name"), str)


def _stated_statuses(document: dict[str, Json]) -> dict[str, Json]:
    """The status codes of an error that stand beside its object (Elasticsearch)."""
    keys = ("status", "statusCode", "status_code")
    return {key: document[key] for key in keys if error_status(document.get(key))}


def _error_of_provider(document: dict[str, Json]) -> Objections:
    """Errors under keys of a single provider, each with another key that it is known by."""
    for choice in entries(document.get("choices")):
        if says_something(choice.get("error")):  # OpenRouter
            yield stated_error(choice["error"], "the model failed", error_summary(choice["error"]), "choices")
    run = document.get("last_error")
    if isinstance(run, dict) and str(document.get("object")).startswith("thread"):  # OpenAI's Assistants
        yield stated_error(run, "the run failed", error_summary(run), "last_error")
    for key, text_key in (("errorCode", "errorMessage"), ("error_code", "error_message")):
        code = document.get(key)
        is_event = not {"author", "invocationId", "invocation_id"}.isdisjoint(document)  # ADK
        if is_event and says_something(code) and not is_finish_reason(code):
            facts: Json = {"code": code, "message": document.get(text_key)}
            yield stated_error(facts, "the reply states an error", error_summary(facts), key)
    base = document.get("base_resp")
    if isinstance(base, dict) and says_something(base.get("status_code")):  # MiniMax
        facts = {"code": base.get("status_code"), "message": base.get("status_msg")}
        status = _STATUSES_OF_MINIMAX.get(str(base["status_code"]), 0)
        text = in_words("the reply states an error", error_summary(facts))
        yield Objection(classify_error(facts, text, status=status), "base_resp")
    if isinstance(waits := document.get("__interrupt__"), list) and waits:  # LangGraph
        text = in_words("the graph waits for input", json_text(waits))
        yield Objection(ReplyRejectedError(text), "__interrupt__")
    for task in entries(document.get("tasks")):
        if "values" in document and says_something(task.get("error")):  # LangGraph
            yield stated_error(task["error"], "a task of the graph failed", json_text(task["error"]), "tasks")


def _of_etherscan(document: dict[str, Json]) -> Objections:
    """The error of `{status: "0", message: NOTOK, result: "Max rate limit reached"}`."""
    said = document.get("result")
    if document.keys() == _OF_ETHERSCAN and isinstance(said, str):
        message = str_or_empty(document["message"])
        if message.startswith("NOTOK"):  # `NOTOK-Missing/Invalid API Key` too
            text = f"{message}: {said}"
            yield rejection({"message": text}, "the reply says message", text, "message")


def _states_error(value: Json, document: dict[str, Json]) -> bool:
    """True if the value of a key `error` states an error."""
    if isinstance(value, str):
        return value.strip().strip(".").casefold() not in _NOTHING
    if isinstance(value, bool) or value is None:
        return value is True
    if isinstance(value, int | float | Decimal):
        # Such a number may be a result: the error of an estimate.
        if isinstance(value, int) and value and isinstance(document.get("message"), str):
            return document.keys() <= ABOUT_AN_ERROR | {"links"}  # Last.fm
        return value in range(LOWEST_STATUS, HIGHEST_STATUS + 1) and document.keys() <= ABOUT_AN_ERROR
    if isinstance(value, dict):
        is_alone = document.keys() <= ABOUT_AN_ERROR
        return _has_content(value) and (is_alone or not ERROR_KEYS.isdisjoint(value))
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
    """The error of a reply that has nothing else."""
    detail = document.get("detail")
    if isinstance(detail, dict) and len(document) == 1:  # FastAPI
        yield from _error_object(detail)
    yield from find_bare_errors(document)


def _keys(value: Json) -> frozenset[str]:
    return frozenset(value) if isinstance(value, dict) else frozenset()
