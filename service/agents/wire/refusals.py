"""What a refusal over HTTP means: the class of a status, and what providers say in the body.

| answer | error |
| --- | --- |
| 408, 425, 5xx | AgentUnavailableError: it may pass |
| 429 | AgentThrottledError, with the wish to wait where one is stated |
| 401, 403, 407 | AgentCredentialsError |
| 402; OpenAI's `insufficient_quota`; Anthropic's credit balance | AgentOutageError: somebody has to pay |
| every other 4xx | AgentRejectedError: this input is refused for good |

Sources: platform.openai.com/docs/guides/error-codes, docs.anthropic.com/en/api/errors.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from service.agents.wire.rate_headers import wait_s
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

_PASSING = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY})
_CREDENTIALS = frozenset(
    {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.PROXY_AUTHENTICATION_REQUIRED}
)
_BILLING = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_error"})
_CREDIT = "credit balance is too low"

_KINDS: Mapping[str, type[AgentRetryableError]] = {
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
"""Types and codes of errors that come inside a stream whose status was 200."""


def refusal(status: int, text: str, headers: Mapping[str, str], body: Json, *, now: float) -> AgentError:
    """The error for an answer of `status`; `text` says it in words, `body` is what came, parsed."""
    wish = wait_s(headers, now=now)
    if status == HTTPStatus.PAYMENT_REQUIRED or _is_unpaid(body):
        return AgentOutageError(text, retry_after_s=wish)
    if status in _CREDENTIALS:
        return AgentCredentialsError(text, retry_after_s=wish)
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return AgentThrottledError(text, retry_after_s=wish)
    if status in _PASSING or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return AgentUnavailableError(text, retry_after_s=wish)
    return AgentRejectedError(text)


def stated(error: Json, text: str) -> AgentError:
    """The error for one that a provider states as JSON, `{type, code, message}`, where no status is left."""
    for name in _names(error):
        if name in _KINDS:
            return _KINDS[name](text)
    if _CREDIT in text:
        return AgentOutageError(text)
    return (
        AgentRejectedError(text) if "invalid_request_error" in _names(error) else AgentUnavailableError(text)
    )


def _is_unpaid(body: Json) -> bool:
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict):
        return False
    return bool(_BILLING & set(_names(error))) or _CREDIT in str(error.get("message", ""))


def _names(error: Json) -> tuple[str, ...]:
    return tuple(str(error.get(key) or "") for key in ("code", "type")) if isinstance(error, dict) else ()
