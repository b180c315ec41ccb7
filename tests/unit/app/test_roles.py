"""Roles that wait for their preconditions."""

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
from service.runtime.tasks import until_stopped


class RoleLab:
    """A role on a queue in memory. `missing` maps a precondition to the error that it raises."""

    def __init__(self, *preconditions):
        self.clock, self.metrics, self.stop = MemoryClock(), Metrics(), asyncio.Event()
        self.queue = MemoryQueue("q", self.clock)
        self.handled = []
        self.may_finish = asyncio.Event()
        self.missing = {}
        self.checked = []
        consumer = Consumer(
            self.queue,
            self.handle,
            ConsumeLimits(poll_wait_s=1, receive_linger_s=0),
            self.clock,
            self.metrics,
        )
        self.role = Role(
            "worker", [consumer], [self.precondition(name) for name in preconditions], self.clock
        )

    def precondition(self, name):
        """A precondition that is met unless it is in `missing`."""

        async def check():
            self.checked.append(name)
            if name in self.missing:
                raise self.missing[name]

        return check

    async def handle(self, delivery):
        """Hold a message until `may_finish` is set."""
        self.handled.append(delivery.message.body)
        await self.may_finish.wait()


async def until(condition):
    """Let all tasks run until the condition holds."""
    while not condition():  # noqa: ASYNC110 -- the tasks that change it run in between
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    "error", [ConfigError("queue q does not exist"), AccessError("denied"), RetryableError("no answer")]
)
async def test_a_role_waits_for_its_preconditions(error):
    """Before its preconditions are met a role receives nothing and reports the error as its problem."""
    lab = RoleLab("queue", "table")
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
    lab.may_finish.set()
    lab.stop.set()
    await lab.clock.advance(5)
    await running


async def test_preconditions_are_retried_with_a_back_off_and_logged_rarely():
    """A missing precondition is checked with a back-off, and logged every ten minutes and when it is met."""
    lab = RoleLab("queue")
    lab.missing["queue"] = ConfigError("queue q does not exist: run `rowfleet setup`")
    with capture_logs() as logs:
        running = asyncio.create_task(lab.role.run(lab.stop))
        await lab.clock.advance(3 * REPEAT_S)
        assert 60 <= len(lab.checked) <= 80
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


async def test_a_met_precondition_is_not_checked_again():
    """Only the missing precondition is checked again."""
    lab = RoleLab("queue", "table")
    lab.missing["table"] = AccessError("denied")
    running = asyncio.create_task(lab.role.run(lab.stop))
    await lab.clock.advance(100)
    assert lab.checked.count("queue") == 1
    lab.stop.set()
    await running


async def test_a_waiting_role_stops_at_once():
    """A role stops at once while a precondition waits for an endpoint that does not respond."""
    lab = RoleLab()
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
    """An unexpected exception of a precondition ends the role."""
    lab = RoleLab("queue")
    lab.missing["queue"] = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        await lab.role.run(lab.stop)


async def test_stopped_work_cleans_up_first():
    """`until_stopped` waits until the cancelled work has ended."""
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


async def test_a_draining_process_is_not_ready():
    """Every role reports "draining" after the stop; mappings are reported by a splitter only."""
    lab = RoleLab("queue")

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
