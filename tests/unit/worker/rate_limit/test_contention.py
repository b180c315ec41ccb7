"""Many workers at one record: few writes, the limit kept, and used."""

from __future__ import annotations

import pytest

from service.mapping.definition import RateLimit
from service.worker.rate_limit.contention import FIRST_S, LONGEST_S, ContentionWindow
from service.worker.rate_limit.gcra import SAFETY_SHARE
from tests.unit.worker.rate_limit.limited_fleet import Fleet

WARM_UP_S = 40
MEASURED_S = 60


def crowd(workers: int, per_minute: int, callers: int) -> tuple[Fleet, float]:
    """A fleet whose workers join within ten seconds, and its writes a second after the warm-up."""
    fleet = Fleet(RateLimit("a", requests_per_minute=per_minute))
    for _ in range(workers):
        fleet.join(callers=callers)
        fleet.run(10 / workers)
    fleet.run(WARM_UP_S - 10)
    before = fleet.table.swaps
    fleet.run(MEASURED_S)
    fleet.close()
    return fleet, (fleet.table.swaps - before) / MEASURED_S


CROWDS = [
    pytest.param(200, 6_000, 4),
    pytest.param(1_000, 600, 4, marks=pytest.mark.verify),
    pytest.param(1_000, 6_000, 8, marks=pytest.mark.verify),
]


@pytest.mark.parametrize(("workers", "per_minute", "callers"), CROWDS)
def test_a_crowd_writes_little_and_uses_its_limit(workers, per_minute, callers) -> None:
    """At most 100 writes a second, no sliding minute above the limit, and 90 % of the limit used."""
    fleet, writes_per_s = crowd(workers, per_minute, callers)
    end = fleet.loop.time()
    used = fleet.begun(end - MEASURED_S, end) / (per_minute / 60 * MEASURED_S)
    assert writes_per_s <= 100
    assert fleet.most_begun(60) <= per_minute
    assert used >= 0.9 * SAFETY_SHARE


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
