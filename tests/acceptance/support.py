"""Helpers of the acceptance tests: the installed command in a folder, an HTTP agent, a deployment."""

import asyncio
import csv
import functools
import io
import json
import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import botocore.session
import pytest
from botocore.config import Config

from service.adapters.aws.clients import AwsOptions, open_clients
from service.adapters.aws.provision.queues import QueueOptions
from service.adapters.aws.provision.resources import QUEUES, ResourceNames, provision
from service.cli.embedded import ACCESS_KEY, REGION, SECRET_KEY
from tests.acceptance.fork_server import ForkedProcess, ForkServer

BIN = Path(sys.executable).parent

T = TypeVar("T")

_TICK = threading.Event()


def until(condition: Callable[[], T], what: str) -> T:
    """The condition's first truthy value. `what` says what is waited for when the test's time-out ends it."""
    try:
        while not (value := condition()):
            _TICK.wait(0.05)
    except pytest.fail.Exception as error:
        error.add_note(f"while waiting for {what}")
        raise
    return value


# -- the agent -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Call:
    """One call that the agent received. Its path tells which process made it, where a test set one."""

    path: str
    id: str
    body: dict[str, Any]


def upper(body: dict[str, Any]) -> tuple[int, Any]:
    """The agent's default reply: the name in capitals, or a refusal if the name begins with `bad`."""
    name = body["name"]
    if name.startswith("bad"):
        return 400, {"reason": f"{name} is not for me"}
    return 200, {"category": name.upper()}


@dataclass
class HttpAgent:
    """An agent that records every call and replies by `answer`. Calls of a held path wait for its release."""

    url: str = ""
    answer: Callable[[dict[str, Any]], tuple[int, Any]] = upper
    calls: list[Call] = field(default_factory=list)
    _held: dict[str, threading.Event] = field(default_factory=dict)

    def hold(self, path: str = "/") -> None:
        """Hold every call of this path from now on."""
        self._held[path] = threading.Event()

    def release(self, path: str = "/") -> None:
        """Reply to the calls of this path, those under way and later ones."""
        self._held[path].set()

    def release_all(self) -> None:
        """Release all paths."""
        for gate in self._held.values():
            gate.set()

    def handle(self, call: Call) -> tuple[int, Any]:
        """Record the call, wait while its path is held, and reply."""
        self.calls.append(call)
        if (gate := self._held.get(call.path)) is not None:
            gate.wait()
        return self.answer(call.body)

    def names(self, path: str | None = None) -> list[str]:
        """The names of the rows that the agent was called for, in order of arrival."""
        return [call.body["name"] for call in self.calls if path in (None, call.path)]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, *_: object) -> None:
        """Print nothing: tests kill clients."""


@contextmanager
def serve_agent(host: str = "127.0.0.1", port: int = 0) -> Iterator[HttpAgent]:
    """Run an agent on a port of `host`; 0 takes a free one."""
    made = HttpAgent()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, reply = made.handle(Call(self.path, self.headers["Idempotency-Key"], body))
            data = json.dumps(reply).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Print nothing: `calls` records every request."""

    server = _Server((host, port), Handler)
    made.url = f"http://{host}:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield made
    made.release_all()
    server.shutdown()
    server.server_close()
    thread.join()


# -- the command ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Finished:
    """Exit code and output of a command that has ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """The parsed stdout, which must be JSON and nothing else."""
        return json.loads(self.stdout)


Begin = Callable[[BinaryIO, BinaryIO], subprocess.Popen[bytes] | ForkedProcess]
"""Starts a process that writes its output and its errors to these files."""


@functools.cache
def fork_server() -> ForkServer:
    """The fork server of this process, begun by its first command; `stop_fork_server` ends it."""
    return ForkServer()


def stop_fork_server() -> None:
    """End the fork server, if there is one."""
    if fork_server.cache_info().currsize:
        fork_server().stop()
        fork_server.cache_clear()


class Running:
    """A running command with its output in files. `until` fails at once if the process ends meanwhile."""

    def __init__(self, begin: Begin, logs: Path) -> None:
        stem = uuid.uuid4().hex[:8]
        self._out, self._err = logs / f"{stem}.out", logs / f"{stem}.err"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = begin(out, err)

    @property
    def stdout(self) -> str:
        """The output so far."""
        return self._out.read_text("utf-8")

    @property
    def stderr(self) -> str:
        """The error output so far."""
        return self._err.read_text("utf-8")

    def events(self, name: str) -> list[dict[str, Any]]:
        """The log lines of one event."""
        return [entry for entry in self.all_events() if entry["event"] == name]

    def all_events(self) -> Iterator[dict[str, Any]]:
        """All complete log lines."""
        lines = self.stderr.splitlines(keepends=True)
        return (json.loads(line) for line in lines if line.endswith("}\n"))

    def until(self, condition: Callable[[], T], what: str) -> T:
        """Wait like `until`; fail if the process ends before."""

        def alive() -> T:
            value = condition()
            assert value or self.process.poll() is None, f"{what}: it ended before:\n{self.stderr[-3000:]}"
            return value

        return until(alive, what)

    def started(self) -> str:
        """Wait for `service_started`. Return the health URL."""
        return str(self.until(lambda: self.events("service_started"), "service_started")[0]["health"])

    def finish(self) -> Finished:
        """Wait for the end of the process."""
        code = self.process.wait()
        return Finished(code, self.stdout, self.stderr)

    def stop(self) -> Finished:
        """Send SIGTERM and wait for the end of the process."""
        self.process.terminate()
        return self.finish()


