"""`serve` processes whose mappings are in the bucket, or whose resources do not exist yet."""

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from service.app.serve import ROLES
from tests.acceptance.support import Deployment, HttpAgent, Running, people, table, unique_names

MAPPING = """target: {type: tool, name: up, invoke: http, url: '${AGENT_URL}'}
output_mapping:
  type: tool
  extraction_methods: [{method: direct, field_mappings: {FIELD: '$.category'}}]
"""
BROKEN = MAPPING.replace("direct", "driect")
SMALL = {"ROWFLEET_WORKER__MAX_INFLIGHT_ROWS": "2", "ROWFLEET_WORKER__MAX_HELD_ROWS": "2"}


def mapping(deployment: Deployment, field: str, text: str = MAPPING, name: str = "up") -> None:
    """Store a mapping with one output field `field` in the bucket."""
    deployment.put(f"config/mappings/{name}.yaml", text.replace("FIELD", field))


def from_bucket(deployment: Deployment) -> dict[str, str]:
    """The environment of a service whose mappings and schemas are in the bucket."""
    config = f"s3://{deployment.names.bucket}/config"
    return {
        "ROWFLEET_MAPPINGS": f"{config}/mappings",
        "ROWFLEET_SCHEMAS": f"{config}/schemas",
        "ROWFLEET_CONFIG__REFRESH_S": "1",
    }


def get(url: str) -> tuple[int, str]:
    """Status and body of a page, also of an error."""
    try:
        with urllib.request.urlopen(url) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def ready(service: Running) -> tuple[int, Any]:
    """Status and body of /readyz."""
    status, body = get(service.started() + "/readyz")
    return status, json.loads(body)


def submit(deployment: Deployment, rows: int = 1) -> str:
    """Submit that many rows; the batch id."""
    deployment.write("in.csv", people(rows))
    done = deployment("submit", "in.csv", "--mapping", "up")
    assert done.code == 0, done.stderr
    return done.stdout.strip()


def output_columns(deployment: Deployment, batch: str) -> set[str]:
    """The output columns of the result. Checks that every row succeeded and has its value."""
    status = deployment.ended(batch)
    assert status["state"] == "SUCCEEDED", status
    rows = table(deployment.get(status["output"]))
    columns = {name for row in rows for name in row if name.startswith("output_")}
    assert all(row[name].startswith("PERSON") for row in rows for name in columns)
    return columns


@pytest.mark.parametrize("place", ["bucket", "folder"])
def test_a_changed_mapping_is_used_by_the_next_run(
    deployment: Deployment, agent: HttpAgent, place: str
) -> None:
    """The change needs no restart. A running batch keeps the mapping that it began with to its last row."""

    def change(field: str) -> None:
        if place == "bucket":
            mapping(deployment, field)
        else:
            deployment.write("mappings/up.yaml", MAPPING.replace("FIELD", field))

    change("old")
    env = from_bucket(deployment) if place == "bucket" else {}
    service = deployment.start("serve", **SMALL, **env)
    agent.hold()
    first = submit(deployment, 6)
    service.until(lambda: len(agent.calls) == 2, "two rows at the agent")
    change("new")
    second = submit(deployment)
    service.until(lambda: deployment.state(second), "the second batch")
    agent.release()
    assert output_columns(deployment, first) == {"output_old"}
    assert output_columns(deployment, second) == {"output_new"}
    assert service.stop().code == 0


