"""`serve` processes on one endpoint are killed, drained and replaced while they hold rows."""

from tests.acceptance.support import Deployment, HttpAgent, Running, people, table
from tests.acceptance.test_service_configuration import ready

SMALL = {"ROWFLEET_WORKER__MAX_INFLIGHT_ROWS": "4", "ROWFLEET_WORKER__MAX_HELD_ROWS": "4"}
"""Settings of a worker that holds four rows at a time."""


def serve(deployment: Deployment, agent: HttpAgent, path: str, **env: str) -> Running:
    """Start a worker that calls the agent under a path of its own."""
    return deployment.start("serve", "--roles", "worker", AGENT_URL=agent.url + path, **env)


def submit(deployment: Deployment, rows: int) -> str:
    """Submit that many rows; the batch id."""
    deployment.write("in.csv", people(rows))
    done = deployment("submit", "in.csv", "--mapping", "up")
    assert done.code == 0, done.stderr
    return done.stdout.strip()


def check_complete(deployment: Deployment, batch: str, rows: int) -> None:
    """Check that every row succeeded and is in the output once, in order, and that the counters are exact."""
    status = deployment.ended(batch)
    assert status["state"] == "SUCCEEDED", status
    assert (status["total"], status["succeeded"], status["failed"]) == (rows, rows, 0)
    assert deployment.counted(batch) == (rows, 0)
    output = table(deployment.get(status["output"]))
    assert [row["input_n"] for row in output] == [str(n) for n in range(1, rows + 1)]
    assert [row["output_category"] for row in output] == [f"PERSON {n}" for n in range(1, rows + 1)]


def test_a_worker_killed_while_it_holds_rows(deployment: Deployment, agent: HttpAgent) -> None:
    """Its rows are redelivered to the other worker. Each row is in the output and counted once."""
    agent.hold("/a")
    brief = {**SMALL, "ROWFLEET_ROWS__VISIBILITY_TIMEOUT_S": "2"}
    others = deployment.start("serve", "--roles", "splitter,aggregator")
    first = serve(deployment, agent, "/a", **brief)
    batch = submit(deployment, 40)
    first.until(lambda: len(agent.names("/a")) >= 4, "four rows at the agent")
    second = serve(deployment, agent, "/b", **brief)
    second.until(lambda: agent.names("/b"), "a row through the second worker")

    first.process.kill()
    first.process.wait()
    asked = agent.names("/a")

    check_complete(deployment, batch, 40)
    assert set(agent.names("/b")) == {f"person {n}" for n in range(1, 41)}
    assert agent.names("/a") == asked
    for running in (second, others):
        assert running.stop().code == 0


def test_a_worker_told_to_stop_finishes_its_rows(deployment: Deployment, agent: HttpAgent) -> None:
    """After SIGTERM it finishes the rows in flight and begins no others. Another worker does the rest."""
    agent.hold("/a")
    others = deployment.start("serve", "--roles", "splitter,aggregator")
    first = serve(deployment, agent, "/a", **SMALL)
    batch = submit(deployment, 20)
    first.until(lambda: len(agent.names("/a")) == 4, "four rows at the agent")

    first.process.terminate()
    first.until(lambda: ready(first)[1]["roles"]["worker"] == "draining", "a worker that drains")
    agent.release("/a")
    done = first.finish()

    assert done.code == 0, done.stderr
    assert first.events("service_stopped")
    assert "Traceback" not in done.stderr
    held = agent.names("/a")
    assert len(held) == 4
    assert deployment.counted(batch) == (4, 0)

    second = serve(deployment, agent, "/b")
    check_complete(deployment, batch, 20)
    assert sorted(held + agent.names("/b")) == sorted(f"person {n}" for n in range(1, 21))
    for running in (second, others):
        assert running.stop().code == 0


