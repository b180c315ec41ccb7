"""Error responses: the delay that they state, and their classification."""

import pytest

from service.agents.aws.exceptions import classify_exception
from service.agents.wire.error_responses import classify_response
from service.agents.wire.rate_headers import retry_after_from_headers
from service.domain.errors import (
    AgentCredentialsError,
    AgentOutageError,
    AgentRejectedError,
    AgentThrottledError,
    AgentTimeoutError,
    AgentUnavailableError,
)

NOW = 1_760_000_000.0  # 2025-10-09T08:53:20Z


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after-ms": "1500", "Retry-After": "9"}, 1.5),
        ({"Retry-After": "9", "x-ratelimit-reset-requests": "1s"}, 9),
        ({"Retry-After": "Thu, 09 Oct 2025 08:53:50 GMT"}, 30),
        ({"x-ratelimit-reset-requests": "6m0s"}, 360),
        ({"x-ratelimit-reset-requests": "20ms", "X-RateLimit-Reset-Tokens": "1h2m3.5s"}, 3723.5),
        (
            {
                "x-ratelimit-reset-requests": "9s",
                "x-ratelimit-remaining-requests": "5",
                "x-ratelimit-reset-tokens": "2s",
                "x-ratelimit-remaining-tokens": "0",
            },
            2,
        ),
        ({"anthropic-ratelimit-requests-reset": "2025-10-09T08:53:25Z"}, 5),
        (
            {
                "anthropic-ratelimit-tokens-reset": "2025-10-09T08:54:20Z",
                "anthropic-ratelimit-tokens-remaining": "0",
                "anthropic-ratelimit-requests-reset": "2025-10-09T09:53:20Z",
                "anthropic-ratelimit-requests-remaining": "49",
            },
            60,
        ),
        ({"x-ratelimit-reset": "1760000012"}, 12),
        ({"ratelimit-reset": "12"}, 12),
        ({"anthropic-ratelimit-requests-reset": "2025-10-09T08:00:00Z"}, 0),
        ({"x-ratelimit-reset-requests": "9999d"}, 86_400),
        ({"x-ratelimit-reset-requests": "soon"}, None),
        ({"x-ratelimit-reset-requests": ""}, None),
        ({"x-ratelimit-limit-requests": "60"}, None),
        ({}, None),
    ],
)
def test_the_stated_delay(headers: dict[str, str], seconds: float | None) -> None:
    """Milliseconds, seconds, dates, durations and times. Resets count only for limits that are used up.

    https://platform.openai.com/docs/guides/rate-limits, https://docs.anthropic.com/en/api/rate-limits
    """
    assert retry_after_from_headers(headers, now=NOW) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (429, {"error": {"type": "insufficient_quota", "code": "insufficient_quota"}}, AgentOutageError),
        (429, {"error": {"type": "requests", "code": "rate_limit_exceeded"}}, AgentThrottledError),
        (
            400,
            {"error": {"type": "invalid_request_error", "message": "Your credit balance is too low to …"}},
            AgentOutageError,
        ),
        (400, {"error": {"type": "invalid_request_error", "message": "max_tokens"}}, AgentRejectedError),
        (402, None, AgentOutageError),
        (403, {"error": {"type": "permission_error"}}, AgentCredentialsError),
        (407, "text", AgentCredentialsError),
        (529, {"error": {"type": "overloaded_error"}}, AgentUnavailableError),
        (413, [], AgentRejectedError),
    ],
)
def test_classification_by_status_and_provider_error(
    status: int, body: object, error: type[Exception]
) -> None:
    """An account without credit is an outage and no throttle, for any status.

    https://platform.openai.com/docs/guides/error-codes, https://docs.anthropic.com/en/api/errors
    """
    assert type(classify_response(status, "said", {}, body, now=NOW)) is error


@pytest.mark.parametrize(
    ("kind", "cause", "error"),
    [
        ("ValueError", "no", AgentRejectedError),
        ("pydantic.ValidationError", "no", AgentRejectedError),
        ("Function.ResponseSizeTooLarge", "413", AgentRejectedError),
        ("States.DataLimitExceeded", "", AgentRejectedError),
        ("States.Runtime", "", AgentRejectedError),
        ("Runtime.ExitError", "signal: killed", AgentUnavailableError),
        ("RuntimeError", "boom", AgentUnavailableError),
        ("States.Timeout", "", AgentTimeoutError),
        ("Sandbox.Timedout", "x", AgentTimeoutError),
        ("FunctionError", "2025 abc Task timed out after 3.00 seconds", AgentTimeoutError),
        ("Lambda.TooManyRequestsException", "", AgentThrottledError),
        ("States.Permissions", "", AgentCredentialsError),
    ],
)
def test_classification_of_exceptions_by_name(kind: str, cause: str, error: type[Exception]) -> None:
    """The exceptions that reject the row of a Python function do so in Lambda and workflows."""
    found = classify_exception(kind, cause, "there")
    assert type(found) is error
    assert str(found).startswith(f"there: {kind}")
