"""The reading of a fleet."""

from dataclasses import replace

import pytest

from service.adapters.memory import MemoryFleet
from service.domain.errors import AccessError, ConfigError, RetryableError
from service.domain.model import BatchView, Commit, Counts, OutboxKind, OutboxRecord, State
from service.domain.ports import OutgoingMessage, TaskCounts
from service.mapping.definition import RateLimit
from service.scaler import reader as reader_module
from service.scaler.reader import FleetReader
from service.scaler.reading import QueueBacklog
from service.scaler.target_limits import TargetLimits

SERVICES = {"worker": TaskCounts(3, 2, 1), "control": TaskCounts(1, 1)}
LIMITED = """
target: {type: tool, name: demo, invoke: python, function: "demo:ask"}
output_mapping: {type: tool, extraction_methods: [{method: direct, field_mappings: {answer: $.answer}}]}
execution: {max_concurrency: 8}
rate_limit: {name: shared, concurrent: 40}
"""


@pytest.fixture
def fleet():
    return MemoryFleet(SERVICES)


@pytest.fixture
def reader(lab, fleet):
    return FleetReader(lab.ports, fleet, SERVICES, 64)


async def test_a_fleet_at_rest(lab, reader):
    """Nothing but the tasks of the services."""
    reading = await reader.read()
    assert (reading.now_ms, reading.backlog) == (lab.clock.now_ms(), QueueBacklog())
    assert (list(reading.batches), reading.pending) == ([], 0)
    assert reading.tasks == SERVICES


async def test_messages_are_counted_wherever_they_are(lab, reader):
    """Those that wait, are in flight or are delayed; dead letters of all three queues together."""
    await lab.send(lab.ingest, "1", "2")
    await lab.rows.send([OutgoingMessage("x", delay_s=60)])
    await lab.send(lab.rows, "y")
    await lab.rows.receive(1, wait_s=0, visibility_s=60)
    await lab.send(lab.aggregate, "1")
    for queue in lab.dead.values():
        await lab.send(queue, "1")
    assert (await reader.read()).backlog == QueueBacklog(ingest=2, rows=2, aggregate=1, dead=3)


async def test_unfinished_batches_come_with_their_counters(lab, reader):
    """Those that have ended do not come."""
    running = await lab.batch(9)
    await lab.batch(None, execution_id="e2")
    await lab.batch(1, execution_id="e3", state=State.SUCCEEDED)
    await lab.table.commit(Commit(running.batch_id, 1, 1, 0, (lab.outcome(1),), "t" * 36, running.ttl))
    found = {each.view.batch.execution_id: each for each in (await reader.read()).batches}
    assert found.keys() == {"e1", "e2"}
    assert found["e1"].view == BatchView(running, Counts(succeeded=1, agent_ms=5))
    assert found["e1"].target == TargetLimits("target of demo", 64)


async def test_the_limits_of_a_batch_are_those_of_its_mapping(lab, reader, define):
    """Of the definition that is stored with it."""
    await lab.batch(9, definition=define(LIMITED), max_concurrency=5, mapping_digest="d")
    (found,) = (await reader.read()).batches
    assert found.target == TargetLimits("rate limit shared", 5, RateLimit("shared", concurrent=40))


async def test_a_mapping_is_read_once(lab, reader):
    """Its digest is its version, so it never changes."""
    reads = 0
    definition = lab.table.definition

    async def counted(*arguments):
        nonlocal reads
        reads += 1
        return await definition(*arguments)

    lab.table.definition = counted
    for name in ("e1", "e2"):
        await lab.batch(9, execution_id=name)
        await reader.read()
    assert reads == 1


async def test_a_mapping_of_another_version_limits_nothing(lab, reader, define):
    """It cannot be compiled here."""
    foreign = replace(define(LIMITED), text='{"target": {"type": "future"}}')
    made = await lab.batch(None, execution_id="e2")
    await lab.table.open(replace(made, execution_id="e4", mapping_digest="other"), foreign.text)
    found = {each.view.batch.execution_id: each.target for each in (await reader.read()).batches}
    assert found["e4"] == TargetLimits("target of demo", 64)


async def test_more_batches_than_are_read_count_with_all_their_rows(lab, reader, monkeypatch):
    """A look stays short, whatever is under way."""
    monkeypatch.setattr(reader_module, "MAX_VIEWS", 0)
    await lab.batch(9)
    (found,) = (await reader.read()).batches
    assert (found.view.batch.total, found.view.counts) == (9, Counts())


async def test_a_batch_that_is_held_costs_no_read(lab, reader):
    """Its rows are not served, so neither its counters nor its limits matter."""
    made = await lab.batch(9, state=State.PAUSED)
    read, reads = lab.table.read, []

    async def counted(batch_id):
        reads.append(batch_id)
        return await read(batch_id)

    lab.table.read = counted
    (found,) = (await reader.read()).batches
    assert (found.view, reads) == (BatchView(made, Counts()), [])


async def test_what_is_to_be_delivered(lab, reader):
    """Events and waiting tasks; not those that have expired, which DynamoDB deletes late."""
    now_s = lab.clock.now_ms() // 1000
    for number, (kind, ttl) in enumerate(
        [(OutboxKind.EVENT, 0), (OutboxKind.TASK, now_s + 9), (OutboxKind.EVENT, now_s)]
    ):
        await lab.table.add(OutboxRecord(kind, "demo#e1", f"r{number}", "{}", ttl=ttl))
    assert (await reader.read()).pending == 2


@pytest.mark.parametrize("error", [RetryableError("throttled"), AccessError("denied")])
@pytest.mark.parametrize("name", ["batches", "pending"])
async def test_without_all_values_there_is_no_reading(lab, reader, name, error):
    """Of half of the values a decision might end tasks that are needed."""

    async def failing(*_, **__):
        raise error

    setattr(lab.table, name, failing)
    with pytest.raises(type(error), match=str(error)):
        await reader.read()


async def test_a_service_that_does_not_exist(lab, fleet):
    """It may be one of another cluster."""
    with pytest.raises(ConfigError, match="splitter"):
        await FleetReader(lab.ports, fleet, ["splitter"], 64).read()
