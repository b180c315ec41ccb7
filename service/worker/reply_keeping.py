"""Keeping of replies: what of a reply and of its error may be stored and logged. Pure."""

from __future__ import annotations

import re

from service.batch.replies.pack import kept_text
from service.domain.errors import (
    AgentCredentialsError,
    AgentOutageError,
    AgentRejectedError,
    AgentRetryableError,
    AgentThrottledError,
    AgentTimeoutError,
    AgentUnavailableError,
    ExtractionError,
    ReplyPendingError,
    ReplyRejectedError,
    ReplyTruncatedError,
    RowRejectedError,
    UnfitValueError,
)
from service.domain.ports import Reply
from service.domain.redaction import redacted
from service.mapping import RowMapping

CallError = AgentRetryableError | RowRejectedError

_STATUS = re.compile(r"\bHTTP [1-5]\d\d\b")

_IN_OUR_WORDS: tuple[tuple[type[Exception], str], ...] = (
    (ReplyRejectedError, "the reply says no, or a reject_if of the mapping matches it"),
    (ReplyTruncatedError, "the reply is cut off by a limit"),
    (UnfitValueError, "a value in the reply does not fit the schema"),
    (ExtractionError, "the reply lacks what the mapping requires"),
    (ReplyPendingError, "the reply says that the agent is not done"),
    (AgentTimeoutError, "the agent did not answer in time"),
    (AgentThrottledError, "the agent asks for fewer requests, or is overloaded"),
    (AgentCredentialsError, "the agent refuses the credentials or the permission"),
    (AgentOutageError, "the agent serves no row now"),
    (AgentUnavailableError, "the agent could not be reached, or failed"),
    (AgentRejectedError, "the agent refuses the input"),
)
"""Errors in words that quote nothing, the narrower classes first."""


def kept_reply(reply: Reply | None, mapping: RowMapping, *, is_failed: bool) -> str:
    """The JSON text of a reply as it is kept, "" if it is not.

    The events of a stream that states an error are no reply: none is kept for them.
    """
    keep = mapping.keep_replies
    if reply is None or keep == "none" or (keep == "failed" and not is_failed):
        return ""
    return kept_text(redacted(reply.body, reply.masks))


def told_error(error: CallError, reply: Reply | None, mapping: RowMapping) -> CallError:
    """The error of a call as it may be stored and logged: masked.

    If no reply is kept, its text quotes nothing of what the agent said. Its class stays, and the HTTP status.
    """
    if mapping.keep_replies == "none":
        text = next((words for kind, words in _IN_OUR_WORDS if isinstance(error, kind)), error.kind)
        status = _STATUS.search(str(error))
        told = error.reworded(f"{text}{f' ({status[0]})' if status else ''} (keep_replies: none)")
        told.stated_in = None
        return told
    if reply is not None and reply.masks:
        return error.reworded(str(redacted(str(error), reply.masks)))
    return error
