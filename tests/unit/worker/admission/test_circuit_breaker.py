"""The circuit breaker."""

from service.domain.errors import AgentOutageError, AgentUnavailableError, FailureScope
from service.worker.admission.circuit_breaker import FIRST_PAUSE_S, LONGEST_PAUSE_S, THRESHOLD, CircuitBreaker
from service.worker.admission.outage_evidence import MAX_ROWS, MAX_SUSPICION_S, SUSPICION_PER_ROW_S

OUTAGE = AgentOutageError("connection refused")
SERVER_ERROR = AgentUnavailableError("HTTP 500", scope=FailureScope.UNCLEAR)


def opened(at=0.0):
    """A breaker that has opened at this time."""
    breaker = CircuitBreaker()
    for _ in range(THRESHOLD):
        breaker.before_call()
        breaker.record_failure(OUTAGE, at, row="a", is_trial=False)
    return breaker


def test_outages_in_a_row_open_it():
    """A success between them begins the count anew."""
    breaker = CircuitBreaker()
    for number in range(3 * THRESHOLD):
        assert not breaker.record_failure(OUTAGE, number, row="a", is_trial=False)
        if number % (THRESHOLD - 1) == 0:
            breaker.record_success(number)
    assert not breaker.is_open


def test_an_open_breaker_lets_one_trial_call_through():
    """After the pause one call may begin, and no other until the first has ended."""
    breaker = opened(at=10.0)
    assert breaker.is_open
    assert breaker.wait_s(10.0) == FIRST_PAUSE_S
    assert breaker.wait_s(10.0 + FIRST_PAUSE_S) == 0
    assert breaker.before_call()
    assert breaker.wait_s(12.0) > 0
    assert not breaker.before_call()


def test_a_trial_call_that_fails_doubles_the_pause():
    """Up to a minute: a target that is down for long gets few calls."""
    breaker, now = opened(), 0.0
    pauses = []
    for _ in range(9):
        now += breaker.wait_s(now)
        assert breaker.before_call()
        assert breaker.record_failure(OUTAGE, now, row="a", is_trial=True)
        pauses.append(breaker.wait_s(now))
    assert pauses[:4] == [2 * FIRST_PAUSE_S, 4 * FIRST_PAUSE_S, 8 * FIRST_PAUSE_S, 16 * FIRST_PAUSE_S]
    assert pauses[-1] == LONGEST_PAUSE_S


def test_a_trial_call_that_succeeds_closes_it():
    """Calls are free again, and the next outage begins with the short pause."""
    breaker = opened()
    breaker.before_call()
    assert breaker.record_success(2.0)
    assert (breaker.is_open, breaker.wait_s(2.0), breaker.reason) == (False, 0.0, "")
    assert not breaker.record_success(3.0)


def test_calls_in_flight_do_not_lengthen_the_pause():
    """They began before the breaker opened, so they met the same outage."""
    breaker = opened(at=5.0)
    assert not breaker.record_failure(OUTAGE, 5.9, row="a", is_trial=False)
    assert breaker.wait_s(6.0) == 0


def test_a_cancelled_trial_call_lets_another_try():
    """Its process is stopping, for example."""
    breaker = opened()
    breaker.before_call()
    breaker.cancel_trial()
    assert breaker.wait_s(FIRST_PAUSE_S) == 0
    assert breaker.before_call()


def fail(breaker, *rows, at=0.0):
    """Have each of these rows meet a server error. Return True if the breaker is open afterwards."""
    for row in rows:
        breaker.record_failure(SERVER_ERROR, at, row=row, is_trial=breaker.before_call())
    return breaker.is_open


def test_server_errors_open_it_only_if_different_rows_meet_them():
    """A few rows that fail again and again may be to blame themselves."""
    breaker = CircuitBreaker()
    assert not fail(breaker, *"abcd" * 10)
    assert fail(breaker, "e")
    assert breaker.reason == "AgentUnavailableError: HTTP 500"


def test_it_closes_when_no_further_row_meets_the_server_errors():
    """A trial call that fails after the suspicion has ended lets the last rows be called freely."""
    breaker = CircuitBreaker()
    fail(breaker, *"abcde")
    assert fail(breaker, "a", at=4 * SUSPICION_PER_ROW_S - 1)
    assert breaker.before_call()
    assert breaker.record_failure(SERVER_ERROR, 4 * SUSPICION_PER_ROW_S, row="b", is_trial=True)
    assert not fail(breaker, *"abcde", at=4 * SUSPICION_PER_ROW_S + 1)


def test_it_stays_open_if_many_rows_meet_the_server_errors():
    """There may be many more, which must not all be tried at once."""
    breaker = CircuitBreaker()
    fail(breaker, *(f"row {number}" for number in range(MAX_ROWS)))
    assert fail(breaker, "another", at=10 * MAX_SUSPICION_S)
