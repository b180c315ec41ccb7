"""Classification of exceptions inside a Lambda function or a workflow, by their name.

Of the message only one text is matched: Lambda's own time-out has no name.

The rules are those of `invoke: python`: an exception that means a bad input rejects the row, any other is
retried.
"""

from __future__ import annotations

import re

from service.domain.errors import (
    AgentCredentialsError,
    AgentRejectedError,
    AgentThrottledError,
    AgentTimeoutError,
    AgentUnavailableError,
)
from service.domain.provider_errors import AgentError

CAUSE_CHARS = 1_000
"""Characters of an exception's message that go into the row's error."""

_RETRYABLE: tuple[
    tuple[re.Pattern[str], type[AgentTimeoutError | AgentThrottledError | AgentUnavailableError]], ...
] = (
    (re.compile(r"(?:.*\.)?(?:TimeoutError|Timeout|Timedout|TimedOut)$"), AgentTimeoutError),
    (re.compile(r".*(?:TooManyRequests|Throttl|RateLimit).*"), AgentThrottledError),
    (re.compile(r"States\.Permissions$|.*AccessDenied.*"), AgentCredentialsError),
)
_REJECTED = re.compile(
    r"(?:.*\.)?(?:ValueError|ValidationError|IllegalArgumentException|RangeError|ResponseSizeTooLarge"
    r"|DataLimitExceeded|ParameterPathFailure|ResultPathMatchFailure|NoChoiceMatched|QueryEvaluationError"
    r"|IntrinsicFailure)$|States\.Runtime$"
)
_LAMBDA_TIMEOUT = re.compile(r"Task timed out after [0-9.]+ seconds")


def classify_exception(name: str, message: str, label: str) -> AgentError:
    """The error for an exception; `label` names the agent."""
    text = f"{label}: {name}: {message[:CAUSE_CHARS]}".rstrip(": ")
    # Lambda reports its own time-out without a name of its own, only by this message.
    if _LAMBDA_TIMEOUT.search(message):
        return AgentTimeoutError(text)
    if _REJECTED.match(name):
        return AgentRejectedError(text)
    for pattern, error in _RETRYABLE:
        if pattern.match(name):
            return error(text)
    return AgentUnavailableError(text)
