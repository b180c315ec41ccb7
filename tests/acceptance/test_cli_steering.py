"""Batches that are steered while they run, by command and by message."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from threading import Event, Lock
from typing import Any

import pytest

from tests.acceptance.support import (
    Deployment,
    Finished,
    HttpAgent,
    Running,
    people,
    serve_agent,
    table,
    unique_names,
    until,
    upper,
)
from tests.acceptance.test_service_configuration import ready

ROWS, HALF, UNDER_WAY = 120, 40, 8
"""Rows of a batch, calls after which it is steered, and most calls under way."""

SMALL = {
    "ROWFLEET_WORKER__MAX_INFLIGHT_ROWS": str(UNDER_WAY),
    "ROWFLEET_SPLIT__CHECKPOINT_ROWS": "10",
    "ROWFLEET_SPLIT__MAX_QUEUED_ROWS": "20",
}
"""A source is read only a little ahead of its calls, so that a part of it is unread when it is cancelled."""

NAMES = [f"person {n}" for n in range(1, ROWS + 1)]
REQUESTS = iter(range(1_000))


class Counting:
    """An agent's reply that holds every call from number `HALF` on, until `release`."""

    def __init__(self, agent: HttpAgent) -> None:
        self._agent = agent
        self._lock = Lock()
        self._calls = 0
        self.half, self.released = Event(), Event()
        agent.calls.clear()
        agent.answer = self.answer

    def answer(self, body: dict[str, Any]) -> tuple[int, Any]:
        """Count the call, and hold it if enough have ended."""
        with self._lock:
            self._calls += 1
            is_held = self._calls > HALF
        if is_held:
            self.half.set()
            self.released.wait()
        return upper(body)

    def release(self) -> None:
        """Reply to the calls under way and to all later ones."""
        self.released.set()


class Service(Deployment):
    """A deployment with one service process."""

    process: Running

    def begin(self) -> None:
        """Start the process."""
        self.process = self.start("serve", **SMALL)
        self.process.started()

    def replace_process(self, release: Callable[[], None]) -> None:
        """Stop the process and start another; `release` ends the calls that the first one has under way."""
        first = self.process
        first.process.terminate()
        first.until(lambda: ready(first)[1]["roles"]["worker"] == "draining", "a worker that drains")
        release()
        assert first.finish().code == 0
        self.begin()


@pytest.fixture(scope="module")
def agent() -> Iterator[HttpAgent]:
    """One agent for all tests here."""
    with serve_agent() as made:
        yield made


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, endpoint: str, agent: HttpAgent) -> Iterator[Service]:
    """One deployment for all tests here, with one service process at a time."""
    made = Service(tmp_path_factory.mktemp("steering"), {"AGENT_URL": agent.url}, endpoint, unique_names())
    made.mapping()
    made.write("in.csv", people(ROWS))
    assert made("setup").code == 0
    made.begin()
    yield made
    agent.release_all()
    assert made.process.stop().code == 0
    made.close()


@pytest.fixture
def counting(agent: HttpAgent) -> Iterator[Counting]:
    """The agent holds calls in the middle of a batch."""
    made = Counting(agent)
    yield made
    made.release()
    agent.answer = upper


def submitted(service: Deployment, name: str, *options: object) -> str:
    """Submit the file under an execution id; the batch id."""
    done = service("submit", "in.csv", "--mapping", "up", "--execution-id", name, *options)
    assert done.code == 0, done.stderr
    return done.stdout.strip()


def ok(done: Finished) -> Any:
    """The JSON of a command that has succeeded."""
    assert done.code == 0, done.stderr
    return done.json


def by_message(service: Deployment, batch: str, op: str, **args: Any) -> dict[str, Any]:
    """Ask for an operation by a message; return its entry in the log once it is there."""
    request = f"message-{next(REQUESTS)}"
    service.send_job(op=op, batch_id=batch, request_id=request, args=args)

    def made() -> dict[str, Any] | None:
        status = service.status(batch)
        operations = status["operations"] if status else []
        return next((one for one in operations if one["request_id"] == request), None)

    found = until(made, f"{op} by message")
    assert found is not None
    return found


def results(service: Deployment, status: dict[str, Any]) -> list[dict[str, str]]:
    """The rows of output.csv, which are in the order of the input."""
    rows = table(service.get(status["output"]))
    assert [row["_row"] for row in rows] == [str(number) for number in range(1, len(rows) + 1)]
    assert [row["input_name"] for row in rows] == NAMES[: len(rows)]
    return rows


