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
"""What the engine waits after SIGTERM before it kills; ECS takes up to 120 s."""

ROOMY = {"ROWFLEET_WORKER__MAX_INFLIGHT_ROWS": "64", "ROWFLEET_WORKER__MAX_HELD_ROWS": "1000"}
"""A worker that takes what it can get; those of the tests take four rows at a time."""

T = TypeVar("T")


def ask(url: str, method: str = "GET") -> Any:
    """The JSON that an HTTP server on this machine answers."""
    with urllib.request.urlopen(urllib.request.Request(url, method=method)) as reply:
        return json.load(reply)


class AgentContainer:
    """The agent as the tests see it: by its published port. `path` tells services apart."""

    def __init__(self, url: str) -> None:
        self._url = url

    def hold(self, path: str) -> None:
        """From now on calls of this path wait."""
        ask(self._url + path, "PUT")

    def release(self, path: str) -> None:
        """Let the calls of this path be answered, those under way and those to come."""
        ask(self._url + path, "DELETE")

    def names(self, path: str) -> list[str]:
        """The `name` of every row that was asked for, in order of arrival."""
        return list(ask(self._url + path))


class Service:
    """A running container of the service."""

    def __init__(self, started: DockerContainer) -> None:
        self._started = started
        self.container = started.get_wrapped_container()

    @property
    def state(self) -> dict[str, Any]:
        """The engine's view: `Status`, `ExitCode`, `OOMKilled`, `Health`."""
        self.container.reload()
        return dict(self.container.attrs["State"])

    @property
    def logs(self) -> str:
        """What it wrote so far."""
        return bytes(self.container.logs()).decode()

    def events(self, name: str) -> list[dict[str, Any]]:
        """Its log lines of one event."""
        entries = [json.loads(line) for line in self.logs.splitlines() if line.startswith("{")]
        return [entry for entry in entries if entry.get("event") == name]

    def until(self, condition: Callable[[], T], what: str) -> T:
        """The condition's first truthy value, while the container runs."""

        def alive() -> T:
            value = condition()
            assert value or self.state["Status"] != "exited", f"{what}: it ended before:\n{self.logs[-3000:]}"
            return value

        return until(alive, what)

    def until_event(self, name: str, times: int = 1) -> None:
        """Wait for a log line."""
        self.until(lambda: len(self.events(name)) >= times, f"{name} in the log")

    def url(self, path: str) -> str:
        """Its health server, from outside."""
        return f"http://127.0.0.1:{self._started.get_exposed_port(HEALTH_PORT)}{path}"

    def run(self, *command: str, **env: str) -> tuple[int, str]:
        """A command in the container: exit code and output."""
        code, output = self.container.exec_run(list(command), environment=env)
        return int(code), output.decode()

    def wait(self) -> int:
        """Wait for its end; the exit code."""
        return int(self.container.wait(timeout=STOP_TIMEOUT_S)["StatusCode"])

    def stop(self) -> int:
        """What an orchestrator does: SIGTERM, and SIGKILL after the stop time-out. The exit code."""
        self.container.stop(timeout=STOP_TIMEOUT_S)
        return self.wait()

    def remove(self) -> None:
        """Kill and remove it with what it wrote."""
        self._started.stop()


class Fleet(Deployment):
    """A deployment on the endpoint container, and containers of the service that work on it."""

    def __init__(self, root: Path, endpoint: str, names: ResourceNames, image: str, network: Network) -> None:
        super().__init__(root, {}, endpoint, names)
        self._image = image
        self.network = network
        self._services: list[Service] = []

    def serve(
        self, *options: str, agent: str = "/", env: dict[str, str] | None = None, **engine: Any
    ) -> Service:
        """Start `rowfleet serve OPTIONS` in the folder `config` and wait until it runs.

        `agent` is the path of the agent that it asks, and `engine` goes to the engine: limits, capabilities.
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
        """Drop a file and send its job; the batch id."""
        source = self.put("in/rows.csv", content)
        self.send_job(mapping=mapping, source=source, execution_id="run")
        return f"{mapping}#run"

    def check_complete(self, batch: str, content: str) -> list[dict[str, str]]:
        """Every row of the input succeeded, once, and stands in the output in order; counters are exact.

        Returns the output's rows.
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
        """Like `check_complete`, and each row has its own answer."""
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
