"""Roles that wait for what they need."""

import asyncio

import pytest
from structlog.testing import capture_logs

from service.adapters.memory import MemoryClock, MemoryQueue
from service.app.roles import Role, ServiceRoles
from service.catalog.files import MappingFiles
from service.catalog.live import LiveCatalog
from service.domain.errors import AccessError, ConfigError, RetryableError
from service.domain.ports import OutgoingMessage
from service.runtime.consumer import ConsumeLimits, Consumer
from service.runtime.incidents import REPEAT_S
from service.runtime.metrics import Metrics
from service.runtime.shutdown import until_stopped


class Laboratory:
    """A role on a queue in memory; `missing` maps a need to the error that it raises."""

    def __init__(self, *needs):
        self.clock, self.metrics, self.stop = MemoryClock(), Metrics(), asyncio.Event()
        self.queue = MemoryQueue("q", self.clock)
        self.handled = []
        self.gate = asyncio.Event()
        self.missing = {}
        self.asked = []
        consumer = Consumer(
            self.queue,
            self.handle,
            ConsumeLimits(poll_wait_s=1, receive_linger_s=0),
            self.clock,
            self.metrics,
        )
        self.role = Role("worker", [consumer], [self.need(name) for name in needs], self.clock)

    def need(self, name):
        """A need that is met unless it is in `missing`."""

        async def check():
            self.asked.append(name)
            if name in self.missing:
                raise self.missing[name]

        return check

    async def handle(self, delivery):
        """Hold a message until the gate is opened."""
        self.handled.append(delivery.message.body)
        await self.gate.wait()


async def until(condition):
    """Let everything run until the condition holds."""
    while not condition():  # noqa: ASYNC110 -- whoever changes it runs in between
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    "error", [ConfigError("queue q does not exist"), AccessError("denied"), RetryableError("no answer")]
)
async def test_a_role_waits_for_what_it_needs_and_then_begins(error):
    """Nothing is received before; the reason is its trouble; it begins when the cause is gone."""
    lab = Laboratory("queue", "table")
    lab.missing["table"] = error
    await lab.queue.send([OutgoingMessage("one")])
    running = asyncio.create_task(lab.role.run(lab.stop))
    await until(lambda: lab.role.problem == str(error))
    await lab.clock.advance(100)
    assert lab.handled == []
    assert lab.role.problem == str(error)
    lab.missing.clear()
    await lab.clock.advance(30)
    await until(lambda: lab.handled)
    assert lab.role.problem == ""
    assert lab.role.held == 1
    lab.gate.set()
    lab.stop.set()
    await lab.clock.advance(5)
    await running


async def test_needs_are_tried_again_with_a_back_off_and_told_rarely():
    """A day of trouble is some thousand calls, and a line every ten minutes; the end is a line too."""
    lab = Laboratory("queue")
    lab.missing["queue"] = ConfigError("queue q does not exist: run `rowfleet setup`")
    with capture_logs() as logs:
        running = asyncio.create_task(lab.role.run(lab.stop))
        await lab.clock.advance(3 * REPEAT_S)
        assert 60 <= len(lab.asked) <= 80
        waits = [entry for entry in logs if entry["event"] == "role_waits"]
        assert len(waits) == 3
        assert waits[0]["role"] == "worker"
        assert "rowfleet setup" in waits[0]["reason"]
        lab.missing.clear()
        await lab.clock.advance(30)
        await until(lambda: "role_waits_over" in [entry["event"] for entry in logs])
    lab.stop.set()
    await lab.clock.advance(5)
    await running


async def test_a_need_that_was_met_is_not_asked_for_again():
    """Only what is missing is tried again."""
    lab = Laboratory("queue", "table")
    lab.missing["table"] = AccessError("denied")
    running = asyncio.create_task(lab.role.run(lab.stop))
    await lab.clock.advance(100)
    assert lab.asked.count("queue") == 1
    lab.stop.set()
    await running


async def test_a_role_that_waits_ends_at_once():
    """SIGTERM is not kept waiting by an endpoint that does not answer."""
    lab = Laboratory()
    never = asyncio.Event()
    role = Role(
        "worker",
        [Consumer(lab.queue, lab.handle, ConsumeLimits(), lab.clock, lab.metrics)],
        [never.wait],
        lab.clock,
    )
    running = asyncio.create_task(role.run(lab.stop))
    await lab.clock.advance(5)
    lab.stop.set()
    await running


async def test_a_bug_while_waiting_is_not_hidden():
    """An error that is none of ours ends the role."""
    lab = Laboratory("queue")
    lab.missing["queue"] = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        await lab.role.run(lab.stop)


async def test_work_that_is_stopped_cleans_up_first():
    """`until_stopped` waits for the end of what it cancels; work that ends by itself raises what it does."""
    stop, cleaned = asyncio.Event(), []

    async def work():
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.append(1)

    running = asyncio.create_task(until_stopped(stop, work()))
    await asyncio.sleep(0)
    stop.set()
    await running
    assert cleaned == [1]


async def test_a_process_that_drains_is_not_ready():
    """Every role says so from the moment it is told to stop; the mappings are a splitter's matter only."""
    lab = Laboratory("queue")

    async def read():
        return MappingFiles()

    catalog = LiveCatalog(read, lab.clock, lab.metrics, refresh_s=30)
    await catalog.load()
    service = ServiceRoles({"worker": lab.role}, catalog, lab.stop)
    assert service.role_problems() == {"worker": "has not received yet"}
    assert service.other_problems() == {}
    assert service.count_problems() == 1
    lab.stop.set()
    assert service.role_problems() == {"worker": "draining"}
    splitting = ServiceRoles({"splitter": lab.role, "worker": lab.role}, catalog, lab.stop)
    assert "no mapping file" in splitting.other_problems()["mappings"]
    assert (splitting.count_problems(), splitting.held()) == (3, 0)
