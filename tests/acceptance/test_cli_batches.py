"""The commands that inspect a service: their JSON for scripts and their text for people."""

import json
import re
import urllib.request
from collections.abc import Iterator

import pytest

from service.app.serve import ROLES
from tests.acceptance.support import Deployment, HttpAgent, Running, serve_agent, table, unique_names, until

STATUS_KEYS = [
    "batch_id", "tool_name", "execution_id", "state", "round", "total", "due", "succeeded", "failed",
    "reused", "calls", "tokens", "cost", "in_progress", "rate_per_s", "eta_s", "started_at", "finished_at",
    "source", "output", "failures", "manifest", "error", "budget", "trouble", "deadline_at", "priority",
    "weight", "max_concurrency", "dialect", "blank_records", "holds", "operations", "cancelled_at",
    "cancel_reason", "unread_from", "sample", "tolerate", "exceeded", "undelivered", "redrivable_until",
]  # fmt: skip

ROWS = "name,n\nann,1\nbad bob,2\ncid,3\nbad dan,4\nbad eve\n"
"""Five rows: the agent refuses two, and one is ragged."""


@pytest.fixture(scope="module")
def agent() -> Iterator[HttpAgent]:
    """One agent for all tests here."""
    with serve_agent() as made:
        yield made


@pytest.fixture(scope="module")
def deployment(
    tmp_path_factory: pytest.TempPathFactory, endpoint: str, agent: HttpAgent
) -> Iterator[Deployment]:
    """One deployment for all tests here, made by `rowfleet setup`."""
    root = tmp_path_factory.mktemp("batches")
    made = Deployment(root, {"AGENT_URL": agent.url}, endpoint, unique_names())
    made.mapping()
    made.write("in.csv", ROWS)
    done = made("setup")
    assert done.code == 0, done.stderr
    lines = done.stdout.splitlines()
    assert f"queue {made.names.prefix}-rows: created" in lines
    for name in (made.names.table, made.names.bucket):
        assert any(name in line for line in lines)
    yield made
    agent.release_all()
    made.close()


@pytest.fixture(scope="module")
def services(deployment: Deployment) -> Iterator[list[Running]]:
    """Two processes side by side, as two containers would be."""
    running = [
        deployment.start("serve"),
        deployment.start("serve", "--roles", "worker", ROWFLEET_LOG_LEVEL="debug"),
    ]
    for one in running:
        one.started()
    yield running
    for one in running:
        assert one.stop().code == 0


@pytest.fixture(scope="module")
def batch(deployment: Deployment, services: list[Running]) -> str:
    """A batch of five rows, three of which failed, as `submit --wait --json` ran it."""
    done = deployment("submit", "in.csv", "--mapping", "up", "--execution-id", "exec-1", "--wait", "--json")
    assert done.code == 3, done.stderr
    assert done.stderr == ""
    status = done.json
    assert list(status) == STATUS_KEYS
    assert status["state"] == "COMPLETED_WITH_ERRORS"
    return str(status["batch_id"])


def test_setup_twice_changes_nothing(deployment: Deployment) -> None:
    """Existing resources are found, not created again."""
    done = deployment("setup")
    assert done.code == 0, done.stderr
    assert "created" not in done.stdout
    assert "updated" not in done.stdout


def test_setup_check_names_what_differs(deployment: Deployment) -> None:
    """Nothing differs after `setup`; with other settings each difference is a line, and the exit code 1."""
    same = deployment("setup", "--check")
    assert (same.code, same.stderr) == (0, "")
    assert all(line.endswith("found") for line in same.stdout.splitlines())
    changed = {"ROWFLEET_ROWS__VISIBILITY_TIMEOUT_S": "90", "ROWFLEET_WORK_TTL_DAYS": "31"}
    other = deployment("setup", "--check", **changed)
    assert other.code == 1
    rows, work = (line for line in other.stdout.splitlines() if line.startswith("DIFFERS "))
    assert rows.endswith(f"{deployment.names.queue('rows')}: VisibilityTimeout is 60, not 90")
    assert "deletes objects under work/ within 31 days" in work
    assert "2 of 11 differ" in other.stderr
    assert deployment("setup", "--check").stdout == same.stdout