def test_a_broken_mapping_never_replaces_a_good_one(deployment: Deployment) -> None:
    """Batches use the last good version. /readyz and the log name file, line and remedy meanwhile."""
    mapping(deployment, "good")
    mapping(deployment, "other", BROKEN, "bad")
    service = deployment.start("serve", **from_bucket(deployment))
    url = f"s3://{deployment.names.bucket}/config/mappings"
    service.until(lambda: "ok" in ready(service)[1]["roles"]["splitter"], "a splitter that works")
    status, said = ready(service)
    assert status == 503
    assert said["mappings"] == (
        f"{url}/bad.yaml:4: output_mapping.extraction_methods[0].method: "
        "unknown method 'driect' (did you mean 'direct'?)"
    )
    assert get(service.started() + "/livez")[0] == 200
    assert output_columns(deployment, submit(deployment)) == {"output_good"}

    deployment.s3.delete_object(Bucket=deployment.names.bucket, Key="config/mappings/bad.yaml")
    service.until(lambda: ready(service)[0] == 200, "a service that is ready")
    mapping(deployment, "worse", BROKEN)
    assert output_columns(deployment, submit(deployment)) == {"output_good"}
    assert ready(service)[0] == 503
    mapping(deployment, "mended")
    assert output_columns(deployment, submit(deployment)) == {"output_mended"}
    status, said = ready(service)
    assert (status, said["ready"], said["mappings"]) == (200, True, "ok")
    assert said["roles"] == dict.fromkeys(ROLES, "ok")
    assert set(said["dead_letters"].values()) <= {0}
    refused = service.events("mapping_refused")
    assert [entry["file"] for entry in refused] == [f"{url}/bad.yaml", f"{url}/up.yaml"]
    assert {entry["remedy"] for entry in refused} == {"did you mean 'direct'?"}
    assert service.stop().code == 0


def test_a_deleted_mapping_is_no_longer_offered(deployment: Deployment) -> None:
    """A batch with the deleted mapping fails at once and lists the known ones."""
    mapping(deployment, "a")
    mapping(deployment, "a", name="other")
    service = deployment.start("serve", **from_bucket(deployment))
    assert output_columns(deployment, submit(deployment)) == {"output_a"}
    deployment.s3.delete_object(Bucket=deployment.names.bucket, Key="config/mappings/up.yaml")
    status = deployment.ended(submit(deployment))
    assert (status["state"], status["error"].split(";")[:2]) == (
        "FAILED",
        ["unknown mapping 'up'", " known: other"],
    )
    assert service.stop().code == 0


def test_a_service_whose_resources_are_not_there_yet(deployment: Deployment) -> None:
    """It is alive but not ready, names the missing resources and `setup`, and starts once they exist."""
    other = unique_names()
    env = {"ROWFLEET_PREFIX": other.prefix, "ROWFLEET_TABLE": other.table, "ROWFLEET_BUCKET": other.bucket}
    env |= {"ROWFLEET_MAPPINGS": f"s3://{other.bucket}/config/mappings"}
    service = deployment.start("serve", **env)
    service.until(lambda: len(service.events("role_waits")) == len(ROLES), "all roles to wait")
    status, said = ready(service)
    assert status == 503
    assert get(service.started() + "/livez") == (200, "alive\n")
    for role, queue in zip(ROLES, ("ingest", "rows", "aggregate", "ingest"), strict=True):
        assert said["roles"][role].startswith(
            f"queue {other.queue(queue)} does not exist: run `rowfleet setup`"
        )
    assert deployment("setup", **env).code == 0
    deployment.s3.put_object(Bucket=other.bucket, Key="config/mappings/up.yaml", Body=MAPPING.encode())
    service.until(lambda: ready(service)[0] == 200, "a service that is ready")
    deployment.write("in.csv", people(2))
    done = deployment("submit", "in.csv", "--mapping", "up", "--wait", "--json", **env)
    assert (done.code, done.json["succeeded"]) == (0, 2)
    assert len(service.events("role_waits_over")) == len(ROLES)
    done = service.stop()
    assert done.code == 0
    assert "Traceback" not in done.stderr


def test_a_splitter_without_its_mappings_takes_no_jobs(deployment: Deployment) -> None:
    """A job stays in the queue until the mappings can be read; it does not fail meanwhile."""
    bucket = unique_names().bucket
    service = deployment.start("serve", ROWFLEET_MAPPINGS=f"s3://{bucket}/mappings")
    batch = submit(deployment)
    service.until(lambda: service.events("role_waits"), "a splitter that waits")
    (waits,) = service.events("role_waits")
    assert (waits["role"], bucket in waits["reason"]) == ("splitter", True)
    assert ready(service)[1]["roles"]["splitter"] == waits["reason"]
    deployment.s3.create_bucket(Bucket=bucket)
    text = MAPPING.replace("FIELD", "late")
    deployment.s3.put_object(Bucket=bucket, Key="mappings/up.yaml", Body=text.encode())
    assert output_columns(deployment, batch) == {"output_late"}
    assert service.events("message_given_back") == []
    assert service.stop().code == 0


