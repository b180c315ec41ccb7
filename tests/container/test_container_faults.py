"""Containers that are stopped, killed, out of memory, frozen or cut off: every row is counted once."""

from collections.abc import Iterator

import pytest

from tests.acceptance.support import people
from tests.container.support import ROOMY, AgentContainer, Fleet, Service

pytestmark = pytest.mark.docker

ROWS = 24
CONTENT = people(ROWS)
EVERYONE = [f"person {n}" for n in range(1, ROWS + 1)]


class Scene:
    """A worker that holds some rows of a batch, since the agent does not reply yet."""

    def __init__(
        self, fleet: Fleet, agent: AgentContainer, env: dict[str, str] | None = None, rows: int = 4
    ) -> None:
        self.fleet, self._agent = fleet, agent
        self.path, self.other = (f"/{fleet.names.prefix}/{name}" for name in ("held", "free"))
        agent.hold(self.path)
        self.others = fleet.serve("--roles", "splitter,aggregator")
        self.worker = fleet.serve("--roles", "worker", agent=self.path, env=env)
        self.batch = fleet.submit("up", CONTENT)
        self.worker.until(lambda: len(self.held()) == rows, f"{rows} rows at the agent")

    def held(self) -> list[str]:
        """The rows that the worker has sent to the agent."""
        return self._agent.names(self.path)

    def asked_by_replacement(self) -> list[str]:
        """The rows that the replacement has sent to the agent."""
        return self._agent.names(self.other)

    def release(self) -> None:
        """Let the agent reply to the worker."""
        self._agent.release(self.path)

    def replacement(self) -> Service:
        """Start another worker, to which the agent replies at once."""
        return self.fleet.serve("--roles", "worker", agent=self.other)

    def check(self) -> None:
        """Check that the batch is complete."""
        self.fleet.check_capitals(self.batch, CONTENT)


@pytest.fixture
def scene(fleet: Fleet, agent: AgentContainer) -> Iterator[Scene]:
    """A batch under way."""
    made = Scene(fleet, agent)
    yield made
    made.release()


def test_a_stop_waits_for_held_rows(scene: Scene) -> None:
    """After SIGTERM it finishes the rows at the agent and begins no others. A new container does the rest."""
    scene.worker.container.kill("SIGTERM")
    scene.release()
    assert scene.worker.wait() == 0
    assert scene.worker.events("service_stopped")
    held = scene.held()
    assert len(held) == 4
    assert scene.fleet.counted(scene.batch) == (4, 0)

    replacement = scene.replacement()
    scene.check()
    assert sorted(held + scene.asked_by_replacement()) == sorted(EVERYONE)
    assert [scene.others.stop(), replacement.stop()] == [0, 0]


def test_a_drain_ends_before_the_engine_kills(fleet: Fleet, agent: AgentContainer) -> None:
    """If the agent never replies, held rows are released within the drain time; exit code 0, not 137."""
    scene = Scene(fleet, agent, {"ROWFLEET_DRAIN_TIMEOUT_S": "6"})
    assert scene.worker.stop() == 0
    assert scene.worker.events("drain_gave_up")[0]["given_back"] == 4
    scene.replacement()
    scene.check()
    scene.release()


def test_a_container_that_is_killed(scene: Scene) -> None:
    """After SIGKILL its rows are redelivered to another container; each row is there once."""
    scene.worker.container.kill()
    assert scene.worker.wait() == 137
    scene.replacement()
    scene.check()
    assert set(scene.asked_by_replacement()) == set(EVERYONE)


def test_a_container_out_of_memory(fleet: Fleet) -> None:
    """The kernel kills the worker in the middle of the batch; a worker with more memory finishes it."""
    fleet.serve("--roles", "splitter,aggregator")
    limits = {"mem_limit": "256m", "memswap_limit": "256m"}
    worker = fleet.serve("--roles", "worker", env={"HUNGRY_AT": "13"}, **limits)
    batch = fleet.submit("hungry", CONTENT)
    assert worker.wait() == 137
    assert worker.state["OOMKilled"]
    assert fleet.state(batch) == "RUNNING"
    assert fleet.counted(batch)[0] < ROWS

    fleet.serve("--roles", "worker")
    fleet.check_capitals(batch, CONTENT)


def test_a_container_that_freezes_and_thaws(scene: Scene) -> None:
    """While it is paused its leases end and another worker does its rows. Resumed, it commits nothing."""
    scene.worker.container.pause()
    replacement = scene.replacement()
    scene.check()
    assert set(scene.asked_by_replacement()) == set(EVERYONE)
    assert replacement.stop() == 0

    scene.release()
    scene.worker.container.unpause()
    assert scene.worker.stop() == 0
    scene.check()
    assert not scene.worker.events("handler_crashed")


def test_a_container_that_is_cut_off_and_comes_back(fleet: Fleet, agent: AgentContainer) -> None:
    """Without a network it logs the outage and pauses; with the network back it finishes the batch.

    Connections break silently, so a short read time-out must end the long polls.
    """
    scene = Scene(fleet, agent, ROOMY | {"ROWFLEET_AWS__READ_TIMEOUT_S": "2"}, rows=ROWS)
    network = fleet.network._network
    network.disconnect(scene.worker.container)
    scene.release()
    scene.worker.until_event("queue_trouble")
    assert scene.worker.run("rowfleet", "healthcheck") == (0, "")

    network.connect(scene.worker.container)
    scene.check()
    scene.worker.until_event("queue_recovered")
    assert scene.worker.stop() == 0
