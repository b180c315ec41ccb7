"""Releases: the delay after which the message of a handler that has raised an error is redelivered."""

from __future__ import annotations

import structlog

from service.domain.errors import (
    AccessError,
    ConflictError,
    PoisonMessageError,
    RetryableError,
)
from service.domain.message_format import shown_body
from service.domain.ports import ReceivedMessage
from service.runtime.metrics import Metrics

log = structlog.get_logger(__name__)

CONFLICT_S = 4.0
"""Longest delay after a conflict: two writes have met, and that is over at once."""

MAX_REASON_CHARS = 1_000
"""A logged reason may quote its message, which may have a megabyte."""


class Releases:
    """The releases of one queue's messages: each is logged with its reason.

    A message is redelivered after `growth` to the power of its deliveries, and after `longest_s` at most,
    after a conflict `CONFLICT_S` at most; a poison message after `poison_delay_s`. All are seconds.
    """

    def __init__(
        self, queue_name: str, metrics: Metrics, *, growth: float, longest_s: float, poison_delay_s: float
    ) -> None:
        self._queue_name = queue_name
        self._metrics = metrics
        self._growth = growth
        self._longest_s = longest_s
        self._poison_delay_s = poison_delay_s

    def delay_s(self, error: BaseException, message: ReceivedMessage) -> float:
        """Log why a message is released; return the seconds until it may be redelivered."""
        # The exponent is bounded because `receives` may be large.
        delay_s = min(self._longest_s, self._growth ** min(message.receives, 10))
        known = {"queue": self._queue_name, "message_id": message.id, "receives": message.receives}
        if isinstance(error, PoisonMessageError):
            log.error(
                "message_poisoned", reason=str(error)[:MAX_REASON_CHARS], body=shown_body(message.body, 200),
                remedy="left to the dead-letter queue", **known,
            )  # fmt: skip
            self._metrics.count("messages_poisoned")
            return self._poison_delay_s
        if isinstance(error, RetryableError | AccessError):
            if isinstance(error, RetryableError) and error.retry_after_s is not None:
                delay_s = min(self._longest_s, error.retry_after_s)
            elif isinstance(error, ConflictError):
                delay_s = min(delay_s, CONFLICT_S)
            log.warning("message_given_back", reason=str(error), kind=error.kind, again_in_s=delay_s, **known)
            return delay_s
        # A bug must not end the process with all its other rows: the message is redelivered, to this or
        # another consumer, until it is a dead letter.
        log.error("handler_crashed", exc_info=error, **known)
        self._metrics.count("handler_crashes")
        return delay_s
