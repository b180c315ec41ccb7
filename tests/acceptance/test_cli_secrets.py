"""After a batch through real processes the values of secrets are found nowhere."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import botocore.session

from service.cli.embedded import ACCESS_KEY, REGION, SECRET_KEY
from tests.acceptance.support import Deployment, table

CANARIES = ("canary-of-the-manager-5f1d", "canary-of-the-store-77ac", "canary-of-the-file-c2e9")

ROWS = ["echo", "refuse", "fail", "deny", "echo"]


@contextmanager
def parrot() -> Iterator[str]:
    """An agent that repeats its request line and headers in a reply with the status that the row names."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status = {"echo": 200, "refuse": 422, "fail": 500, "deny": 401}[body["name"]]
            said = f"{self.requestline} {' '.join(map(str, self.headers.items()))}"
            heard.append(said)
            data = json.dumps({"category": said, said: [said]}).encode()
            self.send_response(status)
            self.send_header("X-Heard", said)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Print nothing: the test examines the output of rowfleet only."""

    heard: list[str] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()
    assert all(canary in heard[0] for canary in CANARIES), "the agent did get them"
    assert sum("Bearer" in said for said in heard) >= len(ROWS)


def keep(deployment: Deployment) -> None:
    """Store the secrets in Secrets Manager and Parameter Store."""
    session = botocore.session.get_session()
    manager, store = (
        session.create_client(
            service, region_name=REGION, endpoint_url=deployment.env["AWS_ENDPOINT_URL"],
            aws_access_key_id=ACCESS_KEY, aws_secret_access_key=SECRET_KEY,
        )
        for service in ("secretsmanager", "ssm")
    )  # fmt: skip
    unique = deployment.names.prefix
    manager.create_secret(Name=f"{unique}/agent", SecretString=json.dumps({"token": CANARIES[0]}))
    store.put_parameter(Name=f"/{unique}/key", Value=CANARIES[1], Type="SecureString")


def everything(deployment: Deployment, batch: str) -> Iterator[tuple[str, str]]:
    """All that rowfleet has written, by place: table, bucket, queues, and the output of every process."""
    scan = deployment.dynamodb.get_paginator("scan").paginate(TableName=deployment.names.table)
    yield "table", json.dumps([item for page in scan for item in page["Items"]], default=str)
    for listed in deployment.s3.list_objects_v2(Bucket=deployment.names.bucket)["Contents"]:
        found = deployment.s3.get_object(Bucket=deployment.names.bucket, Key=listed["Key"])
        yield f"s3 {listed['Key']}", f"{found['Metadata']} {found['Body'].read().decode()}"
    for role in ("ingest-dlq", "rows-dlq", "aggregate-dlq"):
        url = deployment.queue(role)
        yield role, json.dumps(deployment.sqs.receive_message(QueueUrl=url).get("Messages", []))
    for arguments in (
        ("status", batch, "--json"), ("errors", batch), ("list",), ("settings",), ("check",),
        ("errors", batch, "--row", "2"), ("errors", batch, "--row", "3", "--json"),
        ("plan", "in.csv", "--mapping", "up"), ("plan", "in.csv", "--mapping", "up", "--row", "2", "--json"),
    ):  # fmt: skip
        done = deployment(*arguments)
        yield " ".join(arguments), done.stdout + done.stderr
    for path in deployment.logs.iterdir():
        yield path.name, path.read_text("utf-8")


def test_a_secret_is_nowhere(deployment: Deployment) -> None:
    """The agent repeats its secrets in replies and errors. No stored or printed text contains one."""
    unique, file = deployment.names.prefix, deployment.temp / "key"
    file.write_text(CANARIES[2] + "\n")
    keep(deployment)
    with parrot() as url:
        deployment.mapping(
            target=f"invoke: http, url: '{url}/?key=${{secret:ssm:/{unique}/key}}', headers: "
            f"{{Authorization: 'Bearer ${{secret:{unique}/agent#token}}', X-F: '${{secret:file:{file}}}'}}",
            more="execution: {retry_policy: {max_attempts: 2, base_seconds: 0.01}}\n",
        )
        running = deployment.start(
            "serve", "--roles", "splitter,worker,aggregator",
            ROWFLEET_LOG_LEVEL="debug", ROWFLEET_LOG_FORMAT="json",
        )  # fmt: skip
        deployment.write("in.csv", "name\n" + "".join(f"{row}\n" for row in ROWS))
        batch = deployment("submit", "in.csv", "--mapping", "up").stdout.strip()
        status = deployment.ended(batch)
        assert running.stop().code == 0
    assert (status["total"], status["succeeded"], status["failed"]) == (5, 2, 3)
    failures = table(deployment.get(status["failures"]))
    kinds = [
        next(k for k in ("Rejected", "Unavailable", "Credentials") if k in f["_error"]) for f in failures
    ]
    assert kinds == ["Rejected", "Unavailable", "Credentials"]
    output = table(deployment.get(status["output"]))
    assert f"Bearer ${{secret:{unique}/agent#token}}" in output[0]["output_category"]

    places = dict(everything(deployment, batch))
    assert len(places) > 12
    assert any("agent_failures_AgentCredentialsError" in text for text in places.values())
    for place, text in places.items():
        for canary in CANARIES:
            assert canary not in text, place
