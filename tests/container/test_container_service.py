"""Containers without faults: health, a whole run, and the tightest limits."""

import urllib.error
import urllib.request
from typing import Any

import pytest

from tests.acceptance.support import people
from tests.container.engine import ROOT
from tests.container.support import ROOMY, AgentContainer, Fleet, ask

pytestmark = pytest.mark.docker

SECOND_NS = 1_000_000_000

RESTRICTED = {
    "read_only": True,
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges"],
    "pids_limit": 256,
}
"""A read-only root, no capabilities, and no way to gain any."""


def test_health(fleet: Fleet) -> None:
    """The health check turns healthy, /livez and /readyz answer from outside, and a hang is detected."""
    service = fleet.serve(healthcheck={"interval": SECOND_NS})
    service.until(lambda: service.state["Health"]["Status"] == "healthy", "a healthy container")
    with urllib.request.urlopen(service.url("/livez")) as reply:
        assert reply.status == 200

    def ready() -> dict[str, Any]:
        try:
            return dict(ask(service.url("/readyz")))
        except urllib.error.HTTPError:
            return {}

    said = service.until(ready, "a ready service")
    assert said["ready"] is True
    assert set(said["roles"]) >= {"splitter", "worker", "aggregator"}

    assert service.run("rowfleet", "healthcheck") == (0, "")
    service.container.kill("SIGSTOP")
    code, output = service.run("rowfleet", "healthcheck")
    assert (code, output) == (1, "rowfleet: no answer on 127.0.0.1:8080/livez: timed out\n")
    service.container.kill("SIGCONT")
    assert service.run("rowfleet", "healthcheck") == (0, "")
    assert service.stop() == 0


def test_a_file_through_the_shipped_image(fleet: Fleet) -> None:
    """All roles in one container finish a file with the shipped mapping and tool.

    The container has a read-only root filesystem and no capability.
    """
    content = (ROOT / "examples/classify/definitions.csv").read_text("utf-8")
    service = fleet.serve(working_dir="/srv/rowfleet", env=ROOMY, **RESTRICTED)
    batch = fleet.submit("classification-tool", content)

    output = fleet.check_complete(batch, content)

    assert all(row["output_category"] for row in output)
    assert service.run("touch", "/srv/rowfleet/x")[0] == 1
    assert service.stop() == 0


def test_a_quarter_of_a_cpu(fleet: Fleet, agent: AgentContainer) -> None:
    """Each role runs with the limits of the smallest Fargate task."""
    small = {"nano_cpus": SECOND_NS // 4, "mem_limit": "512m", **RESTRICTED}
    services = [fleet.serve("--roles", role, **small) for role in ("splitter", "worker", "aggregator")]
    content = people(60)
    batch = fleet.submit("up", content)

    fleet.check_capitals(batch, content)
    assert [service.stop() for service in services] == [0, 0, 0]
