"""Every error that rowfleet raises on purpose, sorted by the reaction of its receiver.

    RowfleetError
    ├── ConfigError                 print one line, exit with 2
    │   ├── SettingsError           an environment variable is unknown or wrong
    │   ├── MappingError            a mapping or schema file does not compile
    │   └── UsageError              a command names something that does not exist
    ├── RetryableError              back off and retry; a message is released to its queue
    │   ├── ThrottledError          the service limits the rate of calls
    │   ├── ConflictError           a concurrent transaction was in the way
    │   ├── UnknownResultError      no response: the call may have been applied
    │   │   └── UploadGoneError     an unfinished upload was completed or aborted
    │   ├── UnreachableError        no connection
    │   ├── TurnedAwayError         a row's call may not begin now
    │   │   ├── TargetFullError     all slots of its target are taken
    │   │   ├── TargetDownError     the circuit breaker of its target is open
    │   │   ├── CommitsWaitError    outcomes of its target wait for their commit
    │   │   ├── RoundInDoubtError   the first rows of its round all failed, and are being judged
    │   │   ├── LimitReachedError   the fleet's rate limit is reached
    │   │   ├── BudgetReachedError  the budget has no room for the call at present
    │   │   └── MappingTooNewError  only a worker of a newer version can serve its mapping
    │   ├── AnswerPendingError      another row with the same input is calling the agent
    │   └── AgentRetryableError     the next attempt may succeed
    │       ├── AgentTimeoutError
    │       ├── AgentThrottledError
    │       ├── AgentUnavailableError
    │       │   └── AgentOutageError            the agent serves no row now
    │       │       └── AgentCredentialsError   it refuses our credentials or permission
    │       └── ReplyPendingError   the reply says "not yet" (pending_if)
    ├── RowRejectedError            commit the row as FAILED with this text
    │   ├── BadRecordError          the record is ragged, undecodable or too large
    │   ├── InputError              the row cannot be mapped to an input
    │   ├── AgentRejectedError      the agent refused this input for good
    │   ├── ExtractionError         the reply lacks what the mapping requires
    │   │   ├── ReplyRejectedError  the reply says no (reject_if, a refusal, a failed task)
    │   │   ├── ReplyTruncatedError a limit has cut off the reply
    │   │   └── UnfitValueError     a value breaks a rule of the schema
    │   ├── RowTooLargeError        the row or its outcome is larger than rowfleet takes
    │   ├── OutcomeRefusedError     the table refuses the outcome for good
    │   ├── DeadlineError           the batch's or the row's deadline has passed
    │   ├── CancelledError          the batch was cancelled before the row had an outcome
    │   │   └── NotApprovedError    nobody has approved the sample of the batch in time
    │   └── WorkerLostError         every delivery of the row ended without an outcome
    ├── BatchRejectedError          mark the batch FAILED with this text
    │   ├── SourceError             the object is missing, forbidden, changed or unreadable
    │   └── CsvError                the bytes are not a table
    ├── PoisonMessageError          log it, leave the message to the dead-letter queue
    ├── RowDroppedError             delete the message: the row is not to be served now
    │   └── CallCutError            an operation has cut the row's call
    ├── LeaseLostError              stop working on the message: another consumer has it
    └── AccessError                 credentials or permissions: only an operator can help
        ├── StoreError              the store on this machine cannot be used
        │   ├── StoreInUseError     another process has it
        │   └── StoreFullError      its disk is full
        └── ReceiverGoneError       a target of events wants none of them any more

Outcomes, metrics and `rowfleet errors` show the `kind` of an error, its class name, and the `failure_class`
of an error that failed a row or an attempt:

| class | errors | remedy |
| --- | --- | --- |
| `transient` | RetryableError; DeadlineError, WorkerLostError | another attempt, or another run |
| `rate_limit` | ThrottledError, AgentThrottledError | fewer requests |
| `unavailable` | UnreachableError, AccessError, AgentOutageError and its subclasses | repair of the target |
| `cancelled` | CancelledError, NotApprovedError | another run of the row, if it is wanted after all |
| `rejected` | all others | another input or another mapping |
"""

