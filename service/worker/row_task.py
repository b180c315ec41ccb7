"""A row that an agent is invoked for, and the ways in which an invocation can end without an outcome."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from service.batch.outcomes import LastAttempt
from service.domain.deadlines import Deadline, deadline_of
from service.domain.errors import AgentRetryableError, BadRecordError
from service.domain.messages import RowMessage
from service.domain.model import NOTHING_SPENT, Batch, Json, Spending
from service.mapping import RowMapping
from service.worker.targets import OpenTarget


def invocation_id(identity: str, round_: int, number: int) -> str:
    """The id of the calls for a row, from the identity of its batch."""
    return f"{identity}/{round_}/{number}"


def input_of(mapping: RowMapping, columns: Sequence[str], cells: Sequence[str], defect: str = "") -> Json:
    """The agent's input for a row; `defect` is that of its record. Raises BadRecordError and InputError."""
    if defect:
        raise BadRecordError(defect)
    return mapping.build_input(columns, cells)


@dataclass(slots=True)
class Bill:
    """The calls that were made for a row since they were last counted."""

    spent: Spending = NOTHING_SPENT

    def add(self, spent: Spending) -> None:
        """Add a call."""
        self.spent += spent

    def take(self) -> Spending:
        """The calls, which the taker counts from now on."""
        spent, self.spent = self.spent, NOTHING_SPENT
        return spent


@dataclass(slots=True)
class RowTask:
    """A row that an agent is invoked for, with the input `body`.

    `message` is that of the present attempt; later attempts replace it. `row_with_cells` is the message as
    received, with the cells if they had to be read from the source. `uncounted` is the number of failed calls
    by this process that did not count as attempts. `bill` adds up what the calls of this task cost.

    `deadline_ms` and `first_attempt_ms` are those of the message until the row begins here. Most rows are
    never sent again, so a message gets them only then.
    """

    message: RowMessage
    row_with_cells: RowMessage
    batch: Batch
    target: OpenTarget
    body: Json
    bill: Bill
    uncounted: int = field(default=0, init=False)
    deadline_ms: int | None = field(init=False)
    first_attempt_ms: int | None = field(init=False)

    def __post_init__(self) -> None:
        self.deadline_ms = self.message.deadline_ms
        self.first_attempt_ms = self.message.first_attempt_ms

    @property
    def id(self) -> str:
        """The idempotency key of the row: equal for all its attempts, so that an agent sees a repetition."""
        round_ = 1 if self.batch.same_id else self.message.round
        return invocation_id(self.batch.identity, round_, self.message.number)

    @property
    def span_bytes(self) -> int:
        """Bytes that were read from the source for the row; 0 if its message carries the cells."""
        return self.message.span.length if self.message.span else 0

    def begin(self, now_ms: int) -> None:
        """Start the row's deadline and its retry budget, unless an earlier attempt has started them."""
        row_s = self.target.mapping.execution.row_deadline_s
        if self.deadline_ms is None and row_s is not None:
            self.deadline_ms = now_ms + round(row_s * 1000)
        if self.first_attempt_ms is None:
            self.first_attempt_ms = now_ms

    def to_requeue(self) -> RowMessage:
        """The message to send if the row is requeued."""
        return replace(self.message, first_attempt_ms=self.first_attempt_ms, deadline_ms=self.deadline_ms)

    def deadline(self) -> Deadline:
        """The earlier of the batch's deadline and the row's own."""
        return deadline_of(self.batch, self.deadline_ms)

    def longest_s(self, now_ms: int) -> float:
        """Seconds that a call may take: the mapping's time-out, or less by the row's own deadline.

        An operation may move the batch's deadline meanwhile: see `CallWatch`.
        """
        timeout_s = self.target.mapping.execution.timeout_s
        return timeout_s if self.deadline_ms is None else min(timeout_s, (self.deadline_ms - now_ms) / 1000)

    def budget_left_s(self, now_ms: int) -> float:
        """Seconds in which another attempt may begin; infinite before the first one."""
        if self.first_attempt_ms is None:
            return math.inf
        return self.target.mapping.execution.retry.budget_s - (now_ms - self.first_attempt_ms) / 1000


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
    """A failed call that may be repeated. `is_uncounted`: it does not use up one of `max_attempts`.

    `reply`: the JSON text of its reply, "" if there is none or it is not kept.
    """

    attempt: LastAttempt
    error: AgentRetryableError
    reply: str
    is_uncounted: bool
