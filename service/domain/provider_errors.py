"""Errors that providers state as JSON: their class, by their names, their text and their status code.

The same error comes with different statuses, or inside a reply or stream of status 200, so its names decide
first. `classify_error` applies the first rule that fits:

| the error states | error |
| --- | --- |
| an unpaid account, no credit | AgentOutageError |
| a rate limit, an overload, no capacity | AgentThrottledError |
| a missing model or deployment | AgentOutageError, unclear until a second row meets it |
| wrong credentials, no permission | AgentCredentialsError |
| a malformed tool call or JSON of the model itself, a failed dependency, a conflict, a time-out | retryable |
| a status code, its own or that of the response | as for that status of HTTP |
| an invalid request, a refused content | AgentRejectedError |

Sources: platform.openai.com/docs/guides/error-codes, docs.anthropic.com/en/api/errors,
cloud.google.com/apis/design/errors, console.groq.com/docs/errors, openrouter.ai/docs/api/errors,
docs.aws.amazon.com/bedrock/latest/APIReference/CommonErrors.html.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus

from service.domain.errors import (
    AgentCredentialsError,
    AgentOutageError,
    AgentRejectedError,
    AgentRetryableError,
    AgentThrottledError,
    AgentTimeoutError,
    AgentUnavailableError,
    FailureScope,
)
from service.domain.model import Json
from service.domain.stated_pauses import pause_in_text_s, stated_pause_s

AgentError = AgentRetryableError | AgentRejectedError

_MAX_TEXT_CHARS = 4_000
"""Characters of a message that are searched."""

_LOWEST_ERROR_STATUS, _HIGHEST_STATUS = 400, 599
_NO_STATUS = 0
_SERVER_ERRORS = 500
_FLEX_CAPACITY = 498
"""Groq: the flex tier has no capacity."""

_OVERLOADED = 529
"""Anthropic."""

_JSON_RPC_INVALID = frozenset({-32600, -32601, -32602})
"""JSON-RPC (A2A, MCP): invalid request, no such method, invalid parameters."""

_NAME_KEYS = (
    "code", "type", "status", "error_code", "error_type", "errorCode", "errorType", "__type", "reason",
    "name", "kind", "Code",
)  # fmt: skip
_TEXT_KEYS = (
    "message", "detail", "error_description", "errorMessage", "error_message", "errorText", "msg", "Message",
    "description", "title", "cause",
)  # fmt: skip
_NESTED_KEYS = ("error", "errors", "metadata", "details", "innererror", "exception", "fault")
_STATUS_KEYS = ("code", "status", "status_code", "statusCode", "http_status", "error_code", "errorCode")
_NOTHING = frozenset({"", "null", "none", "nil", "false", "no", "no error", "no errors", "n/a"})
_MAX_NESTED = 20
"""Most objects of an error that are looked at."""

_BILLING = re.compile(
    r"insufficient_(quota|credits?)|billing_(error|hard_limit_reached|not_active|not_enabled|disabled)"
    r"|payment_required|out_of_credits?|exceeded_current_quota\w*|account_(deactivated|suspended)|arrearage"
)
_BILLING_TEXT = re.compile(r"credit balance is too low|insufficient credits", re.IGNORECASE)
_THROTTLE = re.compile(
    r"\w*rate_?limit\w*|too_many_requests\w*|\w*thrott\w*|resource_?exhausted|request_limit_exceeded|slow_?down"
    r"|limit_exceeded_exception|over_?limit|\w*overloaded\w*|unavailable|\w*capacity\w*|model_not_ready\w*"
    r"|service_quota_exceeded\w*|concurrency_limit\w*|max_concurren\w*"
)
_THROTTLE_TEXT = re.compile(
    r"overloaded|over capacity|at capacity|(insufficient|no|not enough|exceeded) capacity|capacity exceeded"
    r"|high demand|too many (concurrent )?requests|rate.?limit|throttl|try again later due to load",
    re.IGNORECASE,
)
_TOO_LARGE_TEXT = re.compile(r"\blimit:? ([0-9]{1,12}),? requested:? ([0-9]{1,12})", re.IGNORECASE)
"""A request that alone exceeds a limit (OpenAI, Groq): no pause lets it pass."""

_CREDENTIALS = re.compile(
    r"authentication\w*|unauthenticated|(invalid|incorrect|missing|expired)_(api_key|authentication|token)\w*"
    r"|api_key_(invalid|expired|service_blocked)|permission_?(denied|error)\w*|access_?denied\w*|unauthorized\w*"
    r"|forbidden|expired_token\w*|unrecognized_client\w*|invalid_signature\w*|token_expired|service_disabled"
)
_CREDENTIALS_TEXT = re.compile(
    r"api.?key (is )?(not valid|invalid|expired|missing|not found)|(invalid|incorrect|missing) api.?key",
    re.IGNORECASE,
)
_TOKEN_TEXT = re.compile(r"\btoken\b", re.IGNORECASE)
_NO_MODEL = re.compile(
    r"(model|deployment|engine)_?(not_?found\w*|not_available|decommissioned|does_not_exist|not_exist)"
    r"|invalid_model|unknown_model|resource_not_found_exception"
)
_NO_MODEL_TEXT = re.compile(
    r"\b(models?|deployments?|engine)\b.{0,160}?"
    r"(not found|(does|do)( not|n't) exist|not exist\b|decommissioned|is not deployed"
    r"|no longer (available|supported))"
    r"|not a valid model|model identifier is invalid|invocation of model id"
    r"|no endpoints found|^models?[:/] ?[\w.:/-]+$|user location is not supported",
    re.IGNORECASE | re.DOTALL,
)
_RETRYABLE = re.compile(
    r"tool_use_failed|json_validate_failed|output_parse_failed|model_error\w*|failed_generation|aborted|cancelled"
    r"|runtime_client_error|lock_timeout|failed_dependency|unknown_error|stream_error"
)
_SERVER_ERROR = re.compile(
    r"api_error|\w*server_error\w*|internal\w*|bad_gateway|service_exception|backend_error|connection_error"
    r"|upstream_error|service_unavailable\w*"
)
_TIMEOUT = re.compile(r"\w*time_?(d_)?out\w*|deadline_?exceeded")
_REJECTED = re.compile(
    r"invalid_(request|argument|prompt|value|parameter|input)\w*|\w*validation_?(error|exception|failed)"
    r"|content_filter\w*|content_policy\w*|\w*moderation\w*|context_length_exceeded|string_above_max_length"
    r"|unprocessable\w*|bad_request\w*|not_found\w*|out_of_range|failed_precondition|request_too_large"
    r"|unsupported\w*|value_error|image_\w+_error"
)
_CONTENT = re.compile(r"content_(filter|policy)\w*|\w*moderation\w*|prompt_blocked|safety\w*|harm\w*")
_CONTENT_TEXT = re.compile(r"\bflagged\b|requires moderation", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Facts:
    """An error as the rules see it: names in snake case, text, and the status code that it states or 0."""

    names: tuple[str, ...]
    text: str
    status: int
    retry_after_s: float | None

    def has_name(self, pattern: re.Pattern[str]) -> bool:
        return any(pattern.fullmatch(name) for name in self.names)


def classify_error(
    error: Json, text: str, *, status: int = _NO_STATUS, retry_after_s: float | None = None
) -> AgentError:
    """The error for the JSON of an error: the whole body, or the error object in it. `text` becomes its text.

    `status` is that of the response, 0 for an error inside a reply or stream of status 200.
    """
    facts = _facts(error, status)
    pause_s = facts.retry_after_s if retry_after_s is None else retry_after_s
    kind, scope = _judge(facts)
    if issubclass(kind, AgentRejectedError):
        return kind(text)
    return kind(text, retry_after_s=pause_s, scope=scope)


def says_something(value: Json) -> bool:
    """True for a value of a key `error` that states an error; null, false, "", {} and "none" state none."""
    return value.strip().lower() not in _NOTHING if isinstance(value, str) else bool(value)


def error_summary(error: Json) -> str:
    """Names and message of an error in one line, such as `overloaded_error: Overloaded`; "" without any."""
    names: list[str] = []
    message = ""
    for part in _objects(error):
        for key in _NAME_KEYS:
            value = part.get(key)
            if isinstance(value, str | int) and not isinstance(value, bool) and str(value) not in names:
                names.append(str(value))
        message = message or next((part[key] for key in _TEXT_KEYS if isinstance(part.get(key), str)), "")
        stated = part.get("error")
        if isinstance(stated, str) and stated not in names:
            names.insert(0, stated)
    if isinstance(error, str):
        message = error
    named = " ".join([name for name in names[:3] if name not in {message, "error"}])
    return " ".join(": ".join([part for part in (named, message) if part]).split())


def _judge(facts: _Facts) -> tuple[type[AgentError], FailureScope | None]:
    """The class of an error, and its scope if that is not the class's own."""
    status = facts.status
    # Providers send an unpaid account with 400, 402, 403 or 429, so this comes before the status.
    if status == HTTPStatus.PAYMENT_REQUIRED or facts.has_name(_BILLING) or _BILLING_TEXT.search(facts.text):
        return AgentOutageError, None
    if _is_refusal_of_content(facts):
        return AgentRejectedError, None
    if _is_about_credentials(facts):
        return AgentCredentialsError, None
    if _is_throttle(facts):
        # A request that is larger than the limit would be throttled for ever.
        return AgentThrottledError, FailureScope.ROW if _is_too_large(facts.text) else None
    if _is_missing_model(facts):
        return AgentOutageError, FailureScope.UNCLEAR
    return _judge_status(facts)


