"""Messages on the ingest queue: duplicates, contradictions, and jobs that cannot be done."""

import json
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from service.adapters.aws.provision.queues import QueueOptions
from tests.acceptance.support import Deployment, Running, people, serve_agent, table, unique_names, until


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, endpoint: str) -> Iterator[Deployment]:
    """One deployment for the tests that need none of their own."""
    with serve_agent() as agent:
        root = tmp_path_factory.mktemp("messages")
        made = Deployment(root, {"AGENT_URL": agent.url}, endpoint, unique_names())
        made.mapping()
        made.provision(QueueOptions(max_receives=3))
        yield made
        made.close()


@pytest.fixture(scope="module")
def service(shared: Deployment) -> Iterator[Running]:
    """All roles except the sweeper, which would drain dead letters. SIGINT stops the process in order."""
    running = shared.start("serve", "--roles", "splitter,worker,aggregator")
    running.started()
    yield running
    running.process.send_signal(signal.SIGINT)
    done = running.finish()
    assert done.code == 0, done.stderr
    assert "Traceback" not in done.stderr


def taken(deployment: Deployment, role: str = "ingest") -> dict[str, Any]:
    """Wait for a message on a queue and delete it. Return the message."""
    url = deployment.queue(role)

    def receive() -> list[dict[str, Any]]:
        return list(deployment.sqs.receive_message(QueueUrl=url, WaitTimeSeconds=1).get("Messages", []))

    message = until(receive, f"a message on {role}")[0]
    deployment.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    return message


def check(deployment: Deployment, batch: str, rows: int) -> None:
    """Check that the batch succeeded, with each row once."""
    status = deployment.ended(batch)
    assert (status["state"], status["total"], status["succeeded"]) == ("SUCCEEDED", rows, rows), status
    assert deployment.counted(batch) == (rows, 0)
    output = table(deployment.get(status["output"]))
    assert [row["input_n"] for row in output] == [str(n) for n in range(1, rows + 1)]


def batches(deployment: Deployment) -> list[str]:
    """The ids of all batches."""
    done = deployment("list", "--json")
    assert done.code == 0, done.stderr
    return [status["batch_id"] for status in done.json]


def stored(deployment: Deployment, batch: str) -> list[dict[str, Any]]:
    """The items of the batch: its state, its counters and its rows."""
    return [item for item in deployment.items(batch) if not item["row_id"]["S"].startswith("definition#")]


