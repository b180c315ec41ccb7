"""The error tree and the failure class of each error."""

from collections.abc import Iterator

import pytest

from service.domain import errors
from service.domain.errors import AgentRetryableError, FailureClass, RowfleetError, RowRejectedError

CLASSES = {
    FailureClass.TRANSIENT: {
        "AgentRetryableError", "AgentTimeoutError", "AgentUnavailableError", "ReplyPendingError",
        "DeadlineError", "WorkerLostError",
    },
    FailureClass.RATE_LIMIT: {"AgentThrottledError"},
    FailureClass.CANCELLED: {"CancelledError", "NotApprovedError"},
    FailureClass.UNAVAILABLE: {"AgentOutageError", "AgentCredentialsError"},
    FailureClass.REJECTED: {
        "RowRejectedError", "BadRecordError", "InputError", "AgentRejectedError", "ExtractionError",
        "ReplyRejectedError", "ReplyTruncatedError", "UnfitValueError", "RowTooLargeError",
        "OutcomeRefusedError",
    },
}  # fmt: skip


def tree(root: type[RowfleetError]) -> Iterator[type[RowfleetError]]:
    yield root
    for child in root.__subclasses__():
        yield from tree(child)


@pytest.mark.parametrize("root", [RowRejectedError, AgentRetryableError])
def test_every_error_that_fails_rows_has_a_class(root: type[RowfleetError]) -> None:
    """Every new error is listed here under exactly one class."""
    for error in tree(root):
        of = [class_ for class_, names in CLASSES.items() if error.__name__ in names]
        assert of == [error.failure_class], error.__name__


def test_the_class_of_an_error_is_plain_text() -> None:
    """Metrics, logs and items show `rate_limit`, not the name of the enumeration."""
    error = errors.AgentThrottledError("429")
    assert f"{error.failure_class}" == str(error.failure_class) == "rate_limit"
    names = {"transient", "rate_limit", "rejected", "unavailable", "cancelled"}
    assert {str(class_) for class_ in FailureClass} == names


def test_the_tree_in_the_docstring_is_complete() -> None:
    """Every error class is in the module's docstring."""
    drawn = errors.__doc__ or ""
    assert [error.__name__ for error in tree(RowfleetError) if error.__name__ not in drawn] == []