def test_a_splitter_killed_in_the_middle_of_a_file(deployment: Deployment) -> None:
    """Another splitter resumes at the checkpoint. The total is right, and each row is there once."""
    rows = 1_000
    deployment.mapping("quick", "invoke: python, function: 'agent_mod:answer'")
    deployment.write("agent_mod.py", "def answer(row):\n    return {'category': row['name'].upper()}\n")
    deployment.write("in.csv", people(rows))
    small = {
        "ROWFLEET_SPLIT__CHECKPOINT_ROWS": "5",
        "ROWFLEET_SPLIT__SEND_CONCURRENCY": "1",
        "ROWFLEET_INGEST__VISIBILITY_TIMEOUT_S": "2",
    }
    first = deployment.start("serve", "--roles", "splitter", **small)
    first.started()
    done = deployment("submit", "in.csv", "--mapping", "quick")
    assert done.code == 0, done.stderr
    batch = done.stdout.strip()

    def checkpoint() -> int:
        return int(deployment.item(batch).get("checkpoint", {"M": {"rows": {"N": "0"}}})["M"]["rows"]["N"])

    first.until(lambda: checkpoint() > 20, "some rows")
    first.process.kill()
    first.process.wait()
    assert deployment.state(batch) == "SPLITTING"
    assert checkpoint() < rows

    second = deployment.start("serve", "--roles", "splitter,worker,aggregator", **small)
    check_complete(deployment, batch, rows)
    assert second.events("split_resumed")
    assert second.stop().code == 0


def test_the_same_job_twice_pays_for_no_row_twice(deployment: Deployment, agent: HttpAgent) -> None:
    """Two splitters receive a job at once, and it comes again later. Each row takes one call."""
    rows = 3_000
    job = {"mapping": "up", "source": deployment.put("in.csv", people(rows)), "execution_id": "twice"}
    for _ in range(2):
        deployment.send_job(**job)
    small = {"ROWFLEET_SPLIT__CHECKPOINT_ROWS": "100", "ROWFLEET_SPLIT__CONCURRENT_BATCHES": "1"}
    splitters = [deployment.start("serve", "--roles", "splitter", **small) for _ in range(2)]
    others = deployment.start("serve", "--roles", "worker,aggregator")

    check_complete(deployment, "up#twice", rows)
    deployment.send_job(**job)
    splitters[0].until(
        lambda: sum(len(running.events("split_postponed")) for running in splitters), "a job that waited"
    )

    assert sorted(agent.names()) == sorted(f"person {n}" for n in range(1, rows + 1))
    for running in (*splitters, others):
        assert running.stop().code == 0


def test_a_big_file_is_spread_over_partitions(deployment: Deployment) -> None:
    """Rows are spread round-robin over partitions of the table and come out in the order of the file."""
    rows = 500
    deployment.mapping("quick", "invoke: python, function: 'agent_mod:answer'")
    deployment.write(
        "agent_mod.py",
        "def answer(row):\n"
        "    if row['n'] in ('7', '300'):\n"
        "        raise ValueError('not this one')\n"
        "    return {'category': row['name'].upper()}\n",
    )
    deployment.write("in.csv", people(rows))
    service = deployment.start("serve", ROWFLEET_SPLIT__PARTITION_BYTES="2000")
    done = deployment("submit", "in.csv", "--mapping", "quick", "--wait", "--json")

    assert done.code == 3, done.stderr
    batch = done.json["batch_id"]
    partitions = int(deployment.item(batch)["partitions"]["N"])
    assert partitions == 1 + len(people(rows)) // 2_000
    for partition in range(partitions):
        items = deployment.items(batch if partition == 0 else f"{batch}#{partition}")
        numbers = [int(i["row_id"]["S"][4:]) for i in items if i["row_id"]["S"].startswith("row_")]
        assert numbers == [n for n in range(1, rows + 1) if n % partitions == partition]
    assert deployment.counted(batch) == (rows - 2, 2)
    output = table(deployment.get(done.json["output"]))
    assert [row["input_n"] for row in output] == [str(n) for n in range(1, rows + 1)]
    failures = table(deployment.get(done.json["failures"]))
    assert [row["n"] for row in failures] == ["7", "300"]
    causes = deployment("errors", batch, "--json").json["causes"]
    assert [(cause["count"], sorted(cause["rows"])) for cause in causes] == [(2, [7, 300])]
    assert service.stop().code == 0
