"""Classification of exceptions inside Lambda functions and workflows."""

import pytest

from service.agents.aws.exceptions import classify_exception
from service.domain.errors import (
    AgentCredentialsError,
    AgentRejectedError,
    AgentThrottledError,
    AgentTimeoutError,
    AgentUnavailableError,
)


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
