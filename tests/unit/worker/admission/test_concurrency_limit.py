"""How many calls may be in flight at a target."""

from hypothesis import given
from hypothesis import strategies as st

from service.worker.admission.concurrency_limit import LEAST_ROUND, AimdLimit, LoadSignal


def calls(level, count, *, ended=LoadSignal.ANSWERED, at=0.0, latency_s=1.0):
    """`count` calls that fill the level and end one after the other; the time after them."""
    for number in range(count):
        begun = at + number
        level.note(ended, started=begun, now=begun + latency_s, in_flight=level.calls)
    return at + count + latency_s


def test_it_begins_where_the_user_allowed():
    """All places are there until the target says otherwise."""
    assert AimdLimit(50).calls == 50


def test_a_throttle_lowers_it_once_for_all_calls_of_its_time():
    """A burst of refusals to calls that were under way together is one signal."""
    level = AimdLimit(50)
    for _ in range(30):
        level.note(LoadSignal.THROTTLED, started=0.0, now=1.0, in_flight=50)
    assert level.calls == 35
    level.note(LoadSignal.THROTTLED, started=1.5, now=2.0, in_flight=35)
    assert level.calls == 24


def test_answers_raise_it_by_one_a_round():
    """After a throttle the level climbs by one for each round of answers, up to what is allowed."""
    level = AimdLimit(10)
    level.note(LoadSignal.THROTTLED, started=0.0, now=0.5, in_flight=10)
    assert level.calls == 7
    at = calls(level, 8, at=1.0)
    assert level.calls == 8
    calls(level, 200, at=at)
    assert level.calls == 10


def test_answers_to_a_few_calls_do_not_raise_it():
    """What was not tried is not known to go well."""
    level = AimdLimit(10)
    level.note(LoadSignal.THROTTLED, started=0.0, now=0.5, in_flight=10)
    for number in range(100):
        level.note(LoadSignal.ANSWERED, started=1.0 + number, now=1.5 + number, in_flight=1)
    assert level.calls == 7


def test_a_hanging_target_is_left_with_ever_fewer_calls():
    """Rounds in which most calls time out halve the level, down to one."""
    level = AimdLimit(64)
    at = 0.0
    for expected in (32, 16, 8, 4):
        at = calls(level, max(LEAST_ROUND, level.calls), ended=LoadSignal.TIMED_OUT, at=at, latency_s=60.0)
        assert level.calls == expected


def test_a_few_time_outs_among_many_answers_change_nothing():
    """One slow row is no sign of load."""
    level = AimdLimit(20)
    for number in range(400):
        ended = LoadSignal.TIMED_OUT if number % 20 == 0 else LoadSignal.ANSWERED
        level.note(ended, started=number, now=number + 1.0, in_flight=20)
    assert level.calls == 20


def test_answers_that_slow_down_lower_it():
    """Where latency is a multiple of what it was, calls wait inside the target."""
    level = AimdLimit(20)
    at = calls(level, 40, latency_s=1.0)
    calls(level, 20, at=at, latency_s=4.0)
    assert level.calls == 18


@given(
    st.integers(1, 100),
    st.lists(st.tuples(st.sampled_from(LoadSignal), st.floats(0, 100), st.floats(0, 100)), max_size=300),
)
def test_it_stays_between_one_and_the_most(most, story):
    """Whatever happens, somebody may ask, and never more than were allowed."""
    level, now = AimdLimit(most), 0.0
    for ended, pause, latency in story:
        now += pause
        level.note(ended, started=now - latency, now=now, in_flight=most)
        assert 1 <= level.calls <= most