def latest(service: Deployment, status: dict[str, Any]) -> dict[str, Any]:
    """The round that latest.json names, without its incarnation."""
    folder = f"results/up/{status['execution_id']}"
    found = json.loads(service.get(f"s3://{service.names.bucket}/{folder}/latest.json"))
    return {name: found[name] for name in ("round", "output", "failures", "manifest")}


def test_a_paused_batch_makes_no_call_until_it_is_resumed(
    service: Deployment, agent: HttpAgent, counting: Counting
) -> None:
    """The calls under way end and count; every row is called once in all."""
    batch = submitted(service, "paused")
    counting.half.wait()
    answer = ok(service("pause", batch, "--json"))
    assert (answer["state"], answer["op"], answer["control"]) == ("PAUSED", "pause", 1)
    assert len(agent.calls) - HALF <= answer["calls_may_end"] <= ROWS - HALF
    counting.release()
    # Every message of its rows is received and dropped: nothing can begin a call any more.
    until(lambda: service.counted(batch)[0] == len(agent.calls), "the ends of the calls under way")
    rows = service.queue("rows")

    def is_empty() -> bool:
        attributes = service.sqs.get_queue_attributes(QueueUrl=rows, AttributeNames=["All"])["Attributes"]
        return all(value == "0" for name, value in attributes.items() if name.startswith("Approximate"))

    until(is_empty, "the drop of its messages")
    quiet = len(agent.calls)
    assert service.counted(batch) == (quiet, 0)
    status = service.status(batch)
    assert status is not None
    assert status["holds"]["user"].keys() == {"by", "at", "until", "detail"}
    assert status["holds"]["user"]["until"] > status["holds"]["user"]["at"]
    watched = service("watch", batch)
    assert (watched.code, "rowfleet resume up#paused" in watched.stdout) == (4, True)

    assert ok(service("pause", batch, "--json"))["control"] == 0
    assert ok(service("resume", batch, "--json"))["text"] == "up#paused goes on"
    assert service("watch", batch).code == 0
    assert quiet < ROWS
    assert Counter(agent.names()) == Counter(NAMES)


def test_a_cancelled_batch_has_its_results_and_is_read_on(
    service: Service, agent: HttpAgent, counting: Counting
) -> None:
    """Rows that were read are in output.csv; `redrive --unread` runs all others, and no row twice."""
    batch = submitted(service, "cancelled")
    counting.half.wait()
    ok(service("cancel", batch, "--grace", 600, "--json"))
    # A worker that runs on may call the rows in the queue for ten seconds, which may be all that were read.
    # Another one calls none.
    service.replace_process(counting.release)
    ended = service.ended(batch)
    assert (ended["state"], service("watch", batch).code) == ("CANCELLED", 1)
    called, rows = set(agent.names()), results(service, ended)
    assert ended["unread_from"] == len(rows) + 1 <= ROWS
    assert {row["input_name"] for row in rows if row["_status"] == "SUCCESS"} == called
    failures = table(service.get(ended["failures"]))
    assert len(failures) == len(rows) - len(called) == ended["failed"]
    assert all(row["_error"].startswith("CancelledError: ") for row in failures)
    shown = service("status", batch).stdout
    assert f"rowfleet redrive {batch} --unread" in shown

    counted = len(agent.calls)
    preview = ok(service("redrive", batch, "--unread", "--dry-run", "--json"))
    assert (preview["due"], preview["unread_from"]) == (len(failures), len(rows) + 1)
    assert len(agent.calls) == counted
    done = ok(service("redrive", batch, "--unread", "--wait", "--json"))
    assert (done["state"], done["succeeded"], done["round"]) == ("SUCCEEDED", ROWS, 2)
    assert Counter(agent.names()) == Counter(NAMES)
    rounds = Counter(row["_round"] for row in results(service, done))
    assert rounds == {"1": len(called), "2": ROWS - len(called)}


