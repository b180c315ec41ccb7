"""The circuit breaker."""

from service.worker.admission.circuit_breaker import FIRST_PAUSE_S, LONGEST_PAUSE_S, THRESHOLD, CircuitBreaker


def opened(at=0.0):
    """A breaker that has opened at this time."""
    breaker = CircuitBreaker()
    for _ in range(THRESHOLD):
        breaker.before_call()
        breaker.record_failure("refused", at, row="a", is_trial=False)
    return breaker


def test_outages_in_a_row_open_it():
    """A success between them begins the count anew."""
    breaker = CircuitBreaker()
    for number in range(3 * THRESHOLD):
        assert not breaker.record_failure("refused", number, row="a", is_trial=False)
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
        assert breaker.record_failure("still", now, row="a", is_trial=True)
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
    assert not breaker.record_failure("late", 5.9, row="a", is_trial=False)
    assert breaker.wait_s(6.0) == 0


def test_a_cancelled_trial_call_lets_another_try():
    """Its process is stopping, for example."""
    breaker = opened()
    breaker.before_call()
    breaker.cancel_trial()
    assert breaker.wait_s(FIRST_PAUSE_S) == 0
    assert breaker.before_call()


def test_it_knows_if_several_rows_met_the_outage():
    """Since the last success. A single row that fails again and again may be at fault itself."""
    breaker = CircuitBreaker()
    for row, several in (("a", False), ("a", False), ("b", True), ("a", True)):
        breaker.record_failure("401", 1.0, row=row, is_trial=False)
        assert breaker.seen_by_several_rows is several
    breaker.record_success(2.0)
    breaker.record_failure("401", 3.0, row="c", is_trial=False)
    assert not breaker.seen_by_several_rows