def _judge_status(facts: _Facts) -> tuple[type[AgentError], FailureScope | None]:
    """The class by the status code, or by the names of an error that states none."""
    status = facts.status
    if status == _NO_STATUS and facts.has_name(_TIMEOUT):
        return AgentTimeoutError, None
    if status in _CREDENTIALS_STATUS:
        return AgentCredentialsError, None
    if status >= _SERVER_ERRORS or (status == _NO_STATUS and facts.has_name(_SERVER_ERROR)):
        # By RFC 9110 a 503 is about load, but a row that crashes the server may get it as well.
        is_load = status == HTTPStatus.SERVICE_UNAVAILABLE
        return AgentUnavailableError, FailureScope.OVERLOAD if is_load else FailureScope.UNCLEAR
    if status == _NO_STATUS and facts.has_name(_REJECTED) and not facts.has_name(_RETRYABLE):
        return AgentRejectedError, None
    if status == _NO_STATUS or status in _RETRYABLE_STATUS or facts.has_name(_RETRYABLE):
        return AgentUnavailableError, None
    return AgentRejectedError, None


_CREDENTIALS_STATUS = frozenset(
    {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.PROXY_AUTHENTICATION_REQUIRED}
)
_RETRYABLE_STATUS = frozenset(
    {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.FAILED_DEPENDENCY, 499}
)
"""499: the server takes the connection for closed by the client (nginx; Google's CANCELLED)."""

