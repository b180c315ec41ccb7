"""The parts of each role, as the settings make them."""

from contextlib import AsyncExitStack
from types import SimpleNamespace

import pytest

from service.app.events.receivers import Receivers
from service.app.settings import load_settings
from service.app.wiring.builder import RoleBuilder, open_committer
from service.runtime.consumer import Consumer


@pytest.mark.parametrize(
    ("role", "consumers", "can_resume"),
    [("splitter", 1, True), ("worker", 1, False), ("aggregator", 1, True), ("sweeper", 0, True)],
)
async def test_only_calls_of_agents_have_the_time_of_the_drain(lab, role, consumers, can_resume):
    """A call is paid for and cannot be resumed. All other work is given to another process at once.

    The sweeper has no consumer: its drains stop at once as well.
    """
    async with AsyncExitStack() as stack:
        builder = RoleBuilder(
            ports=lab.ports,
            settings=load_settings({}),
            catalog=SimpleNamespace(definition=lab.find),
            completion=lab.completion,
            committer=lab.committer(),
            worker_name="w1",
            receivers=Receivers((), None),
            stack=stack,
        )
        found = [part for part in builder.parts(role) if isinstance(part, Consumer)]
    assert [part._limits.can_resume for part in found] == [can_resume] * consumers


async def test_workers_count_in_different_slots(lab):
    """Two workers of a fleet seldom write the same counter; every slot is one that the batch is read with."""
    settings = load_settings({})
    slots = [open_committer(lab.ports, settings, lab.completion, f"worker-{n}")._slot for n in range(100)]
    assert set(slots) <= set(range(settings.commit.slots))
    assert len(set(slots)) > settings.commit.slots / 2
