"""Replies that are an error and nothing else: a status or a code, and a message, without an `error`.

| the reply | it is of |
| --- | --- |
| `{code: 429, message}`, `{errors: […]}`, `{errorType, errorMessage}`, `{status: error, message}` | anybody |
| `{code: 8, message, details: []}`; `{code: not_found, message}` | gRPC behind grpc-gateway; Connect |
| `{status: error, message, correlationId, category}` | HubSpot |
| `{code: 4000, msg}` without data; `{code: -1003, msg}` alone | Coze, Binance: success has code 0 |
| `{kind: Status, status: Failure, message, code}` | Kubernetes |

Sources: rfc-editor.org (RFC 9457), grpc.io/docs/guides/status-codes, connectrpc.com/docs/protocol,
developers.hubspot.com (error handling), coze.com/docs (error codes), docs.databricks.com (API errors),
github.com/omniti-labs/jsend.
"""

from __future__ import annotations

import re

from service.domain.errors import AgentRejectedError
from service.domain.model import Json
from service.domain.provider_errors import error_summary, says_something
from service.domain.stated.facts import GRPC_NAMES
from service.mapping.replies.objections.classification import (
    error_status,
    is_about_the_target,
    is_rejected_by_name,
    reason_in,
    rejection,
    stated_error,
)
from service.mapping.replies.objections.objection import Objection, Objections, entries, in_words, words
from service.mapping.replies.text import json_text

ERROR_KEYS = words(
    "code type status message detail details reason name kind msg error errors error_code error_type "
    "error_message errorCode errorType errorMessage error_description description title cause "
    "statusCode status_code __type metadata param innererror info text Code Message"
)
"""An object under `error` that has none of these keys is data, such as the margins of a measurement."""

ABOUT_AN_ERROR = ERROR_KEYS | words(
    "success ok data result timestamp path instance request_id requestId requestID trace_id traceId id "
    "object jsonapi meta extensions stackTrace stack_trace stack trace errorMsg error_msg log_id "
    "documentation_url help retry_after retryAfter ResponseMetadata version method "
    "ErrorCode OriginalStatusCode OriginalMessage LogStreamArn errorDescription errorDetails n8nDetails "
    "estimated_time warnings fault config status_message RequestId HostId Recommend more_info cod"
)
"""Keys of a reply that is nothing but an error."""

_NAMES_OF_ERRORS = {
    "errorMessage": frozenset({"errorMessage"}),  # Lambda, n8n
    "__type": frozenset({"__type"}),  # AWS
    "error_message": frozenset({"error_message"}),
    "errorCode": frozenset({"message"}),
    "error_code": frozenset({"error_msg", "error_message", "message"}),  # Baidu, Databricks
    "ErrorCode": frozenset({"Message"}),  # SageMaker
    "Code": frozenset({"Message"}),  # Alibaba Cloud
}
"""Keys of a reply that is nothing but an error, with others of which one stands beside them."""

_OF_A_MODEL = words("choices output outputs candidates content usage predictions results routes rows")
"""Keys of a reply's own content. Without a value they are none of a reply that is nothing but an error."""

_OF_A_GATEWAY = frozenset(
    {
        *(
            "forbidden",
            "unauthorized",
            "not authenticated",
            "endpoint request timed out",
            "internal server error",
            "service unavailable",
            "bad gateway",
        ),
        *("too many requests", "limit exceeded", "gateway timeout", "missing authentication token"),
        *("network error communicating with endpoint", "rate exceeded", "rate limit exceeded"),
        *("the security token included in the request is expired", "upstream request timeout"),
        *("the security token included in the request is invalid", "api rate limit exceeded"),
    }
)
"""Messages of AWS's API Gateway and of Kong: alone in a reply they are no answer."""

_CODE = re.compile(
    r"\w*(?:Exception|Error)|Invalid[A-Z]\w+|[A-Z]+(?:_[A-Z]+)+|[a-z_]+_error|(?:invalid|unsupported)_[a-z_]+"
)
_STATUSES_BESIDE = ("status", "statusCode", "status_code")
"""Beside a list of errors (watsonx)."""

_CODES = ("statusCode", "status_code", "status", "code", "cod")
FAILED_STATUS = frozenset({"error", "failed", "failure", "fail"})


