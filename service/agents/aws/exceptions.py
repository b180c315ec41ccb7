"""What an exception means that happened inside a function or a workflow, and that we know only by name.

The rules of `invoke: python`, for code that runs elsewhere: an exception of bad input rejects the row, and
everything else may pass.
"""

from __future__ import annotations

import re

from service.agents.wire.refusals import AgentError
from service.domain.errors import (
    AgentCredentialsError,
    AgentRejectedError,
    AgentThrottledError,
    AgentTimeoutError,
    AgentUnavailableError,
)

CAUSE_CHARS = 1_000
"""How much of a cause goes into the row's error text."""

_KINDS: tuple[
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


def failure(kind: str, cause: str, shown: str) -> AgentError:
    """The error for an exception of that name; `shown` says where it happened."""
    text = f"{shown}: {kind}: {cause[:CAUSE_CHARS]}".rstrip(": ")
    if _LAMBDA_TIMEOUT.search(cause):
        return AgentTimeoutError(text)
    if _REJECTED.match(kind):
        return AgentRejectedError(text)
    return next((error for pattern, error in _KINDS if pattern.match(kind)), AgentUnavailableError)(text)
