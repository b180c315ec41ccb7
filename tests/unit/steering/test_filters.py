"""The rows that a redrive asks for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.errors import UsageError
from service.domain.model import RowError, Status
from service.steering.filters import MAX_RANGES_CHARS, Filters, RowRanges


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("3", "3"),
        ("3,17,100-200", "3,17,100-200"),
        (" 100-200 3\n17 ", "3,17,100-200"),
        ("1-5,3-9,10", "1-10"),
        ("7,7,7", "7"),
    ],
)
def test_lists_of_rows_are_read(text, shown):
    """Commas, blanks and line breaks separate them; overlaps are merged."""
    assert str(RowRanges.parse(text)) == shown


@given(st.sets(st.integers(1, 60), min_size=1))
def test_ranges_hold_exactly_their_numbers(numbers):
    """However they are grouped."""
    ranges = RowRanges.of_numbers(numbers)
    assert {n for n in range(70) if n in ranges} == numbers
    assert RowRanges.parse(str(ranges)) == ranges


@pytest.mark.parametrize("text", ["", " , ", "0", "5-3", "a", "3-", "-3", "1.5", "99999999999", "1--2"])
def test_a_list_that_names_no_rows_is_refused(text):
    """The sentence quotes what is wrong, or says what a list looks like."""
    with pytest.raises(UsageError, match=r"100-200"):
        RowRanges.parse(text)


def test_a_list_that_the_log_cannot_hold_is_refused():
    """It says what to do instead."""
    with pytest.raises(UsageError, match="--class"):
        RowRanges.parse("1," * MAX_RANGES_CHARS)


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        ({"class": ["transient,slow"]}, "no class 'slow' of failures; known: rejected, transient"),
        ({"class": [""]}, "--class names nothing"),
        ({"error": [" , "]}, "--error names nothing"),
        ({"succeeded": True}, "name them with --rows"),
        ({"unread": True, "rows": "1"}, "leave out --rows"),
    ],
)
def test_filters_that_make_no_sense_are_refused(args, reason):
    """Before anything is read."""
    with pytest.raises(UsageError, match=reason):
        Filters.of(args)


FAILURES = {
    1: RowError("AgentTimeoutError", "", "transient"),
    2: RowError("AgentUnavailableError", "", "unavailable"),
    3: RowError("AgentRejectedError", "", "rejected"),
    4: RowError("CancelledError", "", "cancelled"),
    5: RowError("AgentTimeoutError", ""),
    6: None,
}


@pytest.mark.parametrize(
    ("args", "rows"),
    [
        ({}, {1, 2, 3, 4, 5}),
        ({"class": ["transient"]}, {1}),
        ({"class": ["transient,rejected", "unavailable"]}, {1, 2, 3}),
        ({"error": ["AgentTimeoutError"]}, {1, 5}),
        ({"error": ["AgentTimeoutError"], "class": ["transient"]}, {1}),
        ({"error": ["AgentTimeoutError"], "rows": "5-6"}, {5}),
        ({"rows": "3-6"}, {3, 4, 5}),
        ({"rows": "3-6", "succeeded": True}, {3, 4, 5, 6}),
        ({"rows": "3-6", "succeeded": True, "class": ["rejected"]}, {3}),
        ({"unread": True}, {4}),
        ({"unread": True, "class": ["rejected"]}, {3}),
    ],
)
def test_filters_combine(lab, args, rows):
    """A row runs again if every filter applies; one that succeeded only if it is named."""
    filters = Filters.of(args)
    outcomes = [
        lab.outcome(n) if error is None else lab.outcome(n, failed="x") for n, error in FAILURES.items()
    ]
    for outcome in outcomes:
        if outcome.status is Status.FAILED:
            object.__setattr__(outcome, "error", FAILURES[outcome.number])
    assert {outcome.number for outcome in outcomes if filters.select(outcome)} == rows
