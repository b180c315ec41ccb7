"""One network with an AWS endpoint and an agent for the session, and a deployment for each test."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network

from service.adapters.aws.provision.queues import QueueOptions
from service.adapters.aws.provision.resources import ResourceNames
from tests.acceptance.support import until
from tests.container.engine import endpoint_image, engine, rowfleet_image
from tests.container.support import AGENT_PORT, ENDPOINT_PORT, AgentContainer, Fleet, ask


@pytest.fixture(scope="session")
def image() -> str:
    """The id of rowfleet's image."""
    return rowfleet_image()


@pytest.fixture(scope="session")
def network() -> Iterator[Network]:
    """A network on which containers find each other by name."""
    engine()
    with Network() as made:
        yield made


@pytest.fixture(scope="session")
def aws(network: Network) -> Iterator[str]:
    """The URL of an AWS endpoint, which services reach as `aws`."""
    made = DockerContainer(endpoint_image(), ports=[ENDPOINT_PORT])
    made.with_network(network).with_network_aliases("aws")
    yield from _published(made, ENDPOINT_PORT, "/_ministack/health")


@pytest.fixture(scope="session")
def agent(network: Network) -> Iterator[AgentContainer]:
    """The agent, which services reach as `agent`."""
    made = DockerContainer(endpoint_image(), ports=[AGENT_PORT]).with_command("python /agent.py")
    made.with_volume_mapping(str(Path(__file__).with_name("agent.py")), "/agent.py", "ro")
    made.with_network(network).with_network_aliases("agent")
    for url in _published(made, AGENT_PORT, "/"):
        yield AgentContainer(url)


@pytest.fixture
def fleet(tmp_path: Path, image: str, network: Network, aws: str, names: ResourceNames) -> Iterator[Fleet]:
    """Resources of the test's own on the endpoint, and a starter of containers that use them."""
    made = Fleet(tmp_path, aws, names, image, network)
    made.provision(QueueOptions(visibility_s=3, max_receives=5))
    yield made
    made.close()


@pytest.fixture
def once(image: str) -> Callable[..., tuple[int, str]]:
    """Run a container to its end, without a network. Returns exit code and output."""

    def run(*command: str, **options: Any) -> tuple[int, str]:
        container = engine().containers.run(image, list(command), detach=True, network_mode="none", **options)
        try:
            code = container.wait(timeout=600)["StatusCode"]
            return int(code), container.logs().decode()
        finally:
            container.remove(force=True)

    return run


def _published(made: DockerContainer, port: int, path: str) -> Iterator[str]:
    with made as running:
        url = f"http://127.0.0.1:{running.get_exposed_port(port)}"

        def answers() -> bool:
            try:
                ask(url + path)
            except OSError:
                return False
            return True

        until(answers, f"an answer of {url}")
        yield url
