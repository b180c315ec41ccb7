"""Fixtures: the installed command in a folder of its own, alone or on the shared endpoint, and an agent."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from service.adapters.aws.provision.queues import QueueOptions
from service.adapters.aws.provision.resources import ResourceNames
from tests.acceptance.support import Cli, Deployment, HttpAgent, serve_agent, stop_fork_server


@pytest.fixture(scope="session", autouse=True)
def forks() -> Iterator[None]:
    """End the fork server with the session."""
    yield
    stop_fork_server()


@pytest.fixture
def agent() -> Iterator[HttpAgent]:
    """The agent that the folder's mapping calls."""
    with serve_agent() as made:
        yield made


@pytest.fixture
def cli(tmp_path: Path, agent: HttpAgent) -> Iterator[Cli]:
    """A folder with the mapping `up`, which calls the agent."""
    made = Cli(tmp_path, {"AGENT_URL": agent.url})
    made.mapping()
    yield made
    agent.release_all()
    made.close()


@pytest.fixture
def deployment(tmp_path: Path, endpoint: str, names: ResourceNames, agent: HttpAgent) -> Iterator[Deployment]:
    """A folder with the mapping `up` and resources of its own; no message becomes a dead letter."""
    made = Deployment(tmp_path, {"AGENT_URL": agent.url}, endpoint, names)
    made.mapping()
    made.provision(QueueOptions(max_receives=1_000))
    yield made
    agent.release_all()
    made.close()