_DECISIVE = frozenset(
    {HTTPStatus.PAYMENT_REQUIRED, HTTPStatus.TOO_MANY_REQUESTS, _FLEX_CAPACITY, _OVERLOADED}
)
"""Status codes that count if the body states them, whatever the response's status is."""


def _is_refusal_of_content(facts: _Facts) -> bool:
    """True if a 403, or an error of no status, is about what the row asks (OpenRouter, Azure)."""
    if facts.status == HTTPStatus.FORBIDDEN and _CONTENT_TEXT.search(facts.text):
        return True
    return facts.status in {_NO_STATUS, HTTPStatus.FORBIDDEN} and facts.has_name(_CONTENT)


def _is_about_credentials(facts: _Facts) -> bool:
    if facts.status == _FLEX_CAPACITY:
        # ArcGIS and others mean an invalid token by this status.
        return _TOKEN_TEXT.search(facts.text) is not None
    if _CREDENTIALS_TEXT.search(facts.text):
        return True
    return facts.status < _SERVER_ERRORS and facts.has_name(_CREDENTIALS)


def _is_throttle(facts: _Facts) -> bool:
    if facts.status in {HTTPStatus.TOO_MANY_REQUESTS, _FLEX_CAPACITY, _OVERLOADED} or facts.has_name(
        _THROTTLE
    ):
        return True
    # A 4xx may quote the row's own words, so its text does not count.
    is_about_load = (
        facts.status in {_NO_STATUS, HTTPStatus.FAILED_DEPENDENCY} or facts.status >= _SERVER_ERRORS
    )
    return is_about_load and _THROTTLE_TEXT.search(facts.text) is not None