from __future__ import annotations

import copy
from enum import StrEnum
from typing import Any, ClassVar, Self


class FailureClass(StrEnum):
    """Class of a failure, the same for all ways to invoke an agent, to count and alarm by."""

    TRANSIENT = "transient"
    RATE_LIMIT = "rate_limit"
    REJECTED = "rejected"
    UNAVAILABLE = "unavailable"
    CANCELLED = "cancelled"


class FailureScope(StrEnum):
    """The subject of an agent's failure, which decides if it counts as an attempt of the row."""

    ROW = "row"  # the row may be the cause: the failure counts
    UNCLEAR = "unclear"  # counts, unless other rows meet the same and none is served meanwhile
    OVERLOAD = "overload"  # the same, and does not count in a row's first minute
    TARGET = "target"  # the target is the cause: the failure does not count


class RowfleetError(Exception):
    """Base of all errors that rowfleet raises on purpose. The text is meant for users."""

    failure_class: ClassVar[FailureClass] = FailureClass.REJECTED
    stated_in: Any = None
    """The events of the stream that states this failure of an agent, else None."""

    @property
    def kind(self) -> str:
        """The class name, under which failures are grouped."""
        return type(self).__name__

    def reworded(self, message: str) -> Self:
        """The same error with another text."""
        error = copy.copy(self)
        error.args = (message,)
        return error


class ConfigError(RowfleetError):
    """The process cannot start or the command cannot run as configured."""


class SettingsError(ConfigError):
    """An environment variable or flag is unknown, malformed, or contradicts another."""


class MappingError(ConfigError):
    """A mapping or schema file is wrong. The text has a line `file:line: what (hint)` for each problem."""


class UsageError(ConfigError):
    """A command names a file, batch or option that does not exist."""


class RetryableError(RowfleetError):
    """The next try may succeed. `retry_after_s` is the pause that the other side asked for, if it did."""

    failure_class = FailureClass.TRANSIENT

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ThrottledError(RetryableError):
    """The service limits the rate of calls."""

    failure_class = FailureClass.RATE_LIMIT


class ConflictError(RetryableError):
    """A concurrent transaction touched the same items; nothing was applied."""


class UnknownResultError(RetryableError):
    """The request was sent and no response came: it may or may not have been applied."""


class UploadGoneError(UnknownResultError):
    """An unfinished upload does not exist any more: it was completed or aborted."""


class UnreachableError(RetryableError):
    """No connection could be made."""

    failure_class = FailureClass.UNAVAILABLE


class TurnedAwayError(RetryableError):
    """A row's call may not begin now. `retry_after_s` is the delay for requeueing the row."""


class TargetFullError(TurnedAwayError):
    """All slots of the target in this process are taken, and rows wait for them."""


class TargetDownError(TurnedAwayError):
    """The target's circuit breaker is open: it gets no calls for a while."""


class CommitsWaitError(TurnedAwayError):
    """Outcomes of the target have waited too long for their commit: no call may add to them."""


class RoundInDoubtError(TurnedAwayError):
    """The first rows of the round all failed for the same cause, and wait to be judged."""


class LimitReachedError(TurnedAwayError):
    """The fleet's rate limit of the target allows no further call soon."""


class BudgetReachedError(TurnedAwayError):
    """The budget of the batch, or of its mapping for the day, has no room for the call at present."""


class MappingTooNewError(TurnedAwayError):
    """The mapping was opened by a newer version of rowfleet, and this process cannot serve it."""


class AnswerPendingError(RetryableError):
    """Another row with the same input is calling the agent; this row can use its reply."""


class AgentRetryableError(RetryableError):
    """The agent failed; another attempt may succeed. `scope` is that of the class unless stated."""

    default_scope: ClassVar[FailureScope] = FailureScope.ROW

    def __init__(
        self, message: str, *, retry_after_s: float | None = None, scope: FailureScope | None = None
    ) -> None:
        super().__init__(message, retry_after_s=retry_after_s)
        self.scope = scope or self.default_scope