def test_setup_check_of_a_rule(deployment: Deployment) -> None:
    """The setting for an EventBridge rule makes the check look for that instead of the notification."""
    done = deployment("setup", "--check", ROWFLEET_NOTIFIED_BY="eventbridge")
    assert done.code == 1
    assert "does not send its events to EventBridge" in done.stdout


def test_status_as_json(deployment: Deployment, batch: str) -> None:
    """Every promised key, with the values of a batch that has ended."""
    done = deployment("status", batch, "--json")
    assert done.code == 0, done.stderr
    status = done.json
    assert list(status) == [*STATUS_KEYS, "dead_letters"]
    assert status["dead_letters"] == {"ingest": 0, "rows": 0, "aggregate": 0}
    results = f"s3://{deployment.names.bucket}/results/up/exec-1"
    expected = {
        "batch_id": "up#exec-1", "tool_name": "up", "execution_id": "exec-1",
        "state": "COMPLETED_WITH_ERRORS", "round": 1, "total": 5, "succeeded": 2, "failed": 3,
        "in_progress": 0, "eta_s": 0, "output": f"{results}/output.csv", "error": None,
        "failures": f"{results}/failures.csv", "manifest": f"{results}/manifest.json",
    }  # fmt: skip
    assert {key: status[key] for key in expected} == expected
    assert status["rate_per_s"] > 0
    assert status["started_at"] < status["finished_at"]
    assert deployment.get(status["source"]).decode() == ROWS
    assert [row["name"] for row in table(deployment.get(status["failures"]))] == [
        "bad bob", "bad dan", "bad eve",
    ]  # fmt: skip
    assert json.loads(deployment.get(status["manifest"]))["batch_id"] == batch


def test_status_for_people(deployment: Deployment, batch: str) -> None:
    """Names and values; addresses are whole, so that they can be copied."""
    done = deployment("status", batch)
    assert done.code == 0, done.stderr
    assert "COMPLETED_WITH_ERRORS" in done.stdout
    assert f"s3://{deployment.names.bucket}/results/up/exec-1/output.csv" in done.stdout


def test_results_are_fetched(deployment: Deployment, batch: str) -> None:
    """The bytes of the bucket, to a file named after the run or given; no file is replaced unasked."""
    status = deployment.status(batch)
    assert status is not None
    fetched = deployment("fetch", batch)
    names = ["exec-1.csv", "exec-1.failures.csv", "exec-1.manifest.json"]
    assert (fetched.code, fetched.stdout.splitlines()) == (0, names)
    for name, key in zip(names, ("output", "failures", "manifest"), strict=True):
        assert (deployment.folder / name).read_bytes() == deployment.get(status[key])
    again = deployment("fetch", batch, "--round", 1)
    assert (again.code, "exec-1.csv is there" in again.stderr, again.stdout) == (2, True, "")
    assert deployment("fetch", batch, "--force", "--json").json["files"]["output.csv"] == "exec-1.csv"
    streamed = deployment("fetch", batch, "--out", "-").stdout
    assert streamed == deployment.get(status["output"]).decode().replace("\r\n", "\n")
    for name in names:
        (deployment.folder / name).unlink()


def test_deleted_results_are_written_again(deployment: Deployment, batch: str) -> None:
    """`finish` writes the same bytes once more, by the command and by a message; no row is run again.

    Only the manifest changes: it names the operation.
    """
    before = deployment.status(batch)
    assert before is not None
    files = {name: deployment.get(before[name]) for name in ("output", "failures")}
    facts = json.loads(deployment.get(before["manifest"]))
    for request in ("command", "message"):
        for name in (*files, "manifest"):
            deployment.s3.delete_object(Bucket=deployment.names.bucket, Key=before[name].split("/", 3)[3])
        if request == "command":
            done = deployment("finish", batch, "--json")
            assert done.code == 0, done.stderr
            assert (done.json["batch_id"], done.json["state"]) == (batch, "AGGREGATING")
        else:
            deployment.send_job(op="finish", batch_id=batch, request_id="r-1")
            until(lambda: deployment.item(batch)["control"]["N"] == "2", "the request")
        after = deployment.ended(batch)
        assert {name: deployment.get(after[name]) for name in files} == files
        assert json.loads(deployment.get(after["manifest"])) == facts | {"operations": after["operations"]}
        assert (after["succeeded"], after["failed"]) == (before["succeeded"], before["failed"])
    assert [made["op"] for made in after["operations"]] == ["finish", "finish"]


