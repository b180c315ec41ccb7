"""The tasks that the work at hand asks for."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.model import Counts, HoldReason, State, Work, WorkKind, iso_time
from service.mapping.definition import RateLimit
from service.scaler.demand import (
    DEAD_LETTERS_S,
    WAKE_S,
    TaskDemand,
    control_demand,
    expected_total,
    is_asleep,
    rows_left,
    service_demand,
    worker_demand,
)
from service.scaler.memory import DeadCount
from service.scaler.scale_limits import ServiceBounds
from service.scaler.target_limits import TargetLimits
from tests.unit.scaler.readings import CONTROL, LIMITS, NOW_MS, batch, held, reading, under_way

HOUR_MS = 3_600_000
NO_LETTERS = DeadCount()


def workers(*batches, per_task=500, **more):
    """The tasks that are asked for, for workers."""
    return worker_demand(reading(*batches, **more), per_task).tasks


def control(*batches, roles=CONTROL.roles, dead=NO_LETTERS, **more):
    """The tasks that are asked for, for the control service."""
    return control_demand(reading(*batches, **more), roles, LIMITS, dead).tasks


def test_nothing_to_do_asks_for_nothing():
    """No service has a task at rest."""
    assert workers() == control() == 0


def test_a_job_wakes_control_and_a_first_worker():
    """The number of its rows is not known before it is opened."""
    assert workers(ingest=1) == 1
    assert control(ingest=1) == 1


@pytest.mark.parametrize("queue", ["ingest", "aggregate"])
def test_a_message_wakes_control(queue):
    """A message of each of its queues."""
    assert control(**{queue: 1}) == 1


def test_messages_without_a_batch_ask_for_one_worker():
    """Rows of a batch that is held or has ended: one worker drops them, however many there are."""
    assert workers(rows=100_000) == 1
    assert workers(under_way(held()), rows=100_000) == 1
    assert workers(under_way(batch(State.AGGREGATING, total=9)), rows=9) == 1
    assert workers(under_way(batch(total=9, cancelled_at=iso_time(NOW_MS))), rows=9) == 1


def test_a_task_for_each_share_of_the_rows_left():
    """Rows that are done ask for nothing; a started share asks for a whole task."""
    made = under_way(batch(total=3_000), succeeded=400, failed=99)
    assert workers(made, rows=2_501) == 6
    assert workers(under_way(batch(total=1)), rows=1) == 1


def test_small_batches_share_a_task():
    """Ten batches of 10 rows are no ten tasks."""
    several = [under_way(batch(total=10, execution_id=f"e{number}")) for number in range(10)]
    assert workers(*several, rows=100) == 1


def test_rows_whose_messages_are_lost_ask_for_one_worker():
    """The sweeper sends them again after a while. Those that have a message ask for their share."""
    assert workers(under_way(batch(total=50_000)), rows=0) == 1
    assert workers(under_way(batch(total=50_000)), rows=5_000) == 10


def test_rows_that_were_just_sent_count_before_sqs_counts_them():
    """Its numbers are approximate for a minute."""
    made = batch(total=5_000, updated_at=iso_time(NOW_MS - 10_000))
    assert workers(under_way(made), rows=0) == 10


def test_rows_that_are_sent_again_count_at_once():
    """A resume or a redrive leaves work on the batch until all of them have a message."""
    made = batch(total=5_000, work=Work(WorkKind.SEND, 3, 0))
    assert workers(under_way(made), rows=10) == 10
    assert workers(under_way(replace(made, work=Work(WorkKind.CANCEL, 3, 0))), rows=10) == 1


def test_the_rows_of_a_source_that_is_being_split_are_expected_by_its_bytes():
    """2,000 rows in the first tenth of it let expect 20,000, of which all but those done are left."""
    made = batch(State.SPLITTING, size=10**6, rows=2_000, read=10**5)
    assert expected_total(made) == 20_000
    assert workers(under_way(made, succeeded=500), rows=1_500) == 39


def test_a_source_of_which_nothing_is_read_yet():
    """A row is expected in each 1,000 bytes."""
    assert workers(under_way(batch(State.SPLITTING, size=5 * 10**6))) == 10
    assert workers(under_way(batch(State.SPLITTING, size=10))) == 1
    assert workers(under_way(batch(State.SPLITTING, size=5 * 10**6, limit=600))) == 2


def test_a_compressed_source_may_be_read_beyond_its_size():
    """At least the rows that were sent are expected."""
    assert expected_total(batch(State.SPLITTING, size=100, rows=2_000, read=9_000)) == 2_000


def test_rows_that_keep_an_earlier_outcome_are_not_left():
    """In a round that runs 100 of 5,000 rows again."""
    made = batch(total=5_000, round=2, carried=Counts(succeeded=4_900))
    assert rows_left(under_way(made, failed=10).view) == 90


def test_no_more_workers_than_a_limit_can_use():
    """64 calls of all workers together are those of one task, however many rows are left."""
    target = TargetLimits("rate limit x", 64, RateLimit("x", concurrent=64))
    made = under_way(batch(total=100_000), target)
    demand = worker_demand(reading(made, rows=100_000), 500)
    assert demand.tasks == 1
    assert demand.reasons[1] == "rate limit x can use 1 of 200 tasks"


def test_batches_of_one_limit_use_it_together_and_others_use_theirs():
    """Two batches share a limit of two tasks; a third has none and gets its own."""
    target = TargetLimits("rate limit x", 64, RateLimit("x", concurrent=128))
    limited = [under_way(batch(total=10_000, execution_id=name), target) for name in ("e1", "e2")]
    free = under_way(batch(total=1_500, execution_id="e3"))
    assert workers(*limited, free, rows=21_500) == 2 + 3


def test_control_stays_as_long_as_a_batch_is_unfinished():
    """Each step may need it."""
    for state in (State.SPLITTING, State.RUNNING, State.AGGREGATING):
        assert control(under_way(batch(state, total=1))) == 1


def test_control_stays_as_long_as_something_is_to_be_delivered():
    """Events of a batch that has ended."""
    assert control(pending=1) == 1


def test_many_jobs_and_results_ask_for_more_tasks():
    """A task works on four sources and two results at a time; a service without the role has one."""
    assert control(ingest=9) == 3
    assert control(*[under_way(batch(State.SPLITTING, execution_id=f"e{n}")) for n in range(5)]) == 2
    assert control(aggregate=5) == 3
    assert control(aggregate=5, ingest=9, roles=frozenset({"sweeper"})) == 1


def test_dead_letters_are_left_to_an_operator_after_an_hour():
    """The sweeper has looked at them many times. More of them wake it again."""
    assert control(dead=DeadCount(3, NOW_MS - HOUR_MS + 1)) == 1
    assert control(dead=DeadCount(3, NOW_MS - round(DEAD_LETTERS_S * 1000))) == 0


def test_a_batch_that_is_held_keeps_nothing_running():
    """By its user, or for failures; both for days."""
    assert control(under_way(held())) == 0
    assert control(under_way(held(HoldReason.FAILURES))) == 0


def test_a_batch_whose_target_holds_it_needs_the_sweeper():
    """It sends trials."""
    assert control(under_way(held(HoldReason.TARGET))) == 1


def test_the_sweeper_is_there_when_a_hold_or_a_deadline_ends():
    """Minutes before, so that it has started by then; and after it, until it has acted."""
    soon_ms = NOW_MS + round(WAKE_S * 1000)
    assert not is_asleep(held(deadline_at=iso_time(soon_ms)), NOW_MS, 1e6)
    assert is_asleep(held(deadline_at=iso_time(soon_ms + 1)), NOW_MS, 1e6)
    assert not is_asleep(held(deadline_at=iso_time(NOW_MS - HOUR_MS)), NOW_MS, 1e6)
    failed = held(HoldReason.FAILURES, since_ms=NOW_MS - HOUR_MS)
    assert is_asleep(failed, NOW_MS, 3_600 + WAKE_S + 1)
    assert not is_asleep(failed, NOW_MS, 3_600 + WAKE_S)
    assert not is_asleep(held(ttl=NOW_MS // 1000 + 3_600), NOW_MS, 1e6)


def test_a_batch_that_is_held_and_has_work_left_needs_the_sweeper():
    """An operation has left it."""
    assert not is_asleep(held(work=Work(WorkKind.CANCEL, 1, 0)), NOW_MS, 1e6)


def test_a_service_of_all_roles_asks_for_the_most_of_them():
    """One service may play workers and all others."""
    everything = ServiceBounds(CONTROL.roles | {"worker"}, maximum=10)
    made = reading(under_way(batch(total=2_000)), rows=2_000)
    assert service_demand(made, everything, LIMITS, DeadCount()).tasks == 4
    assert service_demand(reading(), everything, LIMITS, DeadCount()) == TaskDemand()


rows = st.integers(0, 10**7)


@given(total=rows, done=rows, messages=rows, per_task=st.integers(1, 10**5))
def test_workers_never_exceed_their_rows(total, done, messages, per_task):
    """One while there is anything; never more than the rows left and at hand let expect."""
    made = under_way(batch(total=total), succeeded=done)
    tasks = workers(made, rows=messages, per_task=per_task)
    left = max(0, total - done)
    assert (tasks > 0) == (left > 0 or messages > 0)
    assert tasks <= max(1, -(-min(left, messages) // per_task))


@given(
    left=st.lists(st.integers(1, 10**6), min_size=1, max_size=5),
    concurrent=st.integers(1, 10**4),
    calls=st.integers(1, 200),
)
def test_workers_never_exceed_their_limit(left, concurrent, calls):
    """Whatever batches share it."""
    target = TargetLimits("x", min(calls, concurrent), RateLimit("x", concurrent=concurrent))
    made = [under_way(batch(total=rows, execution_id=f"e{n}"), target) for n, rows in enumerate(left)]
    assert workers(*made, rows=sum(left), per_task=1) <= -(-concurrent // min(calls, concurrent))