def test_failed_rows_of_one_class_run_again(service: Deployment, agent: HttpAgent) -> None:
    """Only those are called; one merged output is in the order of the input, and latest.json names it."""
    slow, refused = set(NAMES[14::30]), set(NAMES[29::30])
    gate = Event()

    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        if body["name"] in slow:
            gate.wait()
        return (400, {"reason": "not for me"}) if body["name"] in refused else upper(body)

    agent.answer = answer
    service.mapping(more="execution: {timeout_seconds: 1, retry_policy: {max_attempts: 1}}\n")
    done = service("submit", "in.csv", "--mapping", "up", "--execution-id", "two-causes", "--wait", "--json")
    gate.set()
    assert (done.code, done.json["failed"]) == (3, len(slow) + len(refused)), done.stderr
    batch = done.json["batch_id"]
    agent.calls.clear()
    preview = ok(service("redrive", batch, "--class", "transient", "--dry-run", "--json"))
    assert (preview["due"], preview["by_error"]) == (len(slow), {"AgentTimeoutError": len(slow)})
    again = service("redrive", batch, "--class", "transient", "--wait", "--json")
    assert again.code == 3, again.stderr
    assert Counter(agent.names()) == Counter(slow)
    status = again.json
    assert (status["due"], status["failed"]) == (len(slow), len(refused))
    rows = results(service, status)
    assert {row["input_name"] for row in rows if row["_round"] == "2"} == slow
    assert {row["input_name"] for row in rows if row["_status"] == "FAILED"} == refused
    expected = {name: status[name] for name in ("round", "output", "failures", "manifest")}
    assert latest(service, status) == expected
    nothing = service("redrive", batch, "--class", "transient")
    assert (nothing.code, nothing.stdout) == (0, f"no row of {batch} matches: nothing was changed\n")


def wrong(service: Deployment) -> None:
    """A mapping whose path leads nowhere."""
    service.mapping()
    text = (service.folder / "mappings/up.yaml").read_text("utf-8")
    service.write("mappings/up.yaml", text.replace("$.category", "$.catgory"))


def test_a_wrong_mapping_holds_its_batch_and_is_corrected(service: Deployment, agent: HttpAgent) -> None:
    """It stops after a few calls, and names the keys of the reply; then every row is right."""
    wrong(service)
    agent.answer = upper
    agent.calls.clear()
    held = service("submit", "in.csv", "--mapping", "up", "--execution-id", "wrong", "--wait")
    assert held.code == 4, held.stderr
    assert len(agent.calls) <= 20 + 2 * UNDER_WAY
    for words in ("the first 20 rows all failed for the same cause", "the reply has: $.category"):
        assert words in held.stdout
    batch = "up#wrong"
    assert f"rowfleet resume {batch} --mapping-now" in held.stdout
    service.mapping()
    answer = ok(service("resume", batch, "--mapping-now", "--json"))
    assert (answer["round"], answer["carried"]) == (2, 0)
    done = service("watch", batch, "--json")
    assert (done.code, done.json["succeeded"]) == (0, ROWS), done.stderr
    assert [row["output_category"] for row in results(service, done.json)] == [n.upper() for n in NAMES]


def test_a_batch_that_ended_wrong_is_redriven_with_the_corrected_mapping(
    service: Deployment, agent: HttpAgent
) -> None:
    """The status names the command, because all its rows failed for one cause."""
    wrong(service)
    agent.answer = upper
    options = ("--execution-id", "ended-wrong", "--tolerate", "first=0", "--wait")
    done = service("submit", "in.csv", "--mapping", "up", *options)
    assert done.code == 3, done.stderr
    batch = "up#ended-wrong"
    assert f"rowfleet redrive {batch} --mapping-now" in done.stdout
    service.mapping()
    again = ok(service("redrive", batch, "--mapping-now", "--wait", "--json"))
    assert (again["state"], again["succeeded"]) == ("SUCCEEDED", ROWS)
    assert [row["output_category"] for row in results(service, again)] == [n.upper() for n in NAMES]


def test_every_operation_by_message(service: Deployment, agent: HttpAgent, counting: Counting) -> None:
    """Whoever may only send messages can steer. A refusal is kept, and changes nothing."""
    batch = submitted(service, "by-message", "--hold-s", 3_600)
    counting.half.wait()
    assert by_message(service, batch, "set", priority=7, max_concurrency=None)["args"] == {
        "priority": 7, "max_concurrency": None,
    }  # fmt: skip
    assert by_message(service, batch, "pause", now=True)["control"] == 2
    assert service.state(batch) == "PAUSED"
    counting.release()
    assert by_message(service, batch, "resume", mapping_now=True)["args"] == {"mapping_now": True}
    by_message(service, batch, "cancel", grace=0)
    ended = service.ended(batch)
    assert ended["round"] == 2
    if ended["state"] == "CANCELLED":
        by_message(service, batch, "redrive", unread=True)
        ended = service.ended(batch)
    assert (ended["state"], ended["succeeded"]) == ("SUCCEEDED", ROWS)
    by_message(service, batch, "finish")
    assert service.ended(batch)["state"] == "SUCCEEDED"
    assert len(results(service, ended)) == ROWS
    service.send_job(op="halt", batch_id=batch, request_id="unknown")

    def letters() -> Any:
        return ok(service("dead-letters", "list", "--json"))

    [letter] = until(letters, "a dead letter")
    assert "'op' \"halt\" is unknown; known: pause, resume, approve, reject, cancel" in letter["reason"]
    assert service("dead-letters", "drop", letter["id"], "--yes").code == 0


