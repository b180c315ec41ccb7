"""Classification of error responses: by the error that the body states, and by the status.

| response | error |
| --- | --- |
| 408, 424, 425, 499; 409 with `x-should-retry: true` | AgentUnavailableError: another attempt may succeed |
| 5xx | AgentUnavailableError; it costs no attempt while no row is served |
| 429, 498, 529; an overload, no capacity | AgentThrottledError, with the delay that the agent asks for |
| 401, 403, 407; an invalid key | AgentCredentialsError |
| 402; an unpaid account; no such model or deployment | AgentOutageError |
| every other 4xx | AgentRejectedError: this input will never be accepted |

The rules for bodies are those of `service.domain.provider_errors`.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from service.agents.wire.rate_headers import retry_after_from_headers
from service.domain.errors import AgentRejectedError, AgentUnavailableError
from service.domain.model import Json
from service.domain.provider_errors import AgentError, classify_error

SHOULD_RETRY = "x-should-retry"
"""Header of OpenAI and Anthropic, which their own clients obey."""

ERROR_TYPE = "x-amzn-errortype"
"""Header of AWS: the name of the exception, and after a colon where it is documented."""


def classify_response(
    status: int, text: str, headers: Mapping[str, str], body: Json, *, now: float
) -> AgentError:
    """The error for a response with an error status. `text` becomes its text; `body` is the parsed body."""
    retry_after_s = retry_after_from_headers(headers, now=now)
    by_name = {name.lower(): value.strip() for name, value in headers.items()}
    if name := by_name.get(ERROR_TYPE):
        body = {"__type": name.partition(":")[0], "error": body}
    error = classify_error(body, text, status=status, retry_after_s=retry_after_s)
    should_retry = by_name.get(SHOULD_RETRY, "").lower()
    if should_retry == "true" and isinstance(error, AgentRejectedError):
        return AgentUnavailableError(text, retry_after_s=retry_after_s)
    # Of a 5xx or a throttle the header says that the client itself should give up, but the row has time.
    is_plain = type(error) is AgentUnavailableError and status < HTTPStatus.INTERNAL_SERVER_ERROR
    return AgentRejectedError(text) if should_retry == "false" and is_plain else error