class AgentTimeoutError(AgentRetryableError):
    """The agent did not answer within `execution.timeout_seconds`."""


class AgentThrottledError(AgentRetryableError):
    """The agent asked for fewer requests, or is overloaded (HTTP 429, 529 and the like)."""

    failure_class = FailureClass.RATE_LIMIT
    default_scope = FailureScope.TARGET


class AgentUnavailableError(AgentRetryableError):
    """The agent could not be reached, or responded with a server error."""


class AgentOutageError(AgentUnavailableError):
    """The agent serves no row now: billing, DNS, a refused connection, a missing function or model."""

    failure_class = FailureClass.UNAVAILABLE
    default_scope = FailureScope.TARGET


class AgentCredentialsError(AgentOutageError):
    """The agent refused the credentials or the permission (HTTP 401 and 403 and the like)."""

    # A 403 may be about the data of one row.
    default_scope = FailureScope.UNCLEAR


class ReplyPendingError(AgentRetryableError):
    """The agent is not done: a `pending_if` of the mapping matches its reply."""


class RowRejectedError(RowfleetError):
    """The row can never succeed as it is: it is committed as FAILED with this text."""


class BadRecordError(RowRejectedError):
    """The CSV record is ragged, holds bytes that do not decode, or is too large for a message."""


class InputError(RowRejectedError):
    """The row cannot be turned into an input."""


class AgentRejectedError(RowRejectedError):
    """The agent refused the input (a 4xx, a raised ValueError, a reply too large)."""


class ExtractionError(RowRejectedError):
    """The agent's reply lacks what the mapping requires."""


class ReplyRejectedError(ExtractionError):
    """The agent's reply says no itself, or a `reject_if` of the mapping matches it."""


class ReplyTruncatedError(ExtractionError):
    """The agent's reply is cut off, by a limit that the text names."""


class UnfitValueError(ExtractionError):
    """A value in the agent's reply does not fit the schema. The text names field, value and rule."""


class RowTooLargeError(RowRejectedError):
    """The row or its outcome exceeds what can be processed or stored."""


class OutcomeRefusedError(RowRejectedError):
    """The table refuses the outcome, and would refuse it again. The text says why."""


class DeadlineError(RowRejectedError):
    """The deadline of the row's batch, or the one that its mapping sets, has passed."""

    # The input may be fine: another run has time again.
    failure_class = FailureClass.TRANSIENT


class CancelledError(RowRejectedError):
    """The batch was cancelled before the row had an outcome."""

    failure_class = FailureClass.CANCELLED


class NotApprovedError(CancelledError):
    """Nobody has approved the sample of the batch in time, so the row was not called."""


class WorkerLostError(RowRejectedError):
    """The row's message was delivered as often as allowed, and no delivery led to an outcome."""

    # The input may be fine: the workers may have crashed because of another row.
    failure_class = FailureClass.TRANSIENT

    @classmethod
    def after(cls, deliveries: int) -> Self:
        """The error with the text that the worker and the sweeper share."""
        return cls(
            f"its message was delivered {deliveries} times without an outcome: the worker died, or could not "
            "commit, each time"
        )


class BatchRejectedError(RowfleetError):
    """The batch can never complete: it is marked FAILED with this text."""


class SourceError(BatchRejectedError):
    """The source object is missing, forbidden, or changed while it was read."""


class CsvError(BatchRejectedError):
    """The source object is not a readable table. The text names line and remedy."""


class PoisonMessageError(RowfleetError):
    """No handler can act on the message; it is left to the dead-letter queue."""


class RowDroppedError(RowfleetError):
    """The row is not to be served now: its batch is paused or ended, or a newer message of it exists."""


class CallCutError(RowDroppedError):
    """The call was cut by an operation, and the row has no outcome."""


class LeaseLostError(RowfleetError):
    """The lease of the message or batch ended; another process may work on it now."""


class AccessError(RowfleetError):
    """AWS refused the credentials or the permission. The text names the call and the remedy."""

    failure_class = FailureClass.UNAVAILABLE


class ReceiverGoneError(AccessError):
    """A target of events says that it is gone for good (HTTP 410)."""
