"""The scaler's look: read, decide, remember, change."""

import asyncio

import pytest
from structlog.testing import capture_logs

from service.adapters.memory import MemoryFleet
from service.domain.errors import RetryableError
from service.domain.model import State
from service.domain.ports import TaskCounts
from service.runtime.metrics import Metrics
from service.scaler.reader import FleetReader
from service.scaler.scaler import RECORD, Scaler
from tests.unit.scaler.readings import LIMITS

MINUTE_S = 60.0


class ScalerLab:
    """A scaler of a worker and a control service, and the metric lines that it has written."""

    def __init__(self, lab):
        self.lab = lab
        self.fleet = MemoryFleet({"worker": TaskCounts(0), "control": TaskCounts(0)})
        self.lines = []
        self.scaler = self.another("a")

    def another(self, by):
        """Another scaler of the same deployment."""
        lab = self.lab
        reader = FleetReader(lab.ports, self.fleet, LIMITS.services, LIMITS.calls_per_task)
        metrics = Metrics({"service": "rowfleet", "role": "scaler"}, self.lines.append)
        return Scaler(reader, lab.table, self.fleet, lab.clock, metrics, LIMITS, by=by)

    async def minutes(self, number):
        """Look once a minute; tasks have started by the next look."""
        for _ in range(number):
            self.fleet.settle()
            await self.lab.pass_time(MINUTE_S)
            await self.scaler.look()


@pytest.fixture
def scaling(lab):
    return ScalerLab(lab)


async def test_a_job_wakes_the_fleet_and_the_end_of_its_batch_ends_it(lab, scaling):
    """One worker and control first, then a task for each 500 rows, then none."""
    await lab.send(lab.ingest, lab.job())
    await scaling.minutes(1)
    assert scaling.fleet.changes == [("worker", 1), ("control", 1)]
    await lab.waiting(lab.ingest)
    lab.ingest._entries.clear()
    made = await lab.batch(1_700)
    await lab.send(lab.rows, *[str(number) for number in range(1_700)])
    await scaling.minutes(1)
    assert scaling.fleet.changes[2:] == [("worker", 4)]
    lab.rows._entries.clear()
    await lab.table.move(made, expected=State.RUNNING, to=State.SUCCEEDED, now="2026-11-23T07:00:00.000Z")
    await scaling.minutes(4)
    assert scaling.fleet.changes[3:] == []
    await scaling.minutes(1)
    assert scaling.fleet.changes[3:] == [("worker", 1)]
    await scaling.minutes(5)
    assert scaling.fleet.changes[4:] == [("worker", 0), ("control", 0)]


async def test_at_rest_nothing_is_written(lab, scaling):
    """Neither the record, after the first look, nor metrics."""
    await scaling.minutes(1)
    version = (await lab.table.record(RECORD)).version
    await scaling.minutes(3)
    assert (await lab.table.record(RECORD)).version == version == 1
    assert scaling.lines == []
    assert scaling.fleet.changes == []


async def test_metrics_of_a_fleet_that_is_not_at_rest(lab, scaling):
    """The desired tasks, the unfinished batches and the rows that wait."""
    await lab.batch(3)
    await lab.send(lab.rows, "1", "2")
    await scaling.minutes(1)
    (line,) = scaling.lines
    for part in (
        '"desired_tasks_worker":[1',
        '"desired_tasks_control":[1',
        '"unfinished_batches":[1',
        '"backlog":[2',
    ):
        assert part in line


async def test_what_a_decision_was_made_from_is_logged(lab, scaling):
    """Once a look, but for those at rest."""
    with capture_logs() as lines:
        await scaling.minutes(1)
    assert lines == []
    await lab.send(lab.ingest, lab.job())
    with capture_logs() as lines:
        await scaling.minutes(1)
    assert [line["event"] for line in lines] == ["service_scaled", "service_scaled", "fleet_looked_at"]
    assert lines[2]["ingest"] == 1
    assert lines[2]["services"]["worker"] == {
        "running": 0, "desired": 1, "demand": 1, "reasons": ["messages in ingest: 1"],
    }  # fmt: skip


async def test_a_dry_run_changes_nothing(lab, scaling):
    """It says what would be changed."""
    await lab.send(lab.ingest, lab.job())
    look = await scaling.scaler.look(is_dry_run=True)
    assert look.decision.services["worker"].desired == 1
    assert (look.is_carried_out, look.reason) == (False, "a dry run")
    assert scaling.fleet.changes == scaling.lines == []
    assert (await lab.table.record(RECORD)).version == 0


async def test_two_scalers_at_once(lab, scaling):
    """One of them changes the fleet, the other one nothing."""
    await lab.send(lab.ingest, lab.job())
    looks = await asyncio.gather(scaling.scaler.look(), scaling.another("b").look())
    assert sorted(look.reason for look in looks) == ["", "another scaler has decided at the same time"]
    assert scaling.fleet.changes == [("worker", 1), ("control", 1)]


async def test_a_look_that_took_too_long_changes_nothing(lab, scaling):
    """Another one has looked since."""
    await lab.send(lab.ingest, lab.job())
    read = lab.table.pending

    async def slow(*arguments, **more):
        await lab.clock.sleep(LIMITS.stale_s + 1)
        return await read(*arguments, **more)

    lab.table.pending = slow
    looking = asyncio.create_task(scaling.scaler.look())
    await lab.until(looking.done, step_s=1.0)
    assert looking.result().reason == "the look took too long"
    assert scaling.fleet.changes == []


async def test_a_change_that_fails_is_made_by_the_next_look(lab, scaling):
    """The memory is of what was wanted, not of what was set."""
    await lab.send(lab.ingest, lab.job())
    set_desired = scaling.fleet.set_desired

    async def failing(*_):
        raise RetryableError("throttled")

    scaling.fleet.set_desired = failing
    with pytest.raises(RetryableError, match="throttled"):
        await scaling.scaler.look()
    scaling.fleet.set_desired = set_desired
    await scaling.minutes(1)
    assert scaling.fleet.changes == [("worker", 1), ("control", 1)]


async def test_a_record_that_makes_no_sense_is_replaced(lab, scaling):
    """What runs then counts as wanted until now."""
    scaling.fleet.services["worker"] = TaskCounts(4, 4)
    await lab.table.swap(RECORD, "nonsense", version=0, ttl=2_000_000_000)
    await scaling.minutes(5)
    assert scaling.fleet.changes == []
    await scaling.minutes(1)
    assert scaling.fleet.changes == [("worker", 1)]
