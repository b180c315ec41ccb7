"""Containers of the service on one network with an AWS endpoint and an agent."""

import csv
import io
import json
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network

from service.adapters.aws.provision.resources import ResourceNames
from service.cli.embedded import ACCESS_KEY, REGION, SECRET_KEY
from tests.acceptance.support import Deployment, until

CONFIG = Path(__file__).with_name("config")
ENDPOINT_PORT, AGENT_PORT, HEALTH_PORT = 4566, 8080, 8080
STOP_TIMEOUT_S = 60
"""Time between SIGTERM and SIGKILL; ECS allows up to 120 s."""

ROOMY = {"ROWFLEET_WORKER__MAX_INFLIGHT_ROWS": "64", "ROWFLEET_WORKER__MAX_HELD_ROWS": "1000"}
"""A worker that holds many rows; the default of these tests is four."""

T = TypeVar("T")


def ask(url: str, method: str = "GET") -> Any:
    """Send a request to a server on this machine. Return the JSON of its response."""
    with urllib.request.urlopen(urllib.request.Request(url, method=method)) as reply:
        return json.load(reply)


class AgentContainer:
    """The agent, called through its published port. Each service has a path of its own."""

    def __init__(self, url: str) -> None:
        self._url = url

    def hold(self, path: str) -> None:
        """Hold every call of this path from now on."""
        ask(self._url + path, "PUT")

    def release(self, path: str) -> None:
        """Reply to the calls of this path, those under way and later ones."""
        ask(self._url + path, "DELETE")

    def names(self, path: str) -> list[str]:
        """The names of the rows that were sent, in order of arrival."""
        return list(ask(self._url + path))


class Service:
    """A running container of the service."""

    def __init__(self, started: DockerContainer) -> None:
        self._started = started
        self.container = started.get_wrapped_container()

    @property
    def state(self) -> dict[str, Any]:
        """The state that the engine reports: `Status`, `ExitCode`, `OOMKilled`, `Health`."""
        self.container.reload()
        return dict(self.container.attrs["State"])

    @property
    def logs(self) -> str:
        """The output so far."""
        return bytes(self.container.logs()).decode()

    def events(self, name: str) -> list[dict[str, Any]]:
        """The log lines of one event."""
        entries = [json.loads(line) for line in self.logs.splitlines() if line.startswith("{")]
        return [entry for entry in entries if entry.get("event") == name]

    def until(self, condition: Callable[[], T], what: str) -> T:
        """Wait for a truthy value of the condition and return it. Fail if the container ends before."""

        def alive() -> T:
            value = condition()
            assert value or self.state["Status"] != "exited", f"{what}: it ended before:\n{self.logs[-3000:]}"
            return value

        return until(alive, what)

    def until_event(self, name: str, times: int = 1) -> None:
        """Wait for a log line."""
        self.until(lambda: len(self.events(name)) >= times, f"{name} in the log")

    def url(self, path: str) -> str:
        """The URL of a page of its health server, from outside."""
        return f"http://127.0.0.1:{self._started.get_exposed_port(HEALTH_PORT)}{path}"

    def run(self, *command: str, **env: str) -> tuple[int, str]:
        """Run a command in the container. Return exit code and output."""
        code, output = self.container.exec_run(list(command), environment=env)
        return int(code), output.decode()

    def wait(self) -> int:
        """Wait for the end of the container. Return the exit code."""
        return int(self.container.wait(timeout=STOP_TIMEOUT_S)["StatusCode"])

    def stop(self) -> int:
        """Stop it like an orchestrator: SIGTERM, and SIGKILL after the time-out. Return the exit code."""
        self.container.stop(timeout=STOP_TIMEOUT_S)
        return self.wait()

    def remove(self) -> None:
        """Kill the container and remove it with its files."""
        self._started.stop()


class Fleet(Deployment):
    """A deployment on the endpoint container, and the containers of the service that use it."""

    def __init__(self, root: Path, endpoint: str, names: ResourceNames, image: str, network: Network) -> None:
        super().__init__(root, {}, endpoint, names)
        self._image = image
        self.network = network
        self._services: list[Service] = []

    def serve(
        self, *options: str, agent: str = "/", env: dict[str, str] | None = None, **engine: Any
    ) -> Service:
        """Start `rowfleet serve OPTIONS` in the folder `config` and wait until it runs.

        `agent` is the path of its calls to the agent; `engine` has options of the engine, like limits.
        """
        engine = {"working_dir": "/config", **engine}
        made = DockerContainer(self._image).with_command(["serve", *options]).with_network(self.network)
        made.with_volume_mapping(str(CONFIG), "/config", "ro").with_exposed_ports(HEALTH_PORT)
        for name, value in {**self._environment(agent), **(env or {})}.items():
            made.with_env(name, value)
        made.with_kwargs(**engine)
        service = Service(made.start())
        self._services.append(service)
        service.until_event("service_started")
        return service

    def _environment(self, agent: str) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": f"http://aws:{ENDPOINT_PORT}",
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_REGION": REGION,
            "AGENT_URL": f"http://agent:{AGENT_PORT}{agent}",
            "ROWFLEET_BUCKET": self.names.bucket,
            "ROWFLEET_TABLE": self.names.table,
            "ROWFLEET_PREFIX": self.names.prefix,
            "ROWFLEET_INGEST__POLL_WAIT_S": "1",
            "ROWFLEET_ROWS__POLL_WAIT_S": "1",
            "ROWFLEET_RESULTS__POLL_WAIT_S": "1",
            "ROWFLEET_ROWS__VISIBILITY_TIMEOUT_S": "3",
            "ROWFLEET_WORKER__MAX_INFLIGHT_ROWS": "4",
            "ROWFLEET_WORKER__MAX_HELD_ROWS": "4",
        }

    def submit(self, mapping: str, content: str) -> str:
        """Upload a file and send its job. Return the batch id."""
        source = self.put("in/rows.csv", content)
        self.send_job(mapping=mapping, source=source, execution_id="run")
        return f"{mapping}#run"

    def check_complete(self, batch: str, content: str) -> list[dict[str, str]]:
        """Check that every input row succeeded and is in the output once, in order, with exact counters.

        Return the rows of the output.
        """
        status = self.ended(batch)
        expected = _records(content)
        assert status["state"] == "SUCCEEDED", status
        assert (status["total"], status["succeeded"], status["failed"]) == (len(expected), len(expected), 0)
        assert self.counted(batch) == (len(expected), 0)
        output = _records(self.get(status["output"]).decode())
        echoed = [{name: row[f"input_{name}"] for name in expected[0]} for row in output]
        assert echoed == expected
        return output

    def check_capitals(self, batch: str, content: str) -> None:
        """Check as `check_complete` does, and that each row has its own reply."""
        output = self.check_complete(batch, content)
        assert all(row["output_category"] == row["input_name"].upper() for row in output)

    def close(self) -> None:
        """Remove the containers."""
        for service in self._services:
            service.remove()
        for client in (self.sqs, self.s3, self.dynamodb):
            client.close()
        super().close()


def _records(content: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content, newline="")))