class Cli:
    """The `rowfleet` command in one folder, with no environment variables except those given here."""

    def __init__(self, root: Path, env: dict[str, str]) -> None:
        self.folder, self.logs, self.temp = root / "work", root / "logs", root / "temp"
        for folder in (self.folder, self.logs, self.temp, self.folder / "mappings"):
            folder.mkdir()
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.temp),
            "TMPDIR": str(self.temp),
            "AWS_EC2_METADATA_DISABLED": "true",
            "ROWFLEET_INGEST__POLL_WAIT_S": "0.2",
            "ROWFLEET_ROWS__POLL_WAIT_S": "0.2",
            "ROWFLEET_RESULTS__POLL_WAIT_S": "0.2",
            **env,
        }
        self._running: list[Running] = []

    def start(self, *arguments: object, **env: str) -> Running:
        """Start a command, as a fork of a process that has imported it. The test's end kills it.

        A command with variables for the interpreter, which a fork cannot take over, is started as installed.
        """
        command = [str(BIN / "rowfleet"), *map(str, arguments)]
        if any(name.startswith("PYTHON") for name in self.env | env):
            return self.launch(command, **env)

        def begin(out: BinaryIO, err: BinaryIO) -> ForkedProcess:
            return fork_server().start(command, self.folder, {**self.env, **env}, out, err)

        return self._run(begin)

    def launch(self, command: list[str], **env: str) -> Running:
        """Start any program in the same folder and environment."""

        def begin(out: BinaryIO, err: BinaryIO) -> subprocess.Popen[bytes]:
            variables = {**self.env, **env}
            return subprocess.Popen(
                command, cwd=self.folder, env=variables, stdin=subprocess.DEVNULL, stdout=out, stderr=err
            )

        return self._run(begin)

    def _run(self, begin: Begin) -> Running:
        running = Running(begin, self.logs)
        self._running.append(running)
        return running

    def __call__(self, *arguments: object, **env: str) -> Finished:
        """Run a command to its end."""
        return self.start(*arguments, **env).finish()

    def aws(self, *arguments: object, **env: str) -> Finished:
        """The ordinary AWS CLI."""
        return self.launch([str(BIN / "aws"), *map(str, arguments)], AWS_PAGER="", **env).finish()

    def write(self, name: str, content: str | bytes) -> Path:
        """Write a file in the folder."""
        path = self.folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def mapping(
        self, name: str = "up", target: str = "invoke: http, url: '${AGENT_URL}'", more: str = ""
    ) -> None:
        """Write a mapping file with one output field, `category`."""
        self.write(
            f"mappings/{name}.yaml",
            f"target: {{type: tool, name: {name}, {target}}}\n"
            "output_mapping:\n"
            "  type: tool\n"
            "  extraction_methods: [{method: direct, field_mappings: {category: '$.category'}}]\n" + more,
        )

    def files(self) -> set[str]:
        """The paths of all files in the folder, but for the store."""
        paths = {
            path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file()
        }
        return {path for path in paths if not path.startswith(".rowfleet/")}

    def other_store(self) -> dict[str, str]:
        """Variables of a command with a store of its own: one process at a time has a store."""
        return {"ROWFLEET_HOME": str(self.temp / uuid.uuid4().hex)}

    def close(self) -> None:
        """Kill the processes that still run."""
        for running in self._running:
            if running.process.poll() is None:
                running.process.kill()
                running.process.wait()


# -- a deployment that processes share -----------------------------------------------------------------


