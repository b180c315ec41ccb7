"""The error tree: what every leaf means to whoever counts failures."""

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
    FailureClass.UNAVAILABLE: {"AgentOutageError", "AgentCredentialsError"},
    FailureClass.REJECTED: {
        "RowRejectedError", "BadRecordError", "InputError", "AgentRejectedError", "ExtractionError",
        "ReplyRejectedError", "UnfitValueError", "RowTooLargeError",
    },
}  # fmt: skip


def tree(root: type[RowfleetError]) -> Iterator[type[RowfleetError]]:
    yield root
    for child in root.__subclasses__():
        yield from tree(child)


@pytest.mark.parametrize("root", [RowRejectedError, AgentRetryableError])
def test_every_error_that_fails_rows_has_a_class(root: type[RowfleetError]) -> None:
    """Whoever adds an error says here what class it is of; none is of two."""
    for error in tree(root):
        of = [class_ for class_, names in CLASSES.items() if error.__name__ in names]
        assert of == [error.failure_class], error.__name__


def test_the_class_of_an_error_is_plain_text_where_it_is_shown() -> None:
    """Metrics, logs and items get `rate_limit`, not the name of an enumeration."""
    error = errors.AgentThrottledError("429")
    assert f"{error.failure_class}" == str(error.failure_class) == "rate_limit"
    assert {str(class_) for class_ in FailureClass} == {"transient", "rate_limit", "rejected", "unavailable"}


def test_the_drawing_holds_every_error() -> None:
    """The tree in the module's docstring is whole."""
    drawn = errors.__doc__ or ""
    assert [error.__name__ for error in tree(RowfleetError) if error.__name__ not in drawn] == []