_CONNECT = frozenset(GRPC_NAMES) | {"canceled"}
_OF_HUBSPOT = words(
    "status message correlationId category subCategory links context errors requestId policyName errorType"
)
_LONGEST_STATUS = 20
_LOWEST_CODE = 4_000
_CODES_OF_SUCCESS = frozenset({10_000, 20_000})
_WORDS_OF_SUCCESS = frozenset(
    {"", "ok", "success", "succeeded", "successful", "成功", "操作成功", "请求成功"}
)


def find_bare_errors(document: dict[str, Json]) -> Objections:
    """The error of a reply that has nothing else: `{errors: […]}`, `{code, message}`, `{errorMessage, …}`."""
    yield from _of_a_provider(document)
    yield from _failed_envelope(document)
    document = {key: value for key, value in document.items() if value or key not in _OF_A_MODEL}
    if not document.keys() <= ABOUT_AN_ERROR:
        return
    if any(says_something(document.get(key)) for key in ("data", "result")):
        yield from _coded_envelope(document)
        return
    message = document.get("message", document.get("detail"))
    if isinstance(message, str) and document.keys() <= {"message", "detail", "requestId", "request_id"}:
        if message.strip().rstrip(".!").casefold() in _OF_A_GATEWAY:
            yield stated_error({"error": message}, "the reply states an error", message, "")
        return
    errors = entries(document.get("errors"))
    if errors and all(not {"message", "detail", "title", "code"}.isdisjoint(error) for error in errors):
        # GraphQL: without `data` the request itself was refused, at a place in it.
        is_of_request = "data" not in document and all("locations" in error for error in errors)
        is_refusal = is_of_request and not is_about_the_target(errors)
        classify = rejection if is_refusal else stated_error
        statuses = {key: document[key] for key in _STATUSES_BESIDE if error_status(document.get(key))}
        whole: Json = {"message": document.get("message"), "errors": errors, **statuses}
        yield classify(whole, "the reply states an error", error_summary(errors), "errors")
    invalid = entries(document.get("detail"))  # FastAPI
    if invalid and all({"loc", "msg"} <= entry.keys() for entry in invalid):
        text = in_words("the reply states an error", error_summary(invalid))
        yield Objection(AgentRejectedError(text), "detail")
    yield from _only_a_status(document)
    fault = document.get("fault")
    if isinstance(fault, dict) and says_something(fault.get("faultstring")):  # Apigee
        facts: Json = {"message": fault["faultstring"], "details": fault.get("detail")}
        yield stated_error(facts, "the reply states an error", error_summary(facts), "fault")
    for key, other_keys in _NAMES_OF_ERRORS.items():
        others = other_keys & document.keys()
        if says_something(document.get(key)) and others:
            facts = {"code": document[key], "message": document[min(others)], **document}
            yield stated_error(facts, "the reply states an error", error_summary(facts), key)


def _coded_envelope(document: dict[str, Json]) -> Objections:
    """The error of an envelope that has a status of an error and its message beside its data."""
    said = next(
        (text for key in ("message", "msg", "detail") if isinstance(text := document.get(key), str)), ""
    )
    key = next((key for key in _CODES if error_status(document.get(key))), "")
    if key and said.strip().casefold() not in _WORDS_OF_SUCCESS:
        yield stated_error(document, "the reply states an error", error_summary(document), key)


def _only_a_status(document: dict[str, Json]) -> Objections:
    """The error of a reply that is a status and its message."""
    key = next((key for key in _CODES if key in document), "")
    status = document.get(key)
    has_message = not {"message", "detail", "title", "msg"}.isdisjoint(document)
    if error_status(status) and (has_message or key == "statusCode"):
        detail = error_summary(document) or f"{key} {status}"
        yield stated_error(document, "the reply states an error", detail, key)
    elif key == "status" and status is False and has_message:
        yield rejection(document, "the reply says status: false", reason_in(document), key)
    elif isinstance(status, str) and status.casefold() in FAILED_STATUS and has_message:
        yield rejection(document, f"the reply says {key}: {status}", reason_in(document), key)
    elif _is_plain_status(key, status):
        # A status such as `unavailable` may be that of what the reply is about: its text decides.
        if has_message and is_about_the_target(dict(document, status=None)):
            yield stated_error(document, "the reply states an error", error_summary(document), key)
    elif (
        isinstance(status, str)
        and has_message
        and (is_about_the_target(document) or (key == "code" and _is_code(status, document)))
    ):
        yield stated_error(document, "the reply states an error", error_summary(document), key)


