"""A row that an agent is invoked for, and the ways in which an invocation can end without an outcome."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from service.batch.outcomes import LastAttempt
from service.domain.deadlines import Deadline, deadline_of
from service.domain.errors import AgentRetryableError
from service.domain.messages import RowMessage
from service.domain.model import Batch, Json
from service.worker.targets import OpenTarget


@dataclass(slots=True)
class RowTask:
    """A row that an agent is invoked for, with the input `body`.

    `message` is the one to send if the row is requeued; attempts replace it. `row_with_cells` is the message
    as received, with the cells if they had to be read from the source. `uncounted` is the number of failed
    calls by this process that did not count as attempts.
    """

    message: RowMessage
    row_with_cells: RowMessage
    batch: Batch
    target: OpenTarget
    body: Json
    uncounted: int = field(default=0, init=False)

    @property
    def id(self) -> str:
        """The idempotency key of the row: equal for all its attempts, so that an agent sees a repetition."""
        round_ = 1 if self.batch.same_id else self.message.round
        return f"{self.batch.identity}/{round_}/{self.message.number}"

    @property
    def span_bytes(self) -> int:
        """Bytes that were read from the source for the row; 0 if its message carries the cells."""
        return self.message.span.length if self.message.span else 0

    def begin(self, now_ms: int) -> None:
        """Start the row's deadline and its retry budget, unless an earlier attempt has started them."""
        message, row_s = self.message, self.target.mapping.execution.row_deadline_s
        deadline_ms = message.deadline_ms
        if deadline_ms is None and row_s is not None:
            deadline_ms = now_ms + round(row_s * 1000)
        if message.first_attempt_ms is None or deadline_ms != message.deadline_ms:
            # one copy for both: copying a message takes longer than most steps of a row
            first_ms = now_ms if message.first_attempt_ms is None else message.first_attempt_ms
            self.message = replace(message, first_attempt_ms=first_ms, deadline_ms=deadline_ms)

    def deadline(self) -> Deadline:
        """The earlier of the batch's deadline and the row's own."""
        return deadline_of(self.batch, self.message.deadline_ms)

    def budget_left_s(self, now_ms: int) -> float:
        """Seconds in which another attempt may begin; infinite before the first one."""
        if self.message.first_attempt_ms is None:
            return math.inf
        return self.target.mapping.execution.retry.budget_s - (now_ms - self.message.first_attempt_ms) / 1000


@dataclass(frozen=True, slots=True)
class Requeue:
    """The row is tried again in `delay_s` seconds, by the worker that receives `message`."""

    message: RowMessage
    delay_s: int


@dataclass(frozen=True, slots=True)
class RetryHere:
    """The row is tried again in `wait_s` seconds, by this worker."""

    wait_s: float


@dataclass(frozen=True, slots=True)
class FailedCall:
    """A failed call that may be repeated. `is_uncounted`: it does not use up one of `max_attempts`."""

    attempt: LastAttempt
    error: AgentRetryableError
    reply: Json
    is_uncounted: bool