def is_empty(deployment: Deployment, role: str = "ingest") -> bool:
    """True if a queue holds no message, visible or not."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    answer = deployment.sqs.get_queue_attributes(QueueUrl=deployment.queue(role), AttributeNames=names)
    return all(int(answer["Attributes"][name]) == 0 for name in names)


def test_a_job_message_that_comes_twice(shared: Deployment, service: Running) -> None:
    """A job that is sent twice, and again after its end, makes one batch whose rows are counted once."""
    source = shared.put("anywhere/in.csv", people(30))
    job = {"mapping": "up", "source": source, "execution_id": "twice"}
    shared.send_job(**job)
    shared.send_job(**job)
    check(shared, "up#twice", 30)
    service.until(lambda: is_empty(shared), "an empty ingest queue")
    before = stored(shared, "up#twice")

    shared.send_job(**job)
    done = shared("submit", source, "--mapping", "up", "--execution-id", "twice", "--wait", "--json")
    assert (done.code, done.json["batch_id"]) == (0, "up#twice")
    service.until(lambda: is_empty(shared), "an empty ingest queue")
    assert is_empty(shared, "ingest-dlq")
    assert stored(shared, "up#twice") == before
    check(shared, "up#twice", 30)
    assert batches(shared).count("up#twice") == 1


def test_an_s3_event_that_comes_twice(deployment: Deployment) -> None:
    """A repeated event makes no second batch. The same bytes uploaded again make one."""
    deployment.put("incoming/up/deep/er/in.csv", people(12))
    event = taken(deployment)
    while "s3:TestEvent" in event["Body"]:
        event = taken(deployment)
    for _ in range(2):
        deployment.sqs.send_message(QueueUrl=deployment.queue("ingest"), MessageBody=event["Body"])
    service = deployment.start("serve")
    service.until(lambda: service.events("batch_finished"), "the end of the batch")
    service.until(lambda: is_empty(deployment), "an empty ingest queue")
    (batch,) = batches(deployment)
    check(deployment, batch, 12)

    deployment.put("incoming/up/deep/er/in.csv", people(12))
    service.until(lambda: len(service.events("batch_finished")) == 2, "the end of the second batch")
    assert len(batches(deployment)) == 2
    assert service.stop().code == 0


def test_the_same_execution_id_for_another_source(shared: Deployment, service: Running) -> None:
    """`submit` refuses it with exit code 2. A job message becomes a dead letter. The batch is unchanged."""
    source = shared.put("anywhere/in.csv", people(5))
    other = shared.put("anywhere/other.csv", people(9))
    shared.send_job(mapping="up", source=source, execution_id="mine")
    check(shared, "up#mine", 5)
    before = stored(shared, "up#mine")

    done = shared("submit", other, "--mapping", "up", "--execution-id", "mine")
    assert done.code == 2
    assert len(done.stderr.splitlines()) == 1
    assert source in done.stderr
    assert "--execution-id" in done.stderr

    shared.send_job(mapping="up", source=other, execution_id="mine")
    dead = taken(shared, "ingest-dlq")
    assert json.loads(dead["Body"])["source"] == other
    assert any("another source" in event["reason"] for event in service.events("message_poisoned"))
    assert stored(shared, "up#mine") == before


def test_another_run_under_the_same_execution_id(shared: Deployment, service: Running) -> None:
    """`submit` exits with 2 and names what differs; a job message becomes a dead letter with that reason."""
    source = shared.put("anywhere/in.csv", people(5))
    first = shared("submit", source, "--mapping", "up", "--execution-id", "five", "--limit", "3", "--wait")
    assert first.code == 0, first.stderr
    before = stored(shared, "up#five")

    done = shared("submit", source, "--mapping", "up", "--execution-id", "five")
    assert (done.code, len(done.stderr.splitlines())) == (2, 1)
    assert "another limit: its limit is 3, this job asks for none; use another --execution-id" in done.stderr

    shared.send_job(
        mapping="up", source=source, execution_id="five", output="s3://elsewhere/", options={"limit": 3}
    )
    assert json.loads(taken(shared, "ingest-dlq")["Body"])["output"] == "s3://elsewhere/"
    assert any("another output" in event["reason"] for event in service.events("message_poisoned"))
    assert stored(shared, "up#five") == before


def test_the_same_execution_id_after_a_failure_before_the_first_row(
    shared: Deployment, service: Running
) -> None:
    """Once the source is there, `submit` with the same id runs it; the failure is not taken for its end."""
    source = f"s3://{shared.names.bucket}/late.csv"
    shared.send_job(mapping="up", source=source, execution_id="late")
    assert shared.ended("up#late")["state"] == "FAILED"

    shared.put("late.csv", people(4))
    done = shared("submit", source, "--mapping", "up", "--execution-id", "late", "--wait", "--json")
    assert (done.code, done.json["state"], done.json["succeeded"]) == (0, "SUCCEEDED", 4), done.stderr
    check(shared, "up#late", 4)


def test_a_message_that_is_no_job_becomes_a_dead_letter(shared: Deployment, service: Running) -> None:
    """A message that is neither job nor event is logged with its reason. Other jobs are processed."""
    url = shared.queue("ingest")
    shared.sqs.send_message(QueueUrl=url, MessageBody="hello?")
    shared.send_job(mapping="up", source=shared.put("x.csv", people(2)), execution_id="fine")
    check(shared, "up#fine", 2)
    assert taken(shared, "ingest-dlq")["Body"] == "hello?"
    assert any("not JSON" in event["reason"] for event in service.events("message_poisoned"))


def test_jobs_that_cannot_be_carried_out(shared: Deployment, service: Running) -> None:
    """A missing object, an unknown mapping, an empty file: each batch is FAILED with the reason."""
    bucket = f"s3://{shared.names.bucket}"
    source = shared.put("in.csv", people(2))
    shared.send_job(mapping="up", source=f"{bucket}/gone.csv", execution_id="gone")
    shared.send_job(mapping="nope", source=source, execution_id="nope")
    shared.send_job(mapping="up", source=shared.put("zero.csv", ""), execution_id="zero")
    shared.put("incoming/dropped/x.csv", people(2))

    for batch, words in {
        "up#gone": (f"{bucket}/gone.csv", "does not exist"),
        "nope#nope": ("unknown mapping 'nope'",),
        "up#zero": ("empty",),
    }.items():
        status = shared.ended(batch)
        assert status["state"] == "FAILED"
        for word in words:
            assert word in status["error"], status["error"]
        assert (status["output"], status["failures"], status["manifest"]) == (None, None, None)
        assert status["finished_at"]
    watched = shared("watch", "up#gone")
    assert watched.code == 1
    assert f"{bucket}/gone.csv" in watched.stderr
    service.until(lambda: is_empty(shared), "an empty ingest queue")
    dropped = [batch for batch in batches(shared) if batch.startswith("dropped#x-")]
    assert [shared.state(batch) for batch in dropped] == ["FAILED"]
    assert is_empty(shared, "ingest-dlq")
