"""Every error rowfleet raises on purpose, by what its receiver does about it.

    RowfleetError
    ├── ConfigError                 say it in one line, exit 2
    │   ├── SettingsError           an environment variable is unknown or wrong
    │   ├── MappingError            a mapping or schema file does not compile
    │   └── UsageError              a command was asked for something that is not there
    ├── RetryableError              back off, try again; a message goes back to its queue
    │   ├── ThrottledError          the service asked for less
    │   ├── ConflictError           a concurrent transaction was in the way
    │   ├── UnknownResultError      sent, not answered: it may have been applied
    │   ├── UnreachableError        no connection at all
    │   ├── TurnedAwayError         a row's call may not begin now
    │   │   ├── TargetFullError     every place of its target is taken
    │   │   ├── TargetDownError     its target serves nobody
    │   │   └── LimitReachedError   the limit of the whole fleet is reached
    │   ├── AnswerPendingError      another row asks for the same input: its answer is waited for
    │   └── AgentRetryableError     the agent may answer next time
    │       ├── AgentTimeoutError
    │       ├── AgentThrottledError
    │       ├── AgentUnavailableError
    │       │   └── AgentOutageError            nobody is served now, whatever the row
    │       │       └── AgentCredentialsError   because of who asks
    │       └── ReplyPendingError   the reply says "not yet" (pending_if)
    ├── RowRejectedError            the row is committed FAILED with this text
    │   ├── BadRecordError          the record is ragged, undecodable or too large
    │   ├── InputError              the row cannot be mapped to an input
    │   ├── AgentRejectedError      the agent refused this input for good
    │   ├── ExtractionError         the answer lacks what the mapping requires
    │   │   ├── ReplyRejectedError  the reply says no (reject_if)
    │   │   └── UnfitValueError     a value breaks a rule of the schema
    │   ├── RowTooLargeError        the row or its outcome is larger than rowfleet takes
    │   ├── DeadlineError           the batch's or the row's deadline has passed
    │   └── WorkerLostError         every worker that had the row was lost, or could not commit it
    ├── BatchRejectedError          the batch is FAILED with this text
    │   ├── SourceError             the object is missing, forbidden, changed or unreadable
    │   └── CsvError                the bytes are no table
    ├── PoisonMessageError          leave the message to the dead-letter queue, log why
    ├── LeaseLostError              somebody else has the message: walk away
    └── AccessError                 credentials or permissions: no retry will help by itself

`kind` is the name that outcomes, metrics and `rowfleet errors` show: the class name. Beside it they show the
`failure_class` of what failed a row or an attempt, of which there are four:

| class | errors | helps |
| --- | --- | --- |
| `transient` | RetryableError; DeadlineError, WorkerLostError | another attempt, or another run |
| `rate_limit` | ThrottledError, AgentThrottledError | fewer requests |
| `unavailable` | UnreachableError, AccessError, AgentOutageError and below | whoever mends the target |
| `rejected` | all others | another input or another mapping |
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar, Self


class FailureClass(StrEnum):
    """What kind of failure it was, whichever way the agent was invoked: a few words to count and alarm by."""

    TRANSIENT = "transient"
    RATE_LIMIT = "rate_limit"
    REJECTED = "rejected"
    UNAVAILABLE = "unavailable"


class RowfleetError(Exception):
    """Anything rowfleet raises on purpose; its text is fit for a user."""

    failure_class: ClassVar[FailureClass] = FailureClass.REJECTED

    @property
    def kind(self) -> str:
        """The name under which failures of this class are grouped."""
        return type(self).__name__


class ConfigError(RowfleetError):
    """The process cannot start or the command cannot run as configured."""


class SettingsError(ConfigError):
    """An environment variable or flag is unknown, malformed or contradicts another."""


class MappingError(ConfigError):
    """A mapping or schema file is wrong; the text has one `file:line: what (hint)` line per problem."""


class UsageError(ConfigError):
    """A command names a file, batch or option that does not exist."""


class RetryableError(RowfleetError):
    """It may work next time. `retry_after_s` is a wish of the other side, where it stated one."""

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
    """The request was sent and no answer came: it may or may not have been applied."""


class UnreachableError(RetryableError):
    """No connection could be made."""

    failure_class = FailureClass.UNAVAILABLE


class TurnedAwayError(RetryableError):
    """A row's call may not begin now. `retry_after_s` says when to come again."""