def _is_missing_model(facts: _Facts) -> bool:
    if facts.status not in {_NO_STATUS, HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND, HTTPStatus.GONE}:
        return False
    return facts.has_name(_NO_MODEL) or _NO_MODEL_TEXT.search(facts.text) is not None


def _is_too_large(text: str) -> bool:
    match = _TOO_LARGE_TEXT.search(text)
    return match is not None and int(match[2]) > int(match[1])


def _facts(error: Json, status: int) -> _Facts:
    names: dict[str, None] = {}
    texts: list[str] = [error] if isinstance(error, str) else []
    stated, pause_s = _NO_STATUS, None
    for part in _objects(error):
        for key in (*_NAME_KEYS, "error"):
            if isinstance(value := part.get(key), str):
                names[_snake_case(value)] = None
        texts += [part[key] for key in (*_TEXT_KEYS, "error") if isinstance(part.get(key), str)]
        if isinstance(code := part.get("code"), int) and code in _JSON_RPC_INVALID:
            names["invalid_request"] = None
        stated = stated or next(
            (code for key in _STATUS_KEYS if (code := _status(part.get(key)))), _NO_STATUS
        )
        pause_s = stated_pause_s(part) if pause_s is None else pause_s
    text = " ".join(texts)[:_MAX_TEXT_CHARS]
    if pause_s is None:
        pause_s = pause_in_text_s(text)
    # A gateway may pass an upstream's error on under a status of its own.
    status = stated if status == _NO_STATUS or stated in _DECISIVE else status
    return _Facts(tuple(names), text, status, pause_s)


def _objects(error: Json) -> Iterator[dict[str, Json]]:
    """The objects of an error from the outside in: the error itself, and those it holds under known keys."""
    waiting: list[Json] = [error]
    for _ in range(_MAX_NESTED):
        if not waiting:
            return
        part = waiting.pop(0)
        if isinstance(part, list):
            waiting += part[:_MAX_NESTED]
        elif isinstance(part, dict):
            yield part
            waiting += [part[key] for key in _NESTED_KEYS if isinstance(part.get(key), dict | list)]


def _snake_case(name: str) -> str:
    """A name in snake case, without the service before `#`: `a#ThrottlingException`, `UNAVAILABLE`."""
    name = name.rpartition("#")[2].partition(":")[0].strip()[:80]
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
    return re.sub(r"[^a-z0-9]+", "_", snake.lower()).strip("_")


def _status(value: Json) -> int:
    """A value as an error status of HTTP, else 0."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) == 3:  # noqa: PLR2004
        value = int(value)
    if (
        isinstance(value, int)
        and not isinstance(value, bool)
        and _LOWEST_ERROR_STATUS <= value <= _HIGHEST_STATUS
    ):
        return value
    return _NO_STATUS
