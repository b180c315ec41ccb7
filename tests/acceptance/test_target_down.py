"""A target that is down or throttles: rows wait for it, and the status names the cause."""

import itertools
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.acceptance.support import Cli, Deployment, HttpAgent, people, serve_agent, table, until, upper

ROWS = 40


@pytest.fixture
def unused_port() -> Iterator[int]:
    """A reserved port on which no process listens: connections are refused."""
    with socket.socket() as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


def test_an_agent_that_does_not_run_yet(deployment: Deployment, unused_port: int) -> None:
    """While connections are refused the status says so and no row fails. Later all rows succeed."""
    service = deployment.start("serve", AGENT_URL=f"http://127.0.0.1:{unused_port}/")
    service.started()
    deployment.write("in.csv", people(ROWS))
    batch = deployment("submit", "in.csv", "--mapping", "up", "--execution-id", "e1").stdout.strip()

    service.until(lambda: service.events("target_down"), "the report of an outage")

    def troubled() -> dict[str, Any] | None:
        status = deployment.status(batch)
        return status if status and status["trouble"] else None

    status = until(troubled, "trouble in the status")
    assert status["trouble"].startswith("AgentOutageError: POST ${AGENT_URL}: no connection")
    assert "refused" in status["trouble"]
    assert (status["succeeded"], status["failed"]) == (0, 0)
    assert "no connection" in deployment("status", batch).stdout
    [listed] = deployment("list", "--json").json
    assert listed["trouble"] == status["trouble"]

    with serve_agent(port=unused_port) as agent:
        status = deployment.ended(batch)
    assert (status["state"], status["succeeded"], status["trouble"]) == ("SUCCEEDED", ROWS, None)
    assert {attempts(deployment, batch, row) for row in range(1, ROWS + 1)} == {1}
    assert sorted(agent.names()) == sorted(f"person {row}" for row in range(1, ROWS + 1))
    assert service.stop().code == 0


@pytest.mark.verify
def test_a_batch_is_held_until_its_target_serves_again(deployment: Deployment, unused_port: int) -> None:
    """`watch` ends with 4 meanwhile. One row tries the target, the first answer lifts the hold."""
    pace = {"ROWFLEET_SWEEP__INTERVAL_S": "2", "ROWFLEET_SWEEP__TROUBLE_PAUSE_S": "5"}
    service = deployment.start("serve", AGENT_URL=f"http://127.0.0.1:{unused_port}/", **pace)
    service.started()
    deployment.write("in.csv", people(ROWS))
    batch = deployment("submit", "in.csv", "--mapping", "up", "--execution-id", "e1").stdout.strip()
    service.until(lambda: service.events("target_holds_batch"), "the hold")

    held = deployment("watch", batch)
    assert held.code == 4
    assert "its target serves nobody: AgentOutageError" in held.stdout
    assert f"rowfleet resume {batch}" in held.stdout
    with serve_agent(port=unused_port) as agent:
        service.until(lambda: service.events("target_hold_lifted"), "an answered trial")
        status = deployment.ended(batch)
    assert (status["state"], status["succeeded"], status["holds"]) == ("SUCCEEDED", ROWS, {})
    assert [made["op"] for made in status["operations"]] == ["hold", "resume"]
    assert sorted(agent.names()) == sorted(f"person {row}" for row in range(1, ROWS + 1))
    assert service.stop().code == 0


def attempts(deployment: Deployment, batch: str, row: int) -> int:
    """The number of attempts of a row, in a batch with one partition."""
    return int(deployment.item(batch, f"row_{row:010d}")["attempts"]["N"])


def test_throttled_calls_use_up_no_attempts(cli: Cli, agent: HttpAgent) -> None:
    """The agent throttles half of the first calls. All rows succeed although each has only one attempt."""
    cli.mapping(more="execution: {retry_policy: {max_attempts: 1, base_seconds: 0.05, cap_seconds: 0.2}}\n")
    cli.write("in.csv", people(100))
    calls = itertools.count()

    def stormy(body: dict[str, Any]) -> tuple[int, Any]:
        call = next(calls)
        return (429, {"error": "slow down"}) if call < 120 and call % 2 else upper(body)

    agent.answer = stormy
    done = cli("run", "in.csv", "--mapping", "up", "--json")

    assert done.code == 0, done.stderr
    assert (done.json["succeeded"], done.json["failed"]) == (100, 0)
    assert len(agent.calls) == 160
    assert [row["output_category"] for row in table(cli.folder / "in.output.csv")] == [
        f"PERSON {row}" for row in range(1, 101)
    ]