def test_two_operators_at_once(service: Deployment, agent: HttpAgent, counting: Counting) -> None:
    """Each is told what stands there; what both ask for is done once."""
    batch = submitted(service, "two-operators")
    counting.half.wait()
    both = [service.start("pause", batch) for _ in range(2)]
    answers = [one.finish() for one in both]
    assert [answer.code for answer in answers] == [0, 0]
    assert sum("no call begins later than in 10 s" in answer.stdout for answer in answers) == 1
    assert sum("was paused by" in answer.stdout for answer in answers) == 1
    ok(service("cancel", batch, "--grace", 0, "--json"))
    counting.release()
    assert service.ended(batch)["state"] == "CANCELLED"
    both = [service.start("redrive", batch, "--unread") for _ in range(2)]
    answers = sorted((one.finish() for one in both), key=lambda answer: answer.code)
    assert [answer.code for answer in answers] == [0, 2]
    assert "is in round 2" in answers[0].stdout
    assert "round 2 was opened by" in answers[1].stderr
    assert service.ended(batch)["succeeded"] == ROWS


REFUSED: dict[str, tuple[Callable[[str], list[str]], str]] = {
    "unknown batch": (lambda _: ["pause", "up#none"], "there is no batch 'up#none'; `rowfleet list`"),
    "wrong state": (lambda batch: ["resume", batch], "it is SUCCEEDED: it cannot be resumed"),
    "set": (lambda batch: ["set", batch, "--priority", "3"], "it is SUCCEEDED: it cannot be changed"),
    "no class": (lambda batch: ["redrive", batch, "--class", ""], "--class names nothing"),
    "no rows": (lambda batch: ["redrive", batch, "--rows", " "], "the list of rows is empty"),
    "rows outside": (
        lambda batch: ["redrive", batch, "--rows", "3-4"],
        "there is no row 4: the batch has 3 rows",
    ),
    "succeeded": (lambda batch: ["redrive", batch, "--succeeded"], "name them with --rows"),
}


def test_what_cannot_be_done_is_refused_in_one_sentence(service: Deployment, agent: HttpAgent) -> None:
    """Exit code 2, and nothing is changed; asking for what already holds is exit code 0."""
    agent.answer = upper
    service.mapping()
    batch = ok(service("submit", "in.csv", "--mapping", "up", "--limit", 3, "--wait", "--json"))["batch_id"]
    before = service.item(batch)
    for name, (command, words) in REFUSED.items():
        done = service(*command(batch))
        assert (done.code, done.stdout) == (2, ""), name
        assert words in done.stderr, name
        assert done.stderr.count("\n") == 1, name
    finished = service("cancel", batch)
    assert (finished.code, finished.stdout) == (0, f"{batch} had finished: it is SUCCEEDED\n")
    assert service.item(batch) == before


def test_a_batch_that_expires_soon_opens_no_round(service: Deployment, agent: HttpAgent) -> None:
    """The sentence says until when it could have, and what can be done."""
    agent.answer = lambda _: (400, {"reason": "no"})
    batch = submitted(service, "expiring", "--limit", 3)
    service.ended(batch)
    ttl = int(service.item(batch)["ttl"]["N"])
    service.dynamodb.update_item(
        TableName=service.names.table,
        Key={"batch_id": {"S": batch}, "row_id": {"S": "#batch"}},
        UpdateExpression="SET #ttl = :ttl",
        ExpressionAttributeNames={"#ttl": "ttl"},
        ExpressionAttributeValues={":ttl": {"N": str(ttl - 6 * 86_400 - 3_600)}},
    )
    refused = service("redrive", batch)
    assert refused.code == 2
    assert "a round needs a day" in refused.stderr
    assert "submit its failures.csv as a new run" in refused.stderr
    assert "redrive" not in service("status", batch).stdout.partition("redrivable_until")[2]
