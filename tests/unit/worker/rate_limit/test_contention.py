"""Many workers at one record: few writes, the limit kept, and used."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from service.mapping.definition import RateLimit
from service.worker.rate_limit.contention import (
    CONFLICT_FACTOR,
    FIRST_S,
    LEAST_CONFLICT_S,
    LONGEST_S,
    ContentionWindow,
)
from service.worker.rate_limit.gcra import SAFETY_SHARE
from tests.unit.worker.rate_limit.limited_fleet import Fleet

JOIN_S = 5


@dataclass
class Crowd:
    """A fleet whose workers join within five seconds, measured for a while after a warm-up."""

    limit: RateLimit
    workers: int
    callers: int
    warm_up_s: int
    measured_s: int

    def run(self) -> None:
        """Run the fleet."""
        self.fleet = Fleet(self.limit)
        for _ in range(self.workers):
            self.fleet.join(callers=self.callers)
            self.fleet.run(JOIN_S / self.workers)
        self.fleet.run(self.warm_up_s - JOIN_S)
        table = self.fleet.table
        writes, units = table.swaps, table.write_units
        self.fleet.run(self.measured_s)
        self.writes_per_s = (table.swaps - writes) / self.measured_s
        self.units_per_s = (table.write_units - units) / self.measured_s
        self.end = self.fleet.loop.time()
        self.fleet.close()

    @property
    def begun_per_s(self) -> float:
        """Calls begun in a second of the measured time."""
        return self.fleet.begun(self.end - self.measured_s, self.end) / self.measured_s

    @property
    def mean_in_flight(self) -> float:
        """The mean number of calls in flight in the measured time."""
        start = self.end - self.measured_s
        spans = (min(call.end, self.end) - max(call.begin, start) for call in self.fleet.calls)
        return sum(span for span in spans if span > 0) / self.measured_s


PACED = [
    pytest.param(100, 3_000, 4, 15, 45),
    pytest.param(200, 6_000, 4, 40, 60, marks=pytest.mark.verify),
    pytest.param(1_000, 600, 4, 40, 60, marks=pytest.mark.verify),
    pytest.param(1_000, 6_000, 8, 40, 60, marks=pytest.mark.verify),
]


@pytest.mark.parametrize(("workers", "per_minute", "callers", "warm_up_s", "measured_s"), PACED)
def test_a_crowd_writes_little_and_uses_its_limit(
    workers, per_minute, callers, warm_up_s, measured_s
) -> None:
    """At most 100 writes a second, no sliding minute above the limit, and 90 % of the limit used."""
    limit = RateLimit("a", requests_per_minute=per_minute)
    crowd = Crowd(limit, workers, callers, warm_up_s, measured_s)
    crowd.run()
    assert crowd.writes_per_s <= 100
    assert crowd.fleet.most_begun(60) <= per_minute
    assert crowd.begun_per_s * 60 >= 0.9 * SAFETY_SHARE * per_minute


IN_FLIGHT = [
    pytest.param(100, 25, 4, 20, 30),
    pytest.param(11, 10, 16, 20, 60),
    pytest.param(400, 100, 4, 40, 60, marks=pytest.mark.verify),
    pytest.param(400, 1_000, 4, 60, 60, marks=pytest.mark.verify),
    pytest.param(1_000, 8, 4, 40, 60, marks=pytest.mark.verify),
    pytest.param(1_000, 100, 4, 40, 60, marks=pytest.mark.verify),
]


@pytest.mark.parametrize(("workers", "concurrent", "callers", "warm_up_s", "measured_s"), IN_FLIGHT)
def test_a_crowd_uses_the_calls_in_flight_that_it_may_have(
    workers, concurrent, callers, warm_up_s, measured_s
) -> None:
    """Writes that one key of DynamoDB takes, at most 100 a second; the limit is kept, and 90 % of it used."""
    crowd = Crowd(RateLimit("a", concurrent=concurrent), workers, callers, warm_up_s, measured_s)
    crowd.run()
    assert crowd.writes_per_s <= 100
    assert crowd.units_per_s <= 1_000
    assert crowd.fleet.most_in_flight() <= concurrent
    assert crowd.mean_in_flight >= 0.9 * concurrent


def test_the_window_grows_with_failures_and_shrinks_with_success() -> None:
    """A worker alone hardly waits; one whose looks are in vain waits for up to two minutes."""
    window = ContentionWindow("a")
    assert window.granted(2.0) <= FIRST_S
    assert window.conflict() <= 0.5
    for _ in range(60):
        window.taken()
    assert window.window_s == LONGEST_S
    window.granted(2.0)
    assert window.window_s == LONGEST_S / 2


def test_writes_that_meet_make_the_next_looks_rare() -> None:
    """One conflict is enough: the window is no longer that of a worker alone."""
    window = ContentionWindow("a")
    window.conflict()
    assert window.window_s == LEAST_CONFLICT_S * CONFLICT_FACTOR


def test_a_limit_that_is_not_used_up_ends_long_waits() -> None:
    """A fleet that has shrunk leaves long windows behind."""
    window = ContentionWindow("a")
    for _ in range(60):
        window.taken()
    for _ in range(3):
        window.granted(0.05)
    assert window.window_s < 1


def test_two_workers_wait_differently() -> None:
    """Their names seed the waits."""
    assert ContentionWindow("a").conflict() != ContentionWindow("b").conflict()