def _is_plain_status(key: str, status: Json) -> bool:
    return key == "status" and isinstance(status, str) and status.isalpha() and status.islower()


def _is_code(code: str, document: dict[str, Json]) -> bool:
    """True for the code of a request that was rejected, such as DashScope's `InvalidParameter`."""
    is_of_request = not {"request_id", "requestId", "RequestId"}.isdisjoint(document)
    return (is_of_request or _CODE.fullmatch(code) is not None) and is_rejected_by_name(document)


def _of_a_provider(document: dict[str, Json]) -> Objections:
    """The error of a reply in the form of a single protocol or provider."""
    code, text = document.get("code"), document.get("message")
    if isinstance(text, str) and document.keys() <= {"code", "message", "details"}:
        name = ""
        if (
            isinstance(code, int)
            and 1 <= code <= len(GRPC_NAMES)
            and isinstance(document.get("details"), list)
        ):
            name = GRPC_NAMES[code - 1]
        elif isinstance(code, str) and code in _CONNECT:
            name = code
        if name:
            yield stated_error(
                {"code": name, "message": text}, "the reply states an error", f"{name}: {text}", "code"
            )
    status = error_status(document.get("responseStatus"))
    if status and not {"responseData", "responseDetails"}.isdisjoint(document):  # MyMemory
        said = {"status": status, "message": document.get("responseDetails")}
        yield stated_error(
            said, f"the reply has responseStatus {status}", error_summary(said), "responseStatus"
        )
    if document.get("kind") == "Status" and document.get("status") == "Failure":  # Kubernetes
        yield stated_error(document, "the reply states an error", error_summary(document), "status")
    is_hubspots = document.keys() <= _OF_HUBSPOT and "correlationId" in document
    if is_hubspots and document.get("status") == "error" and isinstance(text, str):
        facts = {"code": document.get("category", document.get("errorType")), "message": text}
        yield stated_error(facts, "the reply states an error", error_summary(facts), "status")


def _status_object(document: dict[str, Json]) -> Objections:
    """The error of `{status: {code, message}, result: null}` (Naver, OpenCage, GeoNames)."""
    status = document.get("status")
    if not isinstance(status, dict) or not isinstance(said := status.get("message"), str):
        return
    is_alone = not any(value for key, value in document.items() if key != "status")
    if is_alone and status.keys() <= ERROR_KEYS | {"value"} and said.casefold() not in _WORDS_OF_SUCCESS:
        yield rejection(status, "the reply has nothing but a status", error_summary(status), "status")


def _failed_envelope(document: dict[str, Json]) -> Objections:
    """The error of an envelope whose status, result or code is that of a failure."""
    if document.keys() == {"status", "data"} and document["status"] == "fail":  # JSend
        yield rejection(document, "the reply says status: fail", json_text(document["data"]), "status")
    result = str(document.get("result"))[:_LONGEST_STATUS].casefold()
    if result in FAILED_STATUS and document.keys() <= ABOUT_AN_ERROR:
        reason = reason_in({key: value for key, value in document.items() if key != "result"})
        if reason:
            yield rejection(document, f"the reply says result: {result}", reason, "result")
    if isinstance(said := document.get("Error"), str) and document.keys() == {"Response", "Error"}:  # OMDb
        yield rejection({"message": said}, "the reply says Response: False", said, "Error")
    yield from _status_object(document)
    code = document.get("code")
    # An envelope without data, or nothing but a code and its words.
    said = document.get("msg", document.get("message") if "data" in document else None)
    has_data = any(says_something(document.get(key)) for key in ("data", "result"))
    if isinstance(code, int) and isinstance(said, str) and not has_data:
        is_success = code in _CODES_OF_SUCCESS or said.strip().casefold() in _WORDS_OF_SUCCESS
        is_alone = document.keys() <= {"code", "msg", "data"}
        if (code >= _LOWEST_CODE or (code < 0 and is_alone)) and not is_success:
            facts: Json = {"code": str(code), "message": said}
            yield rejection(facts, f"the reply says code: {code}", said, "code")
