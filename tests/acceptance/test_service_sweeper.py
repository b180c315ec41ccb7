"""The role sweeper finishes rows and batches that would otherwise never end."""

from service.adapters.aws.provision.queues import QueueOptions
from tests.acceptance.support import Deployment, HttpAgent, Running, people, table, until

SOON = {
    "ROWFLEET_SWEEP__INTERVAL_S": "0.5",
    "ROWFLEET_SWEEP__STUCK_AFTER_S": "2",
    "ROWFLEET_ROWS__VISIBILITY_TIMEOUT_S": "2",
}
ONE_BY_ONE = {"ROWFLEET_WORKER__MAX_INFLIGHT_ROWS": "1", "ROWFLEET_WORKER__MAX_HELD_ROWS": "1"}
KILLER = """
import os

def answer(row):
    if row["n"] == "2":
        os._exit(9)
    return {"category": row["name"].upper()}
"""


def submit(deployment: Deployment, mapping: str, rows: int) -> str:
    """Submit that many rows; the batch id."""
    deployment.write("in.csv", people(rows))
    done = deployment("submit", "in.csv", "--mapping", mapping)
    assert done.code == 0, done.stderr
    return done.stdout.strip()


def test_a_row_that_kills_its_worker_is_failed_and_the_batch_ends(deployment: Deployment) -> None:
    """The row crashes two workers, becomes a dead letter, and crashes two more. Then it is FAILED."""
    deployment.provision(QueueOptions(max_receives=2))
    deployment.mapping("quick", "invoke: python, function: 'agent_mod:answer'")
    deployment.write("agent_mod.py", KILLER)
    soon = SOON | {"ROWFLEET_ROWS__MAX_RECEIVES": "2"}
    others = deployment.start("serve", "--roles", "splitter,aggregator,sweeper", **soon)
    batch = submit(deployment, "quick", 4)
    deaths = 0

    def worker() -> Running:
        return deployment.start("serve", "--roles", "worker", **ONE_BY_ONE, **soon)

    running = worker()

    def has_ended() -> bool:
        nonlocal running, deaths
        if running.process.poll() is not None:
            assert running.process.returncode == 9, running.stderr
            deaths += 1
            running = worker()
        return deployment.state(batch) == "COMPLETED_WITH_ERRORS"

    until(has_ended, "the end of a batch with a row that kills its workers")

    # On a slow machine a lease may end without a crash. This counts as a lost delivery as well.
    assert 2 <= deaths <= 4
    assert deployment.counted(batch) == (3, 1)
    status = deployment.status(batch)
    assert status is not None
    output = table(deployment.get(status["output"]))
    assert [row["input_name"] for row in output if row["_status"] == "FAILED"] == ["person 2"]
    assert output[1]["_error"].startswith("WorkerLostError: its message was delivered 4 times")
    again = {line["row_id"] for line in others.events("dead_row_sent_again")}
    assert "row_0000000002" in again
    for process in (running, others):
        assert process.stop().code == 0


def test_rows_whose_messages_are_lost_are_resent(deployment: Deployment, agent: HttpAgent) -> None:
    """The rows queue is purged before a worker starts. The sweeper resends the rows, and all succeed."""
    service = deployment.start("serve", "--roles", "splitter,aggregator,sweeper", **SOON)
    batch = submit(deployment, "up", 30)
    until(lambda: deployment.state(batch) == "RUNNING", "the seal")
    deployment.sqs.purge_queue(QueueUrl=deployment.queue("rows"))
    service.until(lambda: service.events("rows_sent_again"), "the rows to be sent again")
    worker = deployment.start("serve", "--roles", "worker")

    status = deployment.ended(batch)

    assert (status["state"], status["succeeded"]) == ("SUCCEEDED", 30)
    assert deployment.counted(batch) == (30, 0)
    assert sorted(agent.names()) == sorted(f"person {n}" for n in range(1, 31))
    output = table(deployment.get(status["output"]))
    assert [row["input_n"] for row in output] == [str(n) for n in range(1, 31)]
    for process in (worker, service):
        assert process.stop().code == 0
