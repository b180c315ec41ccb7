"""The decision on each service, look by look."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.model import State, iso_time
from service.domain.ports import TaskCounts
from service.scaler.decision import decide
from service.scaler.memory import ScalerMemory
from service.scaler.scale_limits import ScaleLimits, ServiceBounds
from tests.unit.scaler.readings import CONTROL, LIMITS, NOW_MS, WORKERS, batch, reading, under_way

MINUTE_S = 60


class Looks:
    """Looks once a minute. Each number of tasks that is asked for is there at the next look."""

    def __init__(self, limits=LIMITS):
        self.limits = limits
        self.now_ms = NOW_MS
        self.memory = ScalerMemory()
        self.tasks = dict.fromkeys(limits.services, TaskCounts(0))

    def look(self, *batches, **more):
        """The desired tasks of workers and control."""
        self.now_ms += MINUTE_S * 1000
        made = replace(reading(*batches, now_ms=self.now_ms, **more), tasks=self.tasks)
        decision = decide(made, self.memory, self.limits)
        self.memory = decision.memory
        self.tasks = {
            name: TaskCounts(each.desired, each.desired) for name, each in decision.services.items()
        }
        return tuple(each.desired for each in decision.services.values())

    def until_fewer(self, *batches, **more):
        """Look until a service gets fewer tasks: the minutes that this takes, and the desired tasks."""
        minutes, before = 0, tuple(each.desired for each in self.tasks.values())
        while True:
            minutes += 1
            desired = self.look(*batches, **more)
            if any(now < was for now, was in zip(desired, before, strict=True)):
                return minutes, desired


def test_at_rest_nothing_is_asked_for_and_nothing_is_to_be_kept():
    """The memory stays the same, so it needs no write."""
    looks = Looks()
    assert looks.look() == (0, 0)
    memory = looks.memory
    assert looks.look() == (0, 0)
    assert looks.memory == memory


def test_more_tasks_are_asked_for_at_once_up_to_the_maximum():
    """Without any cool-down."""
    looks = Looks()
    assert looks.look(ingest=1) == (1, 1)
    assert looks.look(under_way(batch(total=2_000)), rows=2_000) == (4, 1)
    assert looks.look(under_way(batch(total=90_000)), rows=90_000) == (10, 1)


def test_fewer_tasks_are_asked_for_after_the_cool_down():
    """What was wanted within the last five minutes stays: counts may be too low, and rows end late."""
    looks = Looks()
    looks.look(under_way(batch(total=4_000)), rows=4_000)
    small = under_way(batch(total=4_000), succeeded=3_000)
    assert looks.until_fewer(small, rows=1_000) == (5, (2, 1))


def test_the_last_task_stays_until_nothing_was_to_be_done_for_longer():
    """Ten minutes; until then another file begins without a wait."""
    looks = Looks()
    looks.look(under_way(batch(total=4_000)), rows=4_000)
    assert looks.until_fewer() == (5, (1, 1))
    assert looks.until_fewer() == (5, (0, 0))


def test_a_demand_that_comes_and_goes_does_not_end_tasks():
    """Its highest value in the time of the cool-down counts."""
    looks = Looks()
    for _ in range(30):
        assert looks.look(under_way(batch(total=3_000)), rows=3_000) == (6, 1)
        assert looks.look(under_way(batch(total=3_000), succeeded=2_900), rows=100) == (6, 1)


def test_a_memory_that_is_lost_ends_no_task_at_once():
    """What runs counts as wanted until now."""
    looks = Looks()
    looks.tasks = {"worker": TaskCounts(5, 5), "control": TaskCounts(1, 1)}
    assert looks.look() == (5, 1)
    assert looks.until_fewer() == (5, (1, 1))


def test_tasks_that_somebody_has_taken_away_do_not_come_back_by_themselves():
    """The highest demand of the last minutes keeps tasks, and starts none."""
    looks = Looks()
    looks.look(under_way(batch(total=5_000)), rows=5_000)
    looks.tasks["worker"] = TaskCounts(2, 2)
    assert looks.look(under_way(batch(total=500)), rows=500) == (2, 1)


def test_minimum_and_maximum():
    """Hold whatever is wanted, or was set by hand."""
    bounds = {"worker": replace(WORKERS, minimum=2, maximum=3), "control": replace(CONTROL, minimum=1)}
    looks = Looks(ScaleLimits(bounds))
    assert looks.look() == (2, 1)
    looks.tasks["worker"] = TaskCounts(9, 9)
    assert looks.look(under_way(batch(total=5_000)), rows=5_000) == (3, 1)


def test_a_maximum_of_zero_stops_a_service_at_once():
    """A busy one too: its tasks are protected until they are idle."""
    looks = Looks(ScaleLimits({"worker": WORKERS, "control": replace(CONTROL, maximum=0)}))
    looks.tasks["control"] = TaskCounts(1, 1)
    assert looks.look(under_way(batch(total=500)), ingest=1, rows=500)[1] == 0


def test_dead_letters_wake_control_for_an_hour():
    """Then those that are left keep nothing running, until there are more."""
    looks = Looks()
    assert looks.look(dead=2) == (0, 1)
    minutes, desired = looks.until_fewer(dead=2)
    assert (minutes, desired) == (69, (0, 0))  # an hour, and ten minutes in which nothing was to be done
    assert looks.look(dead=2) == (0, 0)
    assert looks.look(dead=3) == (0, 1)


def test_a_decision_tells_of_rest_and_of_changes():
    """At rest is a fleet without tasks that gets none."""
    assert decide(reading(), ScalerMemory(), LIMITS).is_at_rest
    assert not decide(reading(control=1), ScalerMemory(), LIMITS).is_at_rest
    waking = decide(reading(ingest=1), ScalerMemory(), LIMITS)
    assert not waking.is_at_rest
    assert [each.is_change for each in waking.services.values()] == [True, True]


# -- from a drop to the full fleet ---------------------------------------------------------------------

START_S = 45
"""Seconds from the request for a task to its first receive, on Fargate with an image of this size."""

ROWS, ROW_BYTES, ROWS_PER_S, WORKER_ROWS_PER_S = 100_000, 120, 2_000, 30


class Deployment:
    """A deployment on a simulated clock, in seconds, with one file that is dropped."""

    def __init__(self, dropped_s):
        self.dropped_s = dropped_s
        self.tasks = {"worker": 0, "control": 0}
        self.started = {"worker": [], "control": []}  # times at which tasks run
        self.memory = ScalerMemory()
        self.now_s = self.sent = 0
        self.done = 0.0
        self.line = []

    def running(self, name):
        """Tasks that run now."""
        return sum(at_s <= self.now_s for at_s in self.started[name][: self.tasks[name]])

    def second(self):
        """Pass a second."""
        self.now_s += 1
        if self.now_s >= self.dropped_s and self.running("control"):
            self.sent = min(ROWS, self.sent + ROWS_PER_S)
        self.done = min(self.sent, self.done + WORKER_ROWS_PER_S * self.running("worker"))

    def look(self):
        """Let the scaler look, and ask for the tasks that it wants."""
        batches, is_dropped = [], self.now_s >= self.dropped_s
        now_ms = NOW_MS + self.now_s * 1000
        if self.sent and self.done < ROWS:
            checkpoint = self.sent // 2_000 * 2_000
            is_sealed = self.sent == ROWS
            made = batch(
                State.RUNNING if is_sealed else State.SPLITTING, size=ROWS * ROW_BYTES, rows=checkpoint,
                read=checkpoint * ROW_BYTES, total=ROWS if is_sealed else None, updated_at=iso_time(now_ms),
            )  # fmt: skip
            batches = [under_way(made, succeeded=int(self.done))]
        seen = reading(
            *batches, now_ms=now_ms, ingest=int(is_dropped and not self.sent), rows=int(self.sent - self.done)
        )
        tasks = {name: TaskCounts(desired, self.running(name)) for name, desired in self.tasks.items()}
        decision = decide(replace(seen, tasks=tasks), self.memory, LIMITS)
        self.memory = decision.memory
        for name, each in decision.services.items():
            more = each.desired - self.tasks[name]
            self.started[name] = self.started[name][: each.desired] + [self.now_s + START_S] * max(0, more)
            self.tasks[name] = each.desired
        self.line.append((self.now_s - self.dropped_s, self.tasks["worker"], self.tasks["control"]))


@pytest.mark.parametrize("before_look_s", [1, 30, 59])
def test_from_zero_to_the_full_fleet_within_two_minutes_of_a_drop(before_look_s):
    """The first look wakes control and a worker, the second all workers; at the end all is at rest."""
    made = Deployment(dropped_s=60 - before_look_s)
    while made.done < ROWS or any(made.tasks.values()):
        made.second()
        if made.now_s % MINUTE_S == 0:
            made.look()
    assert made.line[:2] == [(before_look_s, 1, 1), (before_look_s + 60, 10, 1)]
    # The full fleet stays to the last row, and for the cool-down; the last tasks for ten minutes.
    full = [after_s for after_s, workers, _ in made.line if workers == 10]
    assert full[-1] - full[0] >= ROWS / (WORKER_ROWS_PER_S * 10)
    assert made.line[-1][1:] == (0, 0)
    assert made.line[-1][0] < before_look_s + 60 + START_S + ROWS / (WORKER_ROWS_PER_S * 10) + 720


# -- whatever is read ----------------------------------------------------------------------------------

counts = st.integers(0, 40)
states = st.sampled_from([state for state in State if not state.is_final])
found = st.lists(st.tuples(states, st.integers(0, 10**6)), max_size=3)
backlogs = st.fixed_dictionaries(
    {name: st.integers(0, 10**6) for name in ("ingest", "rows", "aggregate", "dead")}
)
bounds = st.tuples(counts, counts).map(sorted)


@given(bounds, st.lists(st.tuples(found, backlogs, counts, st.integers(1, 900)), max_size=25))
def test_whatever_is_read(bound, seen):
    """The desired number is within the bounds, and not lowered below what was demanded lately."""
    minimum, maximum = bound
    limits = ScaleLimits(
        {"worker": ServiceBounds(frozenset({"worker"}), minimum, max(1, maximum)), "control": CONTROL}
    )
    memory, now_ms = ScalerMemory(), NOW_MS
    demanded = []
    for batches, backlog, current, seconds in seen:
        now_ms += seconds * 1000
        made = [
            under_way(batch(state, total=total, execution_id=f"e{n}"))
            for n, (state, total) in enumerate(batches)
        ]
        decision = decide(reading(*made, now_ms=now_ms, worker=current, **backlog), memory, limits)
        memory = decision.memory
        worker = decision.services["worker"]
        demanded.append((now_ms, worker.demand.tasks))
        assert minimum <= worker.desired <= max(1, maximum)
        lately = max(tasks for at_ms, tasks in demanded if at_ms > now_ms - limits.cooldown_s * 1000)
        assert worker.desired >= min(max(1, maximum), current, lately)
        assert worker.desired >= min(max(1, maximum), worker.demand.tasks)
        assert worker.desired <= max(minimum, current, worker.demand.tasks)
        again = decide(reading(*made, now_ms=now_ms, worker=worker.desired, **backlog), memory, limits)
        assert again.services["worker"].desired == worker.desired
