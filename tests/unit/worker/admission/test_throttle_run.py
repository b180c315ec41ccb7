"""Runs of throttles."""

from itertools import pairwise

import pytest

from service.domain.errors import AgentOutageError, AgentThrottledError
from service.worker.admission.circuit_breaker import THRESHOLD, CircuitBreaker
from service.worker.admission.throttle_run import LEAST_S, LEAST_THROTTLES, RENEW_S, ThrottleRun

THROTTLE = AgentThrottledError("HTTP 429", retry_after_s=30)
OUTAGE = AgentOutageError("connection refused")


def run_of(count, every_s):
    """A run of throttles, and what each of them told."""
    run = ThrottleRun()
    return run, [run.add(THROTTLE, number * every_s) for number in range(count)]


def test_many_throttles_over_a_minute_are_an_outage():
    """The last one begins it; it has the wait that was asked for, and lasts since the first."""
    run, news = run_of(LEAST_THROTTLES, LEAST_S / (LEAST_THROTTLES - 1))
    assert news == [False] * (LEAST_THROTTLES - 1) + [True]
    assert (run.reason, run.wait_s) == ("AgentThrottledError: HTTP 429", 30)
    assert run.lasts_s(now=70.0) == 70.0


@pytest.mark.parametrize(("count", "every_s"), [(1_000, 0.05), (LEAST_THROTTLES - 1, 100.0)])
def test_a_burst_or_a_few_throttles_are_none(count, every_s):
    """A target that sets the pace of its callers is up."""
    run, news = run_of(count, every_s)
    assert not any(news)
    assert run.reason == ""


def test_an_outage_that_goes_on_is_news_once_a_minute():
    """So that its report does not expire."""
    run, _ = run_of(100, 1.0)
    told_at = [at for at in range(100, 300) if run.add(THROTTLE, float(at))]
    assert [later - at for at, later in pairwise(told_at)] == [RENEW_S] * 2


def test_a_reply_ends_the_run():
    """The next throttle begins another one."""
    run, _ = run_of(100, 1.0)
    assert run.end()
    assert run.reason == ""
    assert not run.end()
    assert not run.add(THROTTLE, 101.0)
    assert run.lasts_s(102.0) == 1.0


def test_a_target_that_was_down_and_throttles_still_serves_nobody():
    """The breaker closes, since the target can be reached; the outage goes on until a row is served."""
    breaker = CircuitBreaker()
    for number in range(THRESHOLD):
        breaker.record_failure(OUTAGE, float(number), row="a", is_trial=False)
    assert breaker.outage == "AgentOutageError: connection refused"
    assert breaker.record_throttle(THROTTLE, 10.0)
    assert not breaker.is_open
    assert (breaker.outage, breaker.asked_wait_s) == ("AgentThrottledError: HTTP 429", 30)
    assert breaker.record_success(11.0)
    assert (breaker.outage, breaker.asked_wait_s) == ("", 0)