@contextmanager
def refusing() -> Iterator[str]:
    """A server that refuses every call as AWS does without a permission. Yields its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            data = (
                b'{"__type": "com.amazon.coral.service#AccessDeniedException", "message": "not authorized"}'
            )
            self.send_response(400)
            self.send_header("Content-Type", "application/x-amz-json-1.0")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    with serving(Handler) as url:
        yield url


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Run a server on a free port of 127.0.0.1. Yields its URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_service_without_permission(deployment: Deployment) -> None:
    """The role waits and names the missing permission. It asks only for queues that it uses."""
    with refusing() as url:
        service = deployment.start("serve", "--roles", "aggregator", AWS_ENDPOINT_URL=url)
        service.until(lambda: service.events("role_waits"), "a role that waits")
        status, said = ready(service)
        assert status == 503
        reason = said["roles"]["aggregator"]
        assert "grant sqs:GetQueueUrl" in reason
        assert deployment.names.queue("aggregate") in reason
        assert "mappings" not in said
        assert service.stop().code == 0


def test_a_service_that_drains_is_not_ready(deployment: Deployment, agent: HttpAgent) -> None:
    """From SIGTERM until it ends, a service is not ready. It finishes the rows that it holds."""
    service = deployment.start("serve", **SMALL)
    agent.hold()
    batch = submit(deployment, 2)
    service.until(lambda: len(agent.calls) == 2, "two rows at the agent")
    service.process.terminate()
    service.until(lambda: ready(service)[1]["roles"]["worker"] == "draining", "a worker that drains")
    assert ready(service)[0] == 503
    agent.release()
    assert service.finish().code == 0
    assert deployment.counted(batch) == (2, 0)


def test_a_task_that_holds_rows_is_protected(deployment: Deployment, agent: HttpAgent) -> None:
    """On ECS a worker that holds rows requests scale-in protection and ends it when it stops."""
    asked: list[dict[str, Any]] = []

    class EcsAgent(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            asked.append(
                {"path": self.path, **json.loads(self.rfile.read(int(self.headers["Content-Length"])))}
            )
            data = json.dumps({"protection": {"ProtectionEnabled": asked[-1]["ProtectionEnabled"]}}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Print nothing: `asked` records every request."""

    with serving(EcsAgent) as url:
        service = deployment.start("serve", ECS_AGENT_URI=f"{url}/api/1", **SMALL)
        agent.hold()
        submit(deployment)
        service.until(lambda: asked, "a request for protection")
        agent.release()
        assert service.stop().code == 0
    path = "/api/1/task-protection/v1/state"
    assert asked == [
        {"path": path, "ProtectionEnabled": True, "ExpiresInMinutes": 15},
        {"path": path, "ProtectionEnabled": False},
    ]
    assert service.events("task_protection_failed") == []


def test_files_in_a_bucket_can_be_checked(deployment: Deployment) -> None:
    """`check` names object and line. A missing bucket gives one line."""
    place = f"s3://{deployment.names.bucket}/config/mappings"
    mapping(deployment, "x")
    assert deployment("check", "--mappings", place).code == 0
    mapping(deployment, "x", BROKEN)
    done = deployment("check", "--mappings", place)
    assert done.code == 2
    assert done.stdout == (
        f"{place}/up.yaml:4: output_mapping.extraction_methods[0].method: "
        "unknown method 'driect' — did you mean 'direct'?\n"
    )
    for wrong, word in (("s3://no-such-bucket-1/x", "no-such-bucket-1"), ("s3:///x", "ROWFLEET_MAPPINGS")):
        done = deployment("check", "--mappings", wrong)
        assert (done.code, len(done.stderr.splitlines())) == (2, 1), done.stderr
        assert word in done.stderr


def test_a_file_can_be_run_with_mappings_in_a_bucket(deployment: Deployment) -> None:
    """`run` reads them from AWS and works on its embedded endpoint."""
    mapping(deployment, "from_bucket")
    deployment.write("in.csv", people(2))
    done = deployment(
        "run", "in.csv", "--mapping", "up", "--mappings", f"s3://{deployment.names.bucket}/config/mappings/"
    )
    assert done.code == 0, done.stderr
    assert [row["output_from_bucket"] for row in table(deployment.folder / "in.output.csv")] == [
        "PERSON 1",
        "PERSON 2",
    ]