def test_list(deployment: Deployment, batch: str) -> None:
    """The latest batches first, each as `status` shows it."""
    later = deployment("submit", "in.csv", "--mapping", "up", "--limit", 1, "--wait", "--json")
    assert later.code == 0, later.stderr
    done = deployment("list", "--json")
    assert done.code == 0, done.stderr
    assert [entry["batch_id"] for entry in done.json][:2] == [later.json["batch_id"], batch]
    assert all(list(entry) == STATUS_KEYS for entry in done.json)
    one = deployment("list", "--limit", 1, "--json")
    assert [entry["batch_id"] for entry in one.json] == [later.json["batch_id"]]


def test_list_for_people(deployment: Deployment, batch: str) -> None:
    """A table in which the ids are whole, so that they can be copied."""
    done = deployment("list")
    assert done.code == 0, done.stderr
    assert batch in done.stdout


def test_watch(deployment: Deployment, agent: HttpAgent, services: list[Running]) -> None:
    """`watch` follows a running batch to its end and exits like `run`; `status` shows the progress."""
    agent.hold()
    submitted = deployment("submit", "in.csv", "--mapping", "up", "--limit", 3)
    assert submitted.code == 0, submitted.stderr
    batch = submitted.stdout.strip()
    services[0].until(lambda: deployment.state(batch) == "RUNNING", "a running batch")
    watching = deployment.start("watch", batch, "--json")
    going = deployment.status(batch)
    assert going is not None
    assert list(going) == [*STATUS_KEYS, "dead_letters"]
    open_ = {"state": "RUNNING", "total": 3, "succeeded": 0, "failed": 0, "in_progress": 3, "output": None}
    assert {key: going[key] for key in open_} == open_
    assert watching.process.poll() is None
    agent.release()
    done = watching.finish()
    assert done.code == 3, done.stderr
    assert (done.json["state"], done.json["succeeded"], done.json["failed"]) == (
        "COMPLETED_WITH_ERRORS", 2, 1,
    )  # fmt: skip


def test_errors_are_grouped_by_cause(deployment: Deployment, batch: str) -> None:
    """Failures that differ only in values are one cause. The most frequent comes first, with example rows."""
    done = deployment("errors", batch, "--json")
    assert done.code == 0, done.stderr
    answer = done.json
    assert [answer[key] for key in ("batch_id", "state", "failed", "error")] == [
        batch, "COMPLETED_WITH_ERRORS", 3, None,
    ]  # fmt: skip
    causes = {cause["type"]: cause for cause in answer["causes"]}
    assert causes["BadRecordError"]["count"] == 1
    assert causes["BadRecordError"]["rows"] == [5]
    assert causes["BadRecordError"]["class"] == "rejected"
    assert "line 6" in causes["BadRecordError"]["message"]
    refused = [cause for cause in answer["causes"] if cause["type"] == "AgentRejectedError"]
    assert sorted(row for cause in refused for row in cause["rows"]) == [2, 4]
    assert sum(cause["count"] for cause in answer["causes"]) == 3
    shown = deployment("errors", batch)
    assert shown.code == 0
    assert "BadRecordError" in shown.stdout


