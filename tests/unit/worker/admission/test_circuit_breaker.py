"""A target that serves nobody is left alone."""

from service.worker.admission.circuit_breaker import FIRST_PAUSE_S, LONGEST_PAUSE_S, THRESHOLD, CircuitBreaker


def opened(at=0.0):
    """A breaker that has just opened."""
    breaker = CircuitBreaker()
    for _ in range(THRESHOLD):
        breaker.before_call()
        breaker.record_failure("refused", at, row="a", is_trial=False)
    return breaker


def test_it_takes_outages_in_a_row_to_open_it():
    """An answer in between, good or bad, begins the count anew."""
    breaker = CircuitBreaker()
    for number in range(3 * THRESHOLD):
        assert not breaker.record_failure("refused", number, row="a", is_trial=False)
        if number % (THRESHOLD - 1) == 0:
            breaker.record_success(number)
    assert not breaker.is_open


def test_while_it_is_open_nobody_may_call():
    """For a pause; then one call may, and no other until it is known how that went."""
    breaker = opened(at=10.0)
    assert breaker.is_open
    assert breaker.wait_s(10.0) == FIRST_PAUSE_S
    assert breaker.wait_s(10.0 + FIRST_PAUSE_S) == 0
    assert breaker.before_call()
    assert breaker.wait_s(12.0) > 0
    assert not breaker.before_call()


def test_a_probe_that_fails_doubles_the_pause():
    """Up to a minute: a target that is down for long is hardly asked."""
    breaker, now = opened(), 0.0
    pauses = []
    for _ in range(9):
        now += breaker.wait_s(now)
        assert breaker.before_call()
        assert breaker.record_failure("still", now, row="a", is_trial=True)
        pauses.append(breaker.wait_s(now))
    assert pauses[:4] == [2 * FIRST_PAUSE_S, 4 * FIRST_PAUSE_S, 8 * FIRST_PAUSE_S, 16 * FIRST_PAUSE_S]
    assert pauses[-1] == LONGEST_PAUSE_S


def test_a_probe_that_succeeds_closes_it():
    """All may call again, and the next outage begins with a short pause."""
    breaker = opened()
    breaker.before_call()
    assert breaker.record_success(2.0)
    assert (breaker.is_open, breaker.wait_s(2.0), breaker.reason) == (False, 0.0, "")
    assert not breaker.record_success(3.0)


def test_calls_that_were_under_way_do_not_lengthen_the_pause():
    """Their outages are the one that is known already."""
    breaker = opened(at=5.0)
    assert not breaker.record_failure("late", 5.9, row="a", is_trial=False)
    assert breaker.wait_s(6.0) == 0


def test_a_probe_that_tells_nothing_lets_another_try():
    """Its process is stopping, say."""
    breaker = opened()
    breaker.before_call()
    breaker.cancel_trial()
    assert breaker.wait_s(FIRST_PAUSE_S) == 0
    assert breaker.before_call()


def test_it_knows_whether_more_than_one_row_met_the_outage():
    """Since the last answer; one row that fails again and again may be at fault itself."""
    breaker = CircuitBreaker()
    for row, several in (("a", False), ("a", False), ("b", True), ("a", True)):
        breaker.record_failure("401", 1.0, row=row, is_trial=False)
        assert breaker.seen_by_several_rows is several
    breaker.record_success(2.0)
    breaker.record_failure("401", 3.0, row="c", is_trial=False)
    assert not breaker.seen_by_several_rows