class Deployment(Cli):
    """A folder whose environment names resources on an endpoint, with clients to look at these resources."""

    def __init__(self, root: Path, env: dict[str, str], endpoint: str, names: ResourceNames) -> None:
        keys = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY, "AWS_REGION": REGION}
        ours = {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_DEFAULT_REGION": REGION,
            "ROWFLEET_BUCKET": names.bucket,
            "ROWFLEET_TABLE": names.table,
            "ROWFLEET_PREFIX": names.prefix,
        }
        super().__init__(root, keys | ours | env)
        self.names = names
        session = botocore.session.get_session()
        config = Config(retries={"mode": "standard"}, s3={"addressing_style": "path"})
        self.sqs, self.s3, self.dynamodb = (
            session.create_client(
                service,
                region_name=REGION,
                endpoint_url=endpoint,
                aws_access_key_id=ACCESS_KEY,
                aws_secret_access_key=SECRET_KEY,
                config=config,
            )
            for service in ("sqs", "s3", "dynamodb")
        )

    def provision(self, queue: QueueOptions) -> None:
        """Create the resources as `rowfleet setup` does, without a process."""
        options = AwsOptions(REGION, self.env["AWS_ENDPOINT_URL"], ACCESS_KEY, SECRET_KEY)

        async def create() -> None:
            async with open_clients(options) as clients:
                await provision(clients, self.names, dict.fromkeys(QUEUES, queue))

        asyncio.run(create())

    def queue(self, role: str) -> str:
        """The URL of a queue: `ingest`, `rows-dlq`, …."""
        return str(self.sqs.get_queue_url(QueueName=f"{self.names.prefix}-{role}")["QueueUrl"])

    def send_job(self, **job: Any) -> None:
        """Send a job message to the ingest queue."""
        self.sqs.send_message(QueueUrl=self.queue("ingest"), MessageBody=json.dumps({"v": 1, **job}))

    def put(self, key: str, content: str) -> str:
        """Store an object in the bucket. Return its URL."""
        self.s3.put_object(Bucket=self.names.bucket, Key=key, Body=content.encode())
        return f"s3://{self.names.bucket}/{key}"

    def get(self, url: str) -> bytes:
        """The bytes of an object."""
        bucket, _, key = url.removeprefix("s3://").partition("/")
        return bytes(self.s3.get_object(Bucket=bucket, Key=key)["Body"].read())

    def status(self, batch: str) -> dict[str, Any] | None:
        """The output of `rowfleet status --json`; None if there is no such batch yet."""
        answer = self("status", batch, "--json")
        return answer.json if answer.code == 0 else None

    def item(self, batch: str, sort: str = "#batch") -> dict[str, Any]:
        """One item of the table in DynamoDB's format; {} if there is none."""
        key = {"batch_id": {"S": batch}, "row_id": {"S": sort}}
        answer = self.dynamodb.get_item(TableName=self.names.table, Key=key, ConsistentRead=True)
        return dict(answer.get("Item", {}))

    def state(self, batch: str) -> str:
        """The state of a batch in the table, read without a process; "" if there is no such batch."""
        return str(self.item(batch).get("state", {}).get("S", ""))

    def ended(self, batch: str) -> dict[str, Any]:
        """Wait for the end of the batch. Return its status."""
        final = {"SUCCEEDED", "COMPLETED_WITH_ERRORS", "FAILED", "CANCELLED"}
        until(lambda: self.state(batch) in final, f"the end of {batch}")
        status = self.status(batch)
        assert status is not None
        return status

    def items(self, partition: str) -> list[dict[str, Any]]:
        """All items of a partition of the table."""
        pages = self.dynamodb.get_paginator("query").paginate(
            TableName=self.names.table,
            KeyConditionExpression="batch_id = :id",
            ExpressionAttributeValues={":id": {"S": partition}},
            ConsistentRead=True,
        )
        return [item for page in pages for item in page["Items"]]

    def counted(self, batch: str) -> tuple[int, int]:
        """`succeeded` and `failed`, summed over the counter items."""
        counters = [item for item in self.items(batch) if item["row_id"]["S"].startswith("#count#")]
        return (
            sum(int(item.get("succeeded", {"N": "0"})["N"]) for item in counters),
            sum(int(item.get("failed", {"N": "0"})["N"]) for item in counters),
        )


def unique_names() -> ResourceNames:
    """Resource names that no other test uses."""
    unique = uuid.uuid4().hex[:12]
    return ResourceNames(f"bucket-{unique}", f"table-{unique}", f"t{unique}")


# -- files ---------------------------------------------------------------------------------------------

RESULT_COLUMNS = ["_row", "_status", "_execution_time_ms", "_timestamp", "_error"]


def table(content: bytes | str | Path) -> list[dict[str, str]]:
    """The rows of a CSV file, read with the standard library."""
    data = content.read_bytes() if isinstance(content, Path) else content
    text = data.decode("utf-8") if isinstance(data, bytes) else data
    return list(csv.DictReader(io.StringIO(text, newline="")))


def people(count: int) -> str:
    """A CSV of `count` rows: `name,n`."""
    return "name,n\n" + "".join(f"person {n},{n}\n" for n in range(1, count + 1))
