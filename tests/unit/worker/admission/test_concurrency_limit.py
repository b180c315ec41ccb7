"""How many calls may be in flight at a target."""

from hypothesis import given
from hypothesis import strategies as st

from service.worker.admission.concurrency_limit import MIN_ROUND, AimdLimit, LoadSignal


def calls(limit, count, *, ended=LoadSignal.ANSWERED, at=0.0, latency_s=1.0):
    """`count` calls that fill the limit and end one after the other; the time after them."""
    for number in range(count):
        begun = at + number
        limit.record(ended, started=begun, now=begun + latency_s, in_flight=limit.limit)
    return at + count + latency_s


def test_it_begins_where_the_user_allowed():
    """All places are there until the target says otherwise."""
    assert AimdLimit(50).limit == 50


def test_a_throttle_lowers_it_once_for_all_calls_of_its_time():
    """A burst of refusals to calls that were under way together is one signal."""
    limit = AimdLimit(50)
    for _ in range(30):
        limit.record(LoadSignal.THROTTLED, started=0.0, now=1.0, in_flight=50)
    assert limit.limit == 35
    limit.record(LoadSignal.THROTTLED, started=1.5, now=2.0, in_flight=35)
    assert limit.limit == 24


def test_answers_raise_it_by_one_a_round():
    """After a throttle the limit climbs by one for each round of answers, up to what is allowed."""
    limit = AimdLimit(10)
    limit.record(LoadSignal.THROTTLED, started=0.0, now=0.5, in_flight=10)
    assert limit.limit == 7
    at = calls(limit, 8, at=1.0)
    assert limit.limit == 8
    calls(limit, 200, at=at)
    assert limit.limit == 10


def test_answers_to_a_few_calls_do_not_raise_it():
    """What was not tried is not known to go well."""
    limit = AimdLimit(10)
    limit.record(LoadSignal.THROTTLED, started=0.0, now=0.5, in_flight=10)
    for number in range(100):
        limit.record(LoadSignal.ANSWERED, started=1.0 + number, now=1.5 + number, in_flight=1)
    assert limit.limit == 7


def test_a_hanging_target_is_left_with_ever_fewer_calls():
    """Rounds in which most calls time out halve the limit, down to one."""
    limit = AimdLimit(64)
    at = 0.0
    for expected in (32, 16, 8, 4):
        at = calls(limit, max(MIN_ROUND, limit.limit), ended=LoadSignal.TIMED_OUT, at=at, latency_s=60.0)
        assert limit.limit == expected


def test_a_few_time_outs_among_many_answers_change_nothing():
    """One slow row is no sign of load."""
    limit = AimdLimit(20)
    for number in range(400):
        ended = LoadSignal.TIMED_OUT if number % 20 == 0 else LoadSignal.ANSWERED
        limit.record(ended, started=number, now=number + 1.0, in_flight=20)
    assert limit.limit == 20


def test_answers_that_slow_down_lower_it():
    """Where latency is a multiple of what it was, calls wait inside the target."""
    limit = AimdLimit(20)
    at = calls(limit, 40, latency_s=1.0)
    calls(limit, 20, at=at, latency_s=4.0)
    assert limit.limit == 18


@given(
    st.integers(1, 100),
    st.lists(st.tuples(st.sampled_from(LoadSignal), st.floats(0, 100), st.floats(0, 100)), max_size=300),
)
def test_it_stays_between_one_and_the_most(most, story):
    """Whatever happens, somebody may ask, and never more than were allowed."""
    limit, now = AimdLimit(most), 0.0
    for ended, pause, latency in story:
        now += pause
        limit.record(ended, started=now - latency, now=now, in_flight=most)
        assert 1 <= limit.limit <= most
