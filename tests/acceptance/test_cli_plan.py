"""`rowfleet plan`: what would be sent for a row, and one call. `rowfleet errors --row`: what was sent."""

import base64
import json
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.acceptance.support import BIN, Cli, HttpAgent

CANARIES = {
    "TOKEN_VALUE": "canary-of-a-secret-11ab",
    "TENANT": "canary-of-a-header-22cd",
    "WORD": "canary-of-a-query-33ef",
}
IN_MAPPING = "canary-of-the-mapping-44aa"
IN_ADDRESS = "canary-of-a-password-55bb"

MAPPING = """target:
  {type: agent, name: parrot, invoke: http, url: '${BASE}/{{ name }}?key=${WORD}', headers:
    {X-Token: 'Bearer ${secret:env:TOKEN_VALUE}', X-Tenant: '${TENANT}', X-Api-Key: 'IN_MAPPING'}}
input_mapping: {column_mappings: {name: name, n: n}}
output_mapping:
  required: [category]
  extraction_methods: [{method: jmespath, paths: {category: category}}]
execution: {retry_policy: {max_attempts: 2, base_seconds: 0.01}}
""".replace("IN_MAPPING", IN_MAPPING)


@pytest.fixture
def parrot() -> Iterator[list[str]]:
    """An agent that repeats headers and request line; its first element is its address."""
    heard: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            said = f"{self.requestline} {' '.join(map(str, self.headers.items()))}"
            heard.append(said)
            reply = {"category": said, said: [said], "sent": body}
            data = json.dumps({} if body["name"] == "empty" else reply).encode()
            self.send_response({"fail": 500}.get(body["name"], 200))
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    heard.append(f"http://bob:{IN_ADDRESS}@127.0.0.1:{server.server_port}")
    yield heard
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def parrots(tmp_path: Path, parrot: list[str]) -> Iterator[Cli]:
    """A folder with the mapping `parrot` and a file of three rows."""
    made = Cli(tmp_path, {"BASE": parrot[0], **CANARIES})
    made.write("mappings/parrot.yaml", MAPPING)
    made.write("in.csv", "name,n\necho,1.50\nfail,2\nempty,3\n")
    yield made
    made.close()


def test_nothing_is_called(cli: Cli, agent: HttpAgent) -> None:
    """The first row by default: method, address, headers and body. Exit code 0."""
    cli.write("in.csv", "name\nann\nbob\n")
    done = cli("plan", "in.csv", "--mapping", "up")
    assert (done.code, agent.calls) == (0, []), done.stderr
    head, body = done.stdout.split("\n\n")
    assert head.startswith(f"POST {agent.url}")
    assert "Content-Type: application/json\n" in head
    assert head.endswith("Idempotency-Key: BATCH/1/1")
    assert json.loads(body) == {"name": "ann"}


def test_any_row(cli: Cli, agent: HttpAgent) -> None:
    """`--row` counts records as `_row` does, across line breaks in cells."""
    cli.write("in.csv", 'name\n"ann\nlee"\nbob\n')
    found = cli("plan", "in.csv", "--mapping", "up", "--row", "2", "--json").json
    assert (found["row"], found["line"], found["input"]) == (2, 4, {"name": "bob"})
    past = cli("plan", "in.csv", "--mapping", "up", "--row", "3")
    assert (past.code, past.stderr) == (2, "rowfleet: there is no row 3: the file has 2 rows\n")
    assert agent.calls == []


def test_one_row_from_end_to_end(cli: Cli, agent: HttpAgent) -> None:
    """`--call` calls the agent once, and shows reply and values, each with its origin."""
    cli.write("in.csv", "name\nann\nbob\n")
    shown = cli("plan", "in.csv", "--mapping", "up", "--row", "2", "--call")
    assert (shown.code, agent.names()) == (0, ["bob"])
    assert "reply, 19 bytes in " in shown.stdout
    assert '"category": "BOB"' in shown.stdout
    assert "SUCCESS  up\ncategory  BOB\n  from" in shown.stdout
    found = cli("plan", "in.csv", "--mapping", "up", "--call", "--json").json
    assert found["request"]["body"] == agent.calls[1].body == {"name": "ann"}
    assert found["invocation_id"] == found["request"]["headers"]["Idempotency-Key"] == agent.calls[1].id
    assert agent.calls[0].id != agent.calls[1].id, "no reply of an earlier call may come back"
    result = found["result"]
    assert (result["status"], result["reply"], result["class"]) == ("SUCCESS", {"category": "ANN"}, None)
    assert result["output_data"] == {"category": "ANN"}


