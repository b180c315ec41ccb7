"""Errors in the input, the configuration or AWS: one line on stderr and the right exit code."""

import json
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from service.cli.embedded import REGION
from tests.acceptance.support import BIN, Cli, Deployment, Finished, HttpAgent, people, table, unique_names

KEYS = {"AWS_ACCESS_KEY_ID": "AKIAEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": REGION}


def says(done: Finished, code: int, *words: str) -> None:
    """Check for one line on stderr with these words, the exit code, and no traceback."""
    assert "Traceback" not in done.stderr + done.stdout
    assert done.code == code, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("rowfleet: "), done.stderr
    for word in words:
        assert word in done.stderr, done.stderr


# -- found before anything runs ------------------------------------------------------------------------


@pytest.fixture
def good(cli: Cli, agent: HttpAgent) -> Iterator[Cli]:
    """A folder in which `run in.csv --mapping up` would work. Afterwards nothing may be changed or called."""
    cli.write("in.csv", people(3))
    before = {name: (cli.folder / name).read_bytes() for name in cli.files()}
    yield cli
    assert agent.calls == []
    assert {name: (cli.folder / name).read_bytes() for name in before} == before
    written = cli.files() - set(before) - {"mappings/broken.yaml", ".env"}
    assert not written


def test_a_missing_input_file(good: Cli) -> None:
    """The error names the file. Exit code 2."""
    says(good("run", "nothing.csv", "--mapping", "up"), 2, "nothing.csv", "no file")


def test_an_input_that_is_a_folder(good: Cli) -> None:
    """The error names the path. Exit code 2."""
    says(good("run", "mappings", "--mapping", "up"), 2, "mappings", "directory")


def test_an_unknown_mapping(good: Cli) -> None:
    """The error names the mapping, the known ones, and the file to add. Exit code 2."""
    says(good("run", "in.csv", "--mapping", "upp"), 2, "'upp'", "known: up", "mappings/upp.yaml")


def test_no_folder_of_mappings(good: Cli) -> None:
    """The error names the folder and the option for another one. Exit code 2."""
    says(good("run", "in.csv", "--mapping", "up", "--mappings", "gone"), 2, "gone", "--mappings")


def test_broken_yaml(good: Cli) -> None:
    """The error names file and line. Exit code 2."""
    good.write("mappings/broken.yaml", "target:\n  type: tool\n name: [\n")
    says(good("run", "in.csv", "--mapping", "broken"), 2, "mappings/broken.yaml:3")
    says(good("try", "broken", "in.csv"), 2, "mappings/broken.yaml:3")


def test_a_missing_agent_variable(good: Cli) -> None:
    """The error names the variable that `${AGENT_URL}` refers to. Exit code 2."""
    del good.env["AGENT_URL"]
    says(good("run", "in.csv", "--mapping", "up"), 2, "AGENT_URL", "not set")


def test_an_unknown_setting(good: Cli) -> None:
    """The error names the variable and the setting with the closest name. Exit code 2."""
    done = good("run", "in.csv", "--mapping", "up", ROWFLEET_WORKER__MAX_INFLIGHT_ROW="3")
    says(done, 2, "ROWFLEET_WORKER__MAX_INFLIGHT_ROW is not a setting", "ROWFLEET_WORKER__MAX_INFLIGHT_ROWS?")


def test_a_setting_with_a_wrong_value(good: Cli) -> None:
    """The error names the variable, the expected type and the value, also for `.env`. Exit code 2."""
    done = good("run", "in.csv", "--mapping", "up", ROWFLEET_COMMIT__LINGER_S="soon")
    says(done, 2, "ROWFLEET_COMMIT__LINGER_S", "number", "soon")
    good.write(".env", "ROWFLEET_COMMIT__LINGER_S=later\n")
    says(good("settings"), 2, "ROWFLEET_COMMIT__LINGER_S", "number", "later")


def test_bad_usage(good: Cli) -> None:
    """The error names the wrong part of the command line. Exit code 2."""
    cases = {
        "--flag": ["run", "in.csv", "--mapping", "up", "--flag"],
        "--mapping": ["run", "in.csv"],
        "--limit": ["run", "in.csv", "--mapping", "up", "--limit", "0"],
        "--priority": ["submit", "in.csv", "--mapping", "up", "--priority", "10"],
        "--weight": ["run", "in.csv", "--mapping", "up", "--weight", "0"],
        "rum": ["rum"],
        "chef": ["local", "--roles", "splitter,chef"],
    }
    running = {word: good.start(*arguments) for word, arguments in cases.items()}
    for word, one in running.items():
        done = one.finish()
        assert done.code == 2, word
        assert word in done.stderr
        assert "Traceback" not in done.stderr