def test_one_failed_row(deployment: Deployment, batch: str) -> None:
    """`errors --row` shows a failed row's error, its cells, what was sent, and the stored reply if any."""
    shown = deployment("errors", batch, "--row", "2")
    assert shown.code == 0
    assert shown.stderr.startswith("row 2: AgentRejectedError: ")
    found = json.loads(deployment("errors", batch, "--row", "2", "--json").stdout)
    assert (found["row"], found["type"], found["reply"]) == (2, "AgentRejectedError", None)
    assert found["class"] == "rejected"
    assert found["input_data"] == {"name": "bad bob", "n": "2"}
    assert found["sent"]["request"]["url"] == "${AGENT_URL}"
    assert found["sent"]["request"]["body"] == found["sent"]["input"] == {"name": "bad bob", "n": "2"}
    assert "POST ${AGENT_URL}\n" in shown.stderr
    ragged = deployment("errors", batch, "--row", "5", "--json").json["sent"]
    assert ragged == {"input": None, "request": None, "reason": "its last attempt called no agent"}
    for row, words in {"1": "did not fail", "99": "has no outcome"}.items():
        refused = deployment("errors", batch, "--row", row)
        assert refused.code == 2
        assert words in refused.stderr


def test_settings(deployment: Deployment) -> None:
    """Every setting with value, default, unit and origin; the environment wins over `.env`."""
    deployment.write(".env", "ROWFLEET_TTL_DAYS=3\nROWFLEET_ROWS__POLL_WAIT_S=9\n")
    try:
        done = deployment("settings", "--json")
        shown = deployment("settings")
    finally:
        (deployment.folder / ".env").unlink()
    assert done.code == 0, done.stderr
    lines = done.json
    for name, line in lines.items():
        assert re.fullmatch(r"ROWFLEET_[A-Z0-9_]+", name)
        assert list(line) == ["value", "default", "unit", "origin", "description"]
    picked = {
        name: [lines[f"ROWFLEET_{name}"][key] for key in ("value", "default", "unit", "origin")]
        for name in ("TTL_DAYS", "ROWS__POLL_WAIT_S", "COMMIT__MAX_ROWS", "TABLE")
    }
    assert picked == {
        "TTL_DAYS": ["3", "7", "days", ".env"],
        "ROWS__POLL_WAIT_S": ["0.2", "20", "s", "environment"],
        "COMMIT__MAX_ROWS": ["99", "99", "rows", "default"],
        "TABLE": [deployment.names.table, "batch_processor_results", None, "environment"],
    }
    assert shown.code == 0
    assert "TTL_DAYS" in shown.stdout


def test_health(services: list[Running], batch: str) -> None:
    """`/livez` and `/readyz` answer at the address in the log, per process and role."""
    for running, roles in zip(services, (ROLES, ["worker"]), strict=True):
        health = running.started()
        with urllib.request.urlopen(f"{health}/livez") as answer:
            assert answer.status == 200
        with urllib.request.urlopen(f"{health}/readyz") as answer:
            assert answer.status == 200
            body = json.loads(answer.read())
        assert (body["ready"], body["roles"]) == (True, dict.fromkeys(roles, "ok"))


def test_logs_are_json_with_the_batch_bound(services: list[Running], batch: str) -> None:
    """Without a terminal a line is one JSON object. A row's line names batch and row and has no payload."""
    rows = [event for running in services for event in running.events("row_settled")]
    ours = [event for event in rows if event["batch_id"] == batch]
    assert sorted(event["row_id"] for event in ours) == [f"row_{n:010d}" for n in range(1, 6)]
    assert {event["status"] for event in ours} == {"SUCCESS", "FAILED"}
    for running in services:
        for line in running.stderr.splitlines():
            assert {"event", "level", "timestamp"} <= json.loads(line).keys()
            assert "ANN" not in line


def test_a_batch_that_cannot_be_finished_is_named_in_one_sentence(deployment: Deployment, batch: str) -> None:
    """An unknown batch, and one whose source was never read, end with 2."""
    done = deployment("finish", f"{batch}-none")
    assert (done.code, done.stdout) == (2, "")
    assert done.stderr.startswith(f"rowfleet: there is no batch '{batch}-none'")
    failed = deployment("submit", "in.csv", "--mapping", "missing", "--wait", "--json")
    done = deployment("finish", failed.json["batch_id"])
    assert (done.code, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "its source was not read to its end" in done.stderr
