"""Budgets over several worker processes, some of which are killed with calls under way."""

from __future__ import annotations

from datetime import UTC, datetime

from tests.acceptance.support import Cli, Deployment, HttpAgent, Running, people, table
from tests.acceptance.test_service_processes import check_complete

BRIEF = {
    "ROWFLEET_WORKER__MAX_INFLIGHT_ROWS": "4",
    "ROWFLEET_WORKER__MAX_HELD_ROWS": "8",
    "ROWFLEET_ROWS__VISIBILITY_TIMEOUT_S": "2",
}
"""Settings of a worker with four calls at a time, whose rows come back soon after its death."""


def workers(deployment: Deployment, agent: HttpAgent, paths: str) -> list[Running]:
    """Start a worker for each letter, which calls the agent under a path of its own."""
    return [
        deployment.start("serve", "--roles", "worker", AGENT_URL=f"{agent.url}/{path}", **BRIEF)
        for path in paths
    ]


def kill(process: Running) -> None:
    """Kill a process, and wait until it is gone."""
    process.process.kill()
    process.process.wait()


def submit(deployment: Deployment, rows: int, *options: str, name: str = "in.csv") -> str:
    """Submit that many rows; the batch id."""
    deployment.write(name, people(rows))
    done = deployment("submit", name, "--mapping", "up", *options)
    assert done.code == 0, done.stderr
    return done.stdout.strip()


def test_a_cap_of_calls_holds_over_four_workers_one_of_which_is_killed(
    deployment: Deployment, agent: HttpAgent
) -> None:
    """The calls under way at its death count. A resume needs a higher cap, and then runs the rest."""
    rows, cap = 1_000, 300
    agent.hold("/a")
    others = deployment.start("serve", "--roles", "splitter,aggregator,sweeper")
    fleet = workers(deployment, agent, "abcd")
    batch = submit(deployment, rows, "--max-calls", str(cap))
    fleet[0].until(lambda: len(agent.names("/a")) == 4, "four calls of the worker that is killed")
    kill(fleet[0])
    others.until(lambda: deployment.state(batch) == "PAUSED", "the hold")

    assert cap - 20 <= len(agent.calls) <= cap
    status = deployment.status(batch)
    assert status is not None
    assert status["budget"]["calls"] == {"cap": cap, "spent": cap, "reserved": 0}
    assert status["holds"]["budget"]["detail"]["least"] == cap + 1
    refused = deployment("resume", batch)
    assert refused.code == 2
    assert f"--max-calls N` goes on, with N from {cap + 1}" in refused.stderr

    resumed = deployment("resume", batch, "--max-calls", "2000")
    assert resumed.code == 0, resumed.stderr
    check_complete(deployment, batch, rows)
    for running in (*fleet[1:], others):
        assert running.stop().code == 0


def test_a_budget_of_a_day_holds_over_workers_that_are_all_killed(
    deployment: Deployment, agent: HttpAgent
) -> None:
    """Two batches of a mapping share it. Each worker dies with calls under way, and others go on."""
    cap = 60
    began_on = datetime.now(UTC).date()
    deployment.mapping(more=f"budget: {{calls_per_day: {cap}}}\n")
    others = deployment.start("serve", "--roles", "splitter,aggregator,sweeper")
    for path in "abcd":
        agent.hold(f"/{path}")
    fleet = workers(deployment, agent, "abcd")
    batches = [submit(deployment, 100, name=name) for name in ("one.csv", "two.csv")]
    for running, path in zip(fleet, "abcd", strict=True):
        running.until(lambda path=path: agent.names(f"/{path}"), f"a call by worker {path}")
        kill(running)
    rest = workers(deployment, agent, "ef")
    for batch in batches:
        others.until(lambda batch=batch: deployment.state(batch) == "PAUSED", f"the hold of {batch}")

    days = 1 + (datetime.now(UTC).date() - began_on).days
    assert len(agent.calls) <= cap * days
    status = deployment.status(batches[0])
    assert status is not None
    assert status["holds"]["budget"]["detail"]["until"].endswith("T00:00:00.000Z")
    assert status["budget"]["day"]["calls"]["cap"] == cap
    refused = deployment("resume", batches[0])
    assert refused.code == 2 or days > 1, refused.stdout
    for running in (*rest, others):
        assert running.stop().code == 0


def test_a_run_that_reaches_its_budget_ends_with_4_and_goes_on_with_a_higher_one(
    cli: Cli, agent: HttpAgent
) -> None:
    """The same command with a higher budget calls only the rows that are left."""
    cli.write("in.csv", people(10))
    held = cli("run", "in.csv", "--mapping", "up", "--max-calls", "4")
    assert held.code == 4, held.stderr
    assert "budget: 4 of 4 calls" in held.stdout
    assert "--max-calls N" in held.stdout
    assert len(agent.calls) == 4
    again = cli("run", "in.csv", "--mapping", "up", "--max-calls", "4")
    assert again.code == 2
    assert "with N from 5" in again.stderr
    done = cli("run", "in.csv", "--mapping", "up", "--max-calls", "10")
    assert done.code == 0, done.stderr
    assert len(agent.calls) == 10
    assert len(table(cli.folder / "in.output.csv")) == 10
