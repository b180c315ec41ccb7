"""The class of an objection: like the same error of a call, or a rejection of the row."""

from __future__ import annotations

from service.domain.errors import (
    AgentCredentialsError,
    AgentOutageError,
    AgentRejectedError,
    AgentThrottledError,
    AgentTimeoutError,
    AgentUnavailableError,
    FailureScope,
    ReplyRejectedError,
    RowfleetError,
)
from service.domain.model import Json
from service.domain.provider_errors import classify_error, error_summary, is_server_failure
from service.mapping.replies.objections.objection import Objection, in_words
from service.mapping.replies.text import str_or_empty

LOWEST_STATUS, HIGHEST_STATUS = 400, 599
"""Status codes of errors."""


def stated_error(facts: Json, reason: str, detail: str, key: str) -> Objection:
    """An error that is classified like the same error of a failed call."""
    return Objection(classify_error(facts, in_words(reason, detail)), key)


def is_about_the_target(facts: Json) -> bool:
    """True if the names of an error are known, and are about the target rather than the row."""
    error = classify_error(facts, "")
    return isinstance(error, AgentThrottledError | AgentOutageError) or _is_of_server(error)


def is_rejected_by_name(facts: Json) -> bool:
    """True if a name of an error is known, and says that the request is invalid."""
    return isinstance(classify_error(facts, ""), AgentRejectedError)


def _is_of_server(error: RowfleetError) -> bool:
    scopes = {FailureScope.UNCLEAR, FailureScope.OVERLOAD}
    return isinstance(error, AgentUnavailableError) and error.scope in scopes


def rejection(facts: Json, reason: str, detail: str, key: str) -> Objection:
    """A refusal, unless the facts name a throttle, wrong credentials or a failure of the server."""
    text = in_words(reason, detail)
    error: RowfleetError = classify_error(facts, text)
    passing = AgentThrottledError | AgentCredentialsError | AgentTimeoutError
    if isinstance(error, passing) or _is_of_server(error):
        return Objection(error, key)
    if is_server_failure(detail) and not isinstance(error, AgentRejectedError):
        return Objection(AgentUnavailableError(text, scope=FailureScope.UNCLEAR), key)
    return Objection(ReplyRejectedError(text), key)


def reason_in(value: Json) -> str:
    """The reason in the words of a document: the summary of its error, or the text itself."""
    if isinstance(value, str):
        return value
    if not isinstance(value, dict):
        return ""
    summary = error_summary(value)
    texts = (
        str_or_empty(value.get(key)) for key in ("reason", "result", "content", "text", "output", "status")
    )
    return summary or next((text for text in texts if text), "")


def error_status(value: Json) -> int:
    """A status code of at least 400, else 0."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value[:4])
    is_status = isinstance(value, int) and not isinstance(value, bool)
    return value if is_status and LOWEST_STATUS <= value <= HIGHEST_STATUS else 0
