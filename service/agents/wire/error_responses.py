"""Classification of error responses: by the status, and by the error that providers state in the body.

| response | error |
| --- | --- |
| 408, 425, 5xx | AgentUnavailableError: another attempt may succeed |
| 429 | AgentThrottledError, with the delay that the agent asks for |
| 401, 403, 407 | AgentCredentialsError |
| 402; OpenAI's `insufficient_quota`; Anthropic's credit balance | AgentOutageError: the account is unpaid |
| every other 4xx | AgentRejectedError: this input will never be accepted |

Sources: platform.openai.com/docs/guides/error-codes, docs.anthropic.com/en/api/errors.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from service.agents.wire.rate_headers import retry_after_from_headers
from service.domain.errors import (
    AgentCredentialsError,
    AgentOutageError,
    AgentRejectedError,
    AgentRetryableError,
    AgentThrottledError,
    AgentTimeoutError,
    AgentUnavailableError,
)
from service.domain.model import Json

AgentError = AgentRetryableError | AgentRejectedError

_RETRYABLE_4XX = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY})
_CREDENTIALS = frozenset(
    {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.PROXY_AUTHENTICATION_REQUIRED}
)
_BILLING = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_error"})
_CREDIT_TOO_LOW = "credit balance is too low"

_ERRORS_IN_STREAMS: Mapping[str, type[AgentRetryableError]] = {
    "rate_limit_error": AgentThrottledError,
    "rate_limit_exceeded": AgentThrottledError,
    "authentication_error": AgentCredentialsError,
    "permission_error": AgentCredentialsError,
    "billing_error": AgentOutageError,
    "insufficient_quota": AgentOutageError,
    "timeout_error": AgentTimeoutError,
    "overloaded_error": AgentUnavailableError,
    "api_error": AgentUnavailableError,
    "server_error": AgentUnavailableError,
}
"""Types and codes of errors inside a stream, whose status was 200."""


def classify_response(
    status: int, text: str, headers: Mapping[str, str], body: Json, *, now: float
) -> AgentError:
    """The error for a response with an error status. `text` becomes its text; `body` is the parsed body."""
    retry_after_s = retry_after_from_headers(headers, now=now)
    # Providers send an unpaid account with 400, 402 or 429, so this comes before the status.
    if status == HTTPStatus.PAYMENT_REQUIRED or _is_unpaid(body):
        return AgentOutageError(text, retry_after_s=retry_after_s)
    if status in _CREDENTIALS:
        return AgentCredentialsError(text, retry_after_s=retry_after_s)
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return AgentThrottledError(text, retry_after_s=retry_after_s)
    if status in _RETRYABLE_4XX or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return AgentUnavailableError(text, retry_after_s=retry_after_s)
    return AgentRejectedError(text)


def classify_error_object(error: Json, text: str) -> AgentError:
    """The error for an object `{type, code, message}` that a provider sends inside a stream of status 200."""
    for name in _names(error):
        if name in _ERRORS_IN_STREAMS:
            return _ERRORS_IN_STREAMS[name](text)
    # Anthropic states this as invalid_request_error, so it comes before that type.
    if _CREDIT_TOO_LOW in text:
        return AgentOutageError(text)
    if "invalid_request_error" in _names(error):
        return AgentRejectedError(text)
    return AgentUnavailableError(text)


def _is_unpaid(body: Json) -> bool:
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict):
        return False
    return bool(_BILLING & set(_names(error))) or _CREDIT_TOO_LOW in str(error.get("message", ""))


def _names(error: Json) -> tuple[str, ...]:
    """Code and type of an error object; () if it is no object."""
    return tuple(str(error.get(key) or "") for key in ("code", "type")) if isinstance(error, dict) else ()
