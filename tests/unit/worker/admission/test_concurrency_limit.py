"""The AIMD concurrency limit."""

from hypothesis import given
from hypothesis import strategies as st

from service.worker.admission.concurrency_limit import MIN_ROUND, AimdLimit, LoadSignal


def calls(limit, count, *, ended=LoadSignal.ANSWERED, at=0.0, latency_s=1.0):
    """Use all of the limit and end `count` calls one after the other. Return the time after them."""
    for number in range(count):
        begun = at + number
        limit.record(ended, started=begun, now=begun + latency_s, in_flight=limit.limit)
    return at + count + latency_s


def test_it_begins_at_the_most():
    """The user's limit holds until the target shows signs of load."""
    assert AimdLimit(50).limit == 50


def test_a_burst_of_throttles_lowers_it_once():
    """Throttles of calls that were in flight together are one signal."""
    limit = AimdLimit(50)
    for _ in range(30):
        limit.record(LoadSignal.THROTTLED, started=0.0, now=1.0, in_flight=50)
    assert limit.limit == 35
    limit.record(LoadSignal.THROTTLED, started=1.5, now=2.0, in_flight=35)
    assert limit.limit == 24


def test_replies_raise_it_by_one_a_round():
    """After a throttle the limit rises by one for each round of replies, up to the most."""
    limit = AimdLimit(10)
    limit.record(LoadSignal.THROTTLED, started=0.0, now=0.5, in_flight=10)
    assert limit.limit == 7
    at = calls(limit, 8, at=1.0)
    assert limit.limit == 8
    calls(limit, 200, at=at)
    assert limit.limit == 10


def test_replies_do_not_raise_a_limit_that_is_not_used_up():
    """They do not show that the target could bear more calls."""
    limit = AimdLimit(10)
    limit.record(LoadSignal.THROTTLED, started=0.0, now=0.5, in_flight=10)
    for number in range(100):
        limit.record(LoadSignal.ANSWERED, started=1.0 + number, now=1.5 + number, in_flight=1)
    assert limit.limit == 7


def test_a_hanging_target_gets_fewer_and_fewer_calls():
    """Each round in which most calls time out halves the limit, down to one."""
    limit = AimdLimit(64)
    at = 0.0
    for expected in (32, 16, 8, 4):
        at = calls(limit, max(MIN_ROUND, limit.limit), ended=LoadSignal.TIMED_OUT, at=at, latency_s=60.0)
        assert limit.limit == expected


def test_a_few_time_outs_among_many_replies_change_nothing():
    """One slow row is no sign of load."""
    limit = AimdLimit(20)
    for number in range(400):
        ended = LoadSignal.TIMED_OUT if number % 20 == 0 else LoadSignal.ANSWERED
        limit.record(ended, started=number, now=number + 1.0, in_flight=20)
    assert limit.limit == 20


def test_slower_replies_do_not_lower_it():
    """A minute of long rows after a minute of short ones is no sign of load."""
    limit = AimdLimit(20)
    at = calls(limit, 40, latency_s=1.0)
    calls(limit, 20, at=at, latency_s=20.0)
    assert limit.limit == 20


@given(
    st.integers(1, 100),
    st.lists(st.tuples(st.sampled_from(LoadSignal), st.floats(0, 100), st.floats(0, 100)), max_size=300),
)
def test_it_stays_between_one_and_the_most(most, story):
    """In any sequence of signals one call may always begin, and never more than the most."""
    limit, now = AimdLimit(most), 0.0
    for ended, pause, latency in story:
        now += pause
        limit.record(ended, started=now - latency, now=now, in_flight=most)
        assert 1 <= limit.limit <= most
