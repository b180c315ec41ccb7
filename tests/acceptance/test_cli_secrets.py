"""After a batch through real processes the values of secrets are found nowhere."""

import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import botocore.session

from service.batch.replies.pack import unpacked
from service.cli.embedded import ACCESS_KEY, REGION, SECRET_KEY
from tests.acceptance.support import Cli, Deployment, HttpAgent, table

CANARIES = (
    "canary-of-the-manager-5f1d", "canary-of-the-store-77ac", "canary-of-the-file-c2e9",
    "canary-of-a-variable-9d40",
)  # fmt: skip

TENANT = "canary-of-a-tenant-31b7"
"""The value of a header that is no credential by its name: a result may have it, a kept reply may not."""

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
            shown = said.replace(TENANT, "")
            data = json.dumps({"category": shown, said: [said]}).encode()
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
    assert all(canary in heard[0] for canary in (*CANARIES, TENANT)), "the agent did get them"
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
        body = found["Body"].read()
        text = (unpacked(body) if listed["Key"].endswith(".zst") else body).decode()
        yield f"s3 {listed['Key']}", f"{found['Metadata']} {text}"
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
    deployment.env |= {"AGENT_KEY": CANARIES[3], "TENANT": TENANT}
    with parrot() as url:
        deployment.mapping(
            target=f"invoke: http, url: '{url}/?key=${{secret:ssm:/{unique}/key}}', headers: "
            f"{{Authorization: 'Bearer ${{secret:{unique}/agent#token}}', X-F: '${{secret:file:{file}}}', "
            "X-Api-Key: '${AGENT_KEY}', X-Tenant: '${TENANT}'}",
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
    packs = [text for place, text in places.items() if place.endswith(".zst")]
    assert any("${AGENT_KEY}" in text and "${TENANT}" in text for text in packs)
    for place, text in places.items():
        for canary in (*CANARIES, TENANT):
            assert canary not in text, place


# -- replies that are not kept

SAID = "canary-of-a-reply-e802"


def stored(cli: Cli) -> Iterator[tuple[str, bytes]]:
    """All that a run has left in its store: the bytes of each file, and each pack as it was before."""
    for path in sorted((cli.folder / ".rowfleet").rglob("*")):
        if path.is_file():
            yield path.name, path.read_bytes()
    database: Path = cli.folder / ".rowfleet" / "rowfleet.db"
    with closing(sqlite3.connect(database)) as connection:
        for key, body in connection.execute("SELECT key, body FROM objects WHERE key LIKE '%.zst'"):
            yield key, unpacked(body)


def run_canaries(cli: Cli, agent: HttpAgent, keep: str) -> dict[str, bytes]:
    """Run rows whose replies have a canary that no field extracts; return all that is left of them."""

    def answer(body: dict[str, str]) -> tuple[int, object]:
        said = {"said": [SAID] * 20}
        return {
            "good": (200, {"category": "fine"} | said), "none": (200, said), "refused": (422, said),
            "down": (503, said), "cut": (200, f"{SAID} is no JSON"),
        }[body["name"]]  # fmt: skip

    agent.answer = answer
    retry = "execution: {tolerate: {first: 0}, retry_policy: {max_attempts: 2, base_seconds: 0.01}}\n"
    cli.mapping(more=f"{retry}keep_replies: {keep}\n")
    cli.write("in.csv", "name\ngood\nnone\nrefused\ndown\ncut\n")
    done = cli("run", "in.csv", "--mapping", "up", ROWFLEET_LOG_LEVEL="debug")
    assert done.code == 3
    found = dict(stored(cli)) | {"printed": (done.stdout + done.stderr).encode()}
    for name in cli.files():
        if not name.startswith("mappings/"):
            found[name] = (cli.folder / name).read_bytes()
    return found


def test_a_reply_that_is_not_kept_is_nowhere(cli: Cli, agent: HttpAgent) -> None:
    """With `keep_replies: none`: neither in the store, nor in errors, results and logs."""
    found = run_canaries(cli, agent, "none")
    assert b"the agent refuses the input (HTTP 422) (keep_replies: none)" in found["in.output.failures.csv"]
    assert {place for place, body in found.items() if SAID.encode() in body} == set()


def test_replies_are_kept_and_purged(cli: Cli, agent: HttpAgent) -> None:
    """Those of failed rows show what the mapping got; after a purge the store has none of them."""
    found = run_canaries(cli, agent, "failed")
    packs = b"".join(body for place, body in found.items() if place.endswith(".zst"))
    assert (packs.count(SAID.encode()), b"fine" in packs) == (20, False)
    batch = cli("list", "--json").json[0]["batch_id"]
    shown = cli("errors", batch, "--row", "2")
    assert shown.json == {"said": [SAID] * 20}
    assert cli("purge", batch).code == 2
    assert cli("purge", batch, "--yes", "--json").json["rows"] == 5
    assert [place for place, _ in stored(cli) if place.endswith(".zst")] == []
    assert cli("status", batch, "--local").code == 2
    assert "in.output.csv" in cli.files()