def test_a_results_path_that_cannot_be_written(good: Cli) -> None:
    """The error names the path and `--out` before the agent is called for a row. Exit code 2."""
    places = ["gone/out.csv", "in.csv/out.csv", "/proc/out.csv"]
    running = {place: good.start("run", "in.csv", "--mapping", "up", "--out", place) for place in places}
    for place, one in running.items():
        says(one.finish(), 2, place, "--out")


@pytest.mark.parametrize(
    ("source", "place"),
    [("in.csv", "mappings"), ("in.csv", "in.csv"), ("mine.failures.csv", "mine.csv")],
    ids=["a-folder", "the-input", "the-input-as-failures"],
)
def test_a_results_path_that_must_not_be_replaced(cli: Cli, source: str, place: str) -> None:
    """A result replaces neither a folder nor the input file. Exit code 2."""
    cli.write(source, "name,n\nbad bob,1\n")
    before = cli.files()
    done = cli("run", source, "--mapping", "up", "--out", place)
    assert (cli.folder / source).read_text() == "name,n\nbad bob,1\n"
    assert cli.files() == before
    says(done, 2, place, "--out")


def test_a_port_in_use(good: Cli) -> None:
    """`local` names the port and the option for another one. Exit code 2."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        says(good("local", "--port", port), 2, str(port), "in use", "--port")


# -- found in the file ---------------------------------------------------------------------------------


NO_TABLES = {
    "empty.csv": ("", ("empty", "no header")),
    "quote.csv": ('name,n\nann,1\n"bob,2\ncid,3\n', ("quote", "line 3")),
    "column.csv": ("given,n\nann,1\n", ("'name'", "'given'", "'n'")),
}


def test_files_that_are_no_tables(cli: Cli, agent: HttpAgent) -> None:
    """No bytes, an unclosed quote, a missing column: the batch fails with the reason. Exit code 1.

    The agent is not called, and no file is written.
    """
    cli.mapping(more="input_mapping: {column_mappings: {name: name}}\n")
    for name, (content, _) in NO_TABLES.items():
        cli.write(name, content)
    before = cli.files()
    running = {
        name: cli.start("run", name, "--mapping", "up", "--json", **cli.other_store()) for name in NO_TABLES
    }
    finished = {name: one.finish() for name, one in running.items()}
    assert cli.files() == before
    assert agent.calls == []
    for name, (_, words) in NO_TABLES.items():
        done = finished[name]
        assert done.json["state"] == "FAILED"
        assert done.json["files"] == {}
        for word in words:
            assert word in done.json["error"]
        says(done, 1, *words)


# -- results that cannot be written in the end ---------------------------------------------------------


def test_a_folder_that_vanishes_during_the_run(cli: Cli, agent: HttpAgent) -> None:
    """The results, which were paid for, stay in the store: the same command writes them. Exit code 2."""
    cli.write("in.csv", people(2))
    (cli.folder / "results").mkdir()
    agent.hold()
    command = ("run", "in.csv", "--mapping", "up", "--out", "results/out.csv", "--json")
    running = cli.start(*command)
    running.until(lambda: agent.calls, "a row at the agent")
    shutil.rmtree(cli.folder / "results")
    agent.release()
    done = running.finish()
    says(done, 2, "cannot write results/out.csv", "--out", f"rowfleet fetch {done.json['batch_id']}")
    (cli.folder / "results").mkdir()
    again = cli(*command)
    assert again.code == 0, again.stderr
    assert len(table(cli.folder / "results" / "out.csv")) == 2
    assert len(agent.calls) == 2


def test_a_full_disk(cli: Cli) -> None:
    """The error names the store and what to do. The same command goes on once there is room. Exit code 2.

    A limit on the size of files stands in for a full disk: a larger write raises OSError as well.
    """
    cli.mapping("big", "invoke: python, function: 'agent_mod:answer'")
    cli.write("agent_mod.py", "def answer(row):\n    return {'category': 'x' * 10_000}\n")
    cli.write("in.csv", people(50))
    before = cli.files()
    limited = "import os, resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (2**19, 2**19)); "
    limited += "os.execv(sys.argv[1], sys.argv[1:])"
    command = [str(BIN / "python"), "-c", limited, str(BIN / "rowfleet"), "run", "in.csv", "--mapping", "big"]
    done = cli.launch(command, PYTHONDONTWRITEBYTECODE="1").finish()
    assert done.code == 2, done.stderr
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("rowfleet: the store .rowfleet ")
    assert "disk" in last
    assert cli.files() == before
    again = cli("run", "in.csv", "--mapping", "big", PYTHONDONTWRITEBYTECODE="1")
    assert again.code == 0, again.stderr
    assert "goes on with big#in-" in again.stderr
    assert len(table(cli.folder / "in.output.csv")) == 50


# -- AWS -----------------------------------------------------------------------------------------------


@contextmanager
def refusing(status: int, body: dict[str, str]) -> Iterator[str]:
    """A server that answers every call of AWS's JSON protocol with an error. Yields its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/x-amz-json-1.0")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def check_all(cli: Cli, env: dict[str, str], commands: list[str], *words: str) -> None:
    """Check that each of the commands, run side by side, prints these words."""
    cli.write("in.csv", people(3))
    running = [cli.start(*command.split(), **KEYS, **env) for command in commands]
    for one in running:
        says(one.finish(), 2, *words)


