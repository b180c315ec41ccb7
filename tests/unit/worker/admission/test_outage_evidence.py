"""The evidence for an outage."""

import pytest

from service.domain.errors import AgentCredentialsError, AgentUnavailableError, FailureScope
from service.worker.admission.outage_evidence import (
    MANY_ROWS,
    MAX_ROWS,
    MAX_SUSPICION_S,
    SUSPICION_PER_ROW_S,
    OutageEvidence,
)

SERVER_ERROR = AgentUnavailableError("HTTP 500", scope=FailureScope.UNCLEAR)
REFUSAL = AgentCredentialsError("HTTP 401")


def met_by(rows, error=SERVER_ERROR, at=0.0):
    """The evidence of so many rows that have met a failure at this time."""
    evidence = OutageEvidence()
    for number in range(rows):
        evidence.add(error, f"row {number}", at)
    return evidence


def test_one_row_alone_is_no_evidence():
    """It may be the cause itself."""
    assert not OutageEvidence().is_suspected(SERVER_ERROR, 0.0)
    assert not met_by(1).is_suspected(SERVER_ERROR, 0.0)


@pytest.mark.parametrize(
    ("rows", "suspected_s"),
    [(2, SUSPICION_PER_ROW_S), (4, 3 * SUSPICION_PER_ROW_S), (1_000, MAX_SUSPICION_S)],
)
def test_each_further_row_lengthens_the_suspicion(rows, suspected_s):
    """The time has a bound."""
    evidence = met_by(rows, at=50.0)
    assert evidence.is_suspected(SERVER_ERROR, 50.0 + suspected_s - 0.1)
    assert not evidence.is_suspected(SERVER_ERROR, 50.0 + suspected_s)


def test_the_time_of_a_call_lengthens_the_suspicion():
    """A gateway that takes half a minute for each failure lets fewer rows give evidence."""
    evidence = OutageEvidence()
    for row in "aab":
        evidence.add(SERVER_ERROR, row, 0.0, call_s=29.0)
    assert evidence.is_suspected(SERVER_ERROR, SUSPICION_PER_ROW_S + 28.9)
    assert not evidence.is_suspected(SERVER_ERROR, SUSPICION_PER_ROW_S + 29.0)
    for row in range(100):
        evidence.add(SERVER_ERROR, f"row {row}", 0.0, call_s=1_000.0)
    assert not evidence.is_suspected(SERVER_ERROR, MAX_SUSPICION_S)


def test_a_row_that_joins_late_renews_the_suspicion():
    """Its time counts from the first failure all the same."""
    evidence = met_by(2)
    assert not evidence.is_suspected(SERVER_ERROR, SUSPICION_PER_ROW_S)
    evidence.add(SERVER_ERROR, "late", SUSPICION_PER_ROW_S)
    assert evidence.is_suspected(SERVER_ERROR, SUSPICION_PER_ROW_S)
    assert not evidence.is_suspected(SERVER_ERROR, 2 * SUSPICION_PER_ROW_S)


def test_a_row_counts_once_and_a_success_clears_the_evidence():
    """Further failures of a row are no further evidence."""
    evidence = met_by(2)
    evidence.add(SERVER_ERROR, "row 0", 1.0)
    assert evidence.rows(SERVER_ERROR) == 2
    evidence.clear()
    assert evidence.rows(SERVER_ERROR) == 0
    assert not evidence.is_suspected(SERVER_ERROR, 1.0)


def test_different_failures_do_not_support_each_other():
    """But an outage, which cannot be about the row, supports all of them."""
    evidence = met_by(1)
    evidence.add(REFUSAL, "another", 0.0)
    assert not evidence.is_suspected(SERVER_ERROR, 0.0)
    assert not evidence.is_suspected(REFUSAL, 0.0)
    evidence.add_outage("a third")
    assert evidence.is_suspected(SERVER_ERROR, 0.0)
    assert evidence.is_suspected(REFUSAL, 0.0)


def test_credentials_that_are_refused_to_many_rows_are_an_outage():
    """However long: the time ends only for fewer rows."""
    assert met_by(MANY_ROWS, REFUSAL).is_suspected(REFUSAL, 1e9)
    assert not met_by(MANY_ROWS - 1, REFUSAL).is_suspected(REFUSAL, MAX_SUSPICION_S)


def test_after_a_restart_the_time_counts_anew():
    """A throttle shows that the target is reachable, and says nothing about the rows."""
    evidence = met_by(2)
    evidence.restart(1_000.0)
    assert evidence.is_suspected(SERVER_ERROR, 1_000.0 + SUSPICION_PER_ROW_S - 1)
    assert not evidence.is_suspected(SERVER_ERROR, 1_000.0 + SUSPICION_PER_ROW_S)


def test_the_rows_of_an_endless_outage_take_bounded_memory():
    """Those that make no difference are not kept."""
    evidence = met_by(10_000)
    for number in range(10_000):
        evidence.add_outage(f"down {number}")
    assert evidence.rows(SERVER_ERROR) == MAX_ROWS
    assert len(evidence._outage_rows) == MAX_ROWS


def test_a_failure_of_long_ago_does_not_shorten_a_suspicion():
    """Nothing was tried since; a call that took all the time is no pause."""
    evidence = met_by(1)
    evidence.add(SERVER_ERROR, "row 8", 100.0)
    evidence.add(SERVER_ERROR, "row 9", 101.0)
    assert evidence.rows(SERVER_ERROR) == 2
    assert evidence.is_suspected(SERVER_ERROR, 101.0)
    slow = met_by(1)
    slow.add(SERVER_ERROR, "row 8", 100.0, call_s=90.0)
    assert slow.rows(SERVER_ERROR) == 2


def test_credentials_that_were_refused_long_ago_are_still_evidence():
    """They are refused until somebody mends them."""
    evidence = met_by(MANY_ROWS - 1, REFUSAL)
    evidence.add(REFUSAL, "row 9", 1_000.0)
    assert evidence.is_suspected(REFUSAL, 1_000.0)