class TargetFullError(TurnedAwayError):
    """Every place of the target in this process is taken, and rows wait."""


class TargetDownError(TurnedAwayError):
    """The target serves nobody: it is left alone for a while."""


class LimitReachedError(TurnedAwayError):
    """The rate limit that the fleet shares leaves no room for some time."""


class AnswerPendingError(RetryableError):
    """Another row asks for the same input, and what it is answered will do for this one too."""


class AgentRetryableError(RetryableError):
    """The agent failed in a way that another attempt may cure."""


class AgentTimeoutError(AgentRetryableError):
    """The agent did not answer within `execution.timeout_seconds`."""


class AgentThrottledError(AgentRetryableError):
    """The agent asked for fewer requests (HTTP 429 and the like)."""

    failure_class = FailureClass.RATE_LIMIT


class AgentUnavailableError(AgentRetryableError):
    """The agent could not be reached or answered with a server error."""


class AgentOutageError(AgentUnavailableError):
    """The agent serves no row now: billing, DNS, a refused connection, a function that is not there."""

    failure_class = FailureClass.UNAVAILABLE


class AgentCredentialsError(AgentOutageError):
    """The agent refused the credentials or the permission (HTTP 401 and 403 and the like)."""


class ReplyPendingError(AgentRetryableError):
    """The agent answered that it is not done: a `pending_if` of the mapping matches its reply."""


class RowRejectedError(RowfleetError):
    """The row can never succeed as it is: it is committed FAILED with this text."""


class BadRecordError(RowRejectedError):
    """The CSV record is ragged, holds bytes that do not decode, or is too large for a message."""


class InputError(RowRejectedError):
    """The row cannot be turned into an input."""


class AgentRejectedError(RowRejectedError):
    """The agent refused the input (a 4xx, a raised ValueError, a reply too large)."""


class ExtractionError(RowRejectedError):
    """The agent's answer does not hold what the mapping requires."""


class ReplyRejectedError(ExtractionError):
    """The agent's answer says no: a `reject_if` of the mapping matches it. The text is what it says."""


class UnfitValueError(ExtractionError):
    """A value in the agent's answer does not fit the schema; the text names field, value and rule."""


class RowTooLargeError(RowRejectedError):
    """The row or its outcome exceeds what can be processed or stored."""


class DeadlineError(RowRejectedError):
    """The time that its batch or its mapping gives the row is over."""

    failure_class = FailureClass.TRANSIENT


class WorkerLostError(RowRejectedError):
    """The row's message was delivered as often as it may be, and no delivery left an outcome."""

    failure_class = FailureClass.TRANSIENT

    @classmethod
    def after(cls, deliveries: int) -> Self:
        """Said alike by the worker and by the drain of dead letters."""
        return cls(
            f"its message was delivered {deliveries} times without an outcome: the worker died, or could not "
            "commit, each time"
        )


class BatchRejectedError(RowfleetError):
    """The batch can never complete: it becomes FAILED with this text."""


class SourceError(BatchRejectedError):
    """The source object is missing, forbidden, or changed while it was read."""


class CsvError(BatchRejectedError):
    """The source object is not a table that can be read; the text names line and remedy."""


class PoisonMessageError(RowfleetError):
    """A message that no handler can act on; it stays for the dead-letter queue."""


class LeaseLostError(RowfleetError):
    """The message's visibility ran out; its work belongs to somebody else now."""


class AccessError(RowfleetError):
    """AWS refused the credentials or the permission; the text names the call and the remedy."""

    failure_class = FailureClass.UNAVAILABLE


def first_of(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """One error of a group, which is enough to act on and to say."""
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