def test_aws_that_cannot_be_reached(cli: Cli) -> None:
    """A closed port: the error names the address and the variable to check. Exit code 2."""
    with socket.create_server(("127.0.0.1", 0)) as once:
        port = once.getsockname()[1]
    commands = ["status up#x", "list", "submit in.csv --mapping up", "setup"]
    url = f"http://127.0.0.1:{port}"
    check_all(cli, {"AWS_ENDPOINT_URL": url}, commands, url, "AWS_ENDPOINT_URL")


def test_credentials_that_aws_does_not_know(cli: Cli) -> None:
    """The error has AWS's message and the variables to check, never the secret. Exit code 2."""
    error = {
        "__type": "com.amazon.coral.service#UnrecognizedClientException",
        "message": "The security token included in the request is invalid.",
    }
    with refusing(400, error) as url:
        check_all(
            cli,
            {"AWS_ENDPOINT_URL": url},
            ["list"],
            "credentials",
            "security token",
            "AWS_ACCESS_KEY_ID",
        )


def test_a_permission_that_is_missing(cli: Cli) -> None:
    """The error names the missing permission and its resource. Exit code 2."""
    error = {"__type": "com.amazon.coral.service#AccessDeniedException", "message": "not authorized"}
    with refusing(403, error) as url:
        check_all(
            cli,
            {"AWS_ENDPOINT_URL": url},
            ["list"],
            "sqs:GetQueueUrl",
            "rowfleet-ingest",
            "not authorized",
        )


def test_no_credentials_and_no_region(cli: Cli) -> None:
    """The error names the variables to set. Exit code 2."""
    says(cli("list"), 2, "region", "AWS_REGION")
    says(cli("list", "--region", REGION), 2, "credentials", "AWS_PROFILE", "AWS_ACCESS_KEY_ID")


def test_resources_that_are_not_there(deployment: Deployment) -> None:
    """The error names the queue, table or bucket, and `rowfleet setup`. Exit code 2."""
    other = unique_names()
    deployment.write("in.csv", people(1))
    submit = ["submit", "in.csv", "--mapping", "up"]
    running = {
        other.prefix: deployment.start("list", ROWFLEET_PREFIX=other.prefix),
        other.table: deployment.start("list", ROWFLEET_TABLE=other.table),
        other.bucket: deployment.start(*submit, ROWFLEET_BUCKET=other.bucket),
    }
    for name, one in running.items():
        says(one.finish(), 2, name, "rowfleet setup")


def test_a_batch_that_is_not_there(deployment: Deployment) -> None:
    """The error names the id and the command that lists batches. Exit code 2."""
    running = [deployment.start(command, "up#nothing") for command in ("status", "watch", "errors")]
    for one in running:
        says(one.finish(), 2, "up#nothing", "rowfleet list")


def test_a_submit_with_wrong_arguments(deployment: Deployment) -> None:
    """A missing file, a missing object, an invalid execution id: the error names it. Exit code 2."""
    deployment.write("in.csv", people(1))
    gone = f"s3://{deployment.names.bucket}/gone.csv"
    cases = {"nothing.csv": ["nothing.csv"], gone: [gone], "'a b'": ["in.csv", "--execution-id", "a b"]}
    running = {
        word: deployment.start("submit", *arguments, "--mapping", "up") for word, arguments in cases.items()
    }
    finished = {word: one.finish() for word, one in running.items()}
    for word, done in finished.items():
        says(done, 2, word)
