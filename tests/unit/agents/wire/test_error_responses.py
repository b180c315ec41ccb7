"""Classification of error responses."""

import pytest

from service.agents.wire.error_responses import classify_response
from service.domain.errors import (
    AgentCredentialsError,
    AgentOutageError,
    AgentRejectedError,
    AgentThrottledError,
    AgentUnavailableError,
)

NOW = 1_760_000_000.0  # 2025-10-09T08:53:20Z


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
        (529, {"error": {"type": "overloaded_error"}}, AgentThrottledError),
        (503, "<html>", AgentUnavailableError),
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
    ("status", "header", "error"),
    [
        (409, "true", AgentUnavailableError),
        (409, "", AgentRejectedError),
        (400, "true", AgentUnavailableError),
        (408, "false", AgentRejectedError),
        (500, "false", AgentUnavailableError),
        (429, "false", AgentThrottledError),
    ],
)
def test_a_client_error_may_ask_for_another_attempt(status: int, header: str, error: type[Exception]) -> None:
    """By `x-should-retry` of OpenAI and Anthropic, for instance for a 409 of a lock."""
    found = classify_response(status, "said", {"X-Should-Retry": header}, None, now=NOW)
    assert type(found) is error


@pytest.mark.parametrize(
    ("status", "name", "error"),
    [
        (400, "ThrottlingException:http://internal.amazon.com/coral/", AgentThrottledError),
        (400, "ExpiredTokenException", AgentCredentialsError),
        (400, "ValidationException", AgentRejectedError),
    ],
)
def test_aws_names_an_error_in_a_header(status: int, name: str, error: type[Exception]) -> None:
    """The body has the message only."""
    found = classify_response(status, "x", {"x-amzn-ErrorType": name}, {"message": "Rate exceeded"}, now=NOW)
    assert type(found) is error


UNO = {"error": "The model 'Uno' not found"}
CHAT = {"model": "Uno", "messages": [{"role": "user", "content": "Hello"}]}


@pytest.mark.parametrize(
    ("body", "sent", "error"),
    [
        (UNO, {"make": "Fiat", "car": "uno "}, AgentRejectedError),
        (UNO, {"make": "Fiat", "model": "Uno"}, AgentRejectedError),
        ({"detail": 'Deployment "17" not found'}, {"order": {"ids": [16, 17]}}, AgentRejectedError),
        (UNO, CHAT, AgentOutageError),
        (UNO, CHAT | {"fallback": "Uno"}, AgentRejectedError),
        (UNO, {"text": "Uno is a car"}, AgentOutageError),
        (UNO, None, AgentOutageError),
        ({"error": {"code": "model_not_found", "message": "The model `gpt-9` does not exist"}}, {"a": 1},
         AgentOutageError),
    ],
)  # fmt: skip
def test_a_missing_model_that_the_row_names_is_the_rows(
    body: object, sent: object, error: type[Exception]
) -> None:
    """The name of the model that is called stands beside a prompt or messages."""
    found = classify_response(404, "said", {}, body, now=NOW, sent=sent)
    assert type(found) is error