def test_the_keys_of_json(cli: Cli) -> None:
    """They are the same in the same order, with a call and without one."""
    cli.write("in.csv", "name\nann\n")
    keys = ["mapping", "row", "line", "invocation_id", "input_data", "input", "request", "error", "result"]
    planned = cli("plan", "in.csv", "--mapping", "up", "--json").json
    called = cli("plan", "in.csv", "--mapping", "up", "--json", "--call").json
    assert list(planned) == list(called) == keys
    assert planned["result"] is None
    assert list(called["result"]) == [
        "elapsed_ms", "reply", "reply_bytes", "status", "output_data", "error", "usage", "explain", "class",
    ]  # fmt: skip


def test_a_failed_call_is_not_repeated(cli: Cli, agent: HttpAgent) -> None:
    """Its class is shown, and the exit code is 3."""
    agent.answer = lambda _body: (503, {"reason": "busy"})
    cli.write("in.csv", "name\nann\n")
    done = cli("plan", "in.csv", "--mapping", "up", "--call")
    assert (done.code, len(agent.calls)) == (3, 1)
    assert "AgentUnavailableError" in done.stdout
    assert done.stdout.endswith("class  transient\n")


def test_a_row_that_would_not_be_sent(cli: Cli, agent: HttpAgent) -> None:
    """Its record is ragged: exit code 3, the reason and its class, also with `--call`."""
    cli.write("in.csv", "name\nann,surplus\n")
    done = cli("plan", "in.csv", "--mapping", "up", "--call")
    assert (done.code, done.stdout, agent.calls) == (3, "", [])
    assert "not sent (rejected): BadRecordError: " in done.stderr


def test_stdin(cli: Cli) -> None:
    """`-` reads it up to the row."""
    command = [str(BIN / "rowfleet"), "plan", "-", "--mapping", "up", "--json"]
    done = subprocess.run(
        command, cwd=cli.folder, env=cli.env, input=b"name\nann\n", capture_output=True, check=True
    )
    assert json.loads(done.stdout)["input"] == {"name": "ann"}


def test_no_output_has_a_credential(parrots: Cli, parrot: list[str]) -> None:
    """An agent repeats its headers; plan with and without a call, errors, run and logs show masks only."""
    outputs: dict[str, str] = {}

    def note(*arguments: str) -> None:
        done = parrots(*arguments, ROWFLEET_LOG_LEVEL="debug")
        outputs[" ".join(arguments)] = done.stdout + done.stderr

    for row in ("1", "2", "3"):
        for more in ((), ("--json",), ("--call",), ("--call", "--json")):
            note("plan", "in.csv", "--mapping", "parrot", "--row", row, *more)
    note("run", "in.csv", "--mapping", "parrot")
    batch = parrots("list", "--json").json[0]["batch_id"]
    note("errors", batch)
    for row in ("2", "3"):
        note("errors", batch, "--row", row)
        note("errors", batch, "--row", row, "--json")
    assert len(outputs) == 18
    basic = base64.b64encode(f"bob:{IN_ADDRESS}".encode()).decode()
    sent = (*CANARIES.values(), IN_MAPPING, basic)
    assert all(canary in parrot[1] for canary in sent), "the agent got them"
    for arguments, text in outputs.items():
        for canary in (*sent, IN_ADDRESS):
            assert canary not in text, arguments
    assert "Bearer ${secret:env:TOKEN_VALUE}" in outputs["plan in.csv --mapping parrot --row 1"]


def test_errors_shows_what_was_sent(parrots: Cli, parrot: list[str]) -> None:
    """With references as the mapping has them: the variables of the process that sent it are not known."""
    parrots("run", "in.csv", "--mapping", "parrot")
    batch = parrots("list", "--json").json[0]["batch_id"]
    found = parrots("errors", batch, "--row", "2", "--json").json
    sent = found["sent"]
    assert (sent["input"], sent["reason"]) == ({"name": "fail", "n": "2"}, None)
    request = sent["request"]
    assert (request["method"], request["url"]) == ("POST", "${BASE}/fail?key=${WORD}")
    assert request["body"] == sent["input"]
    assert f"('Idempotency-Key', '{request['headers']['Idempotency-Key']}')" in "".join(parrot)
    shown = parrots("errors", batch, "--row", "3")
    assert shown.stdout == "{}\n", "the kept reply alone, for `try`"
    assert "POST ${BASE}/empty?key=${WORD}\n" in shown.stderr
