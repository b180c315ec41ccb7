"""A state machine waits for a batch, over the real protocol against the embedded endpoint, ministack.

ministack differs from AWS in one point here: it does not fail a task whose heartbeats stay away
(HeartbeatSeconds), it only takes them. A token that was answered gives TaskDoesNotExist, on AWS TaskTimedOut
or InvalidToken; all three mean that nobody waits.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from service.adapters.aws.clients import AwsOptions, open_client, open_clients
from service.adapters.aws.provision.resources import ResourceNames
from service.adapters.aws.receivers.task_service import StepFunctionsTasks
from service.app.aws.backend import AwsBackend, backend_on, setup
from service.app.serve import ROLES, serve
from service.app.settings import Settings
from service.catalog.folders import MappingFolders
from service.domain.model import OutboxKind
from service.runtime.metrics import Metrics

DEFINITION = Path(__file__).parents[2] / "examples" / "step-functions" / "state-machine.asl.json"
ROLE = "arn:aws:iam::000000000000:role/any"

MAPPING = """
target: {type: tool, name: demo, invoke: python, function: "batch_agent:answer"}
input_mapping: {column_mappings: {n: n}}
output_mapping:
  type: tool
  extraction_methods: [{method: direct, field_mappings: {double: $.double}}]
execution: {max_concurrency: 5, retry_policy: {max_attempts: 1}}
"""
AGENT = """
async def answer(row):
    if row["n"] == "3":
        raise ValueError("not three")
    return {"double": 2 * int(row["n"])}
"""


class Machine:
    """The state machine of the example, beside a running service."""

    def __init__(self, backend: AwsBackend, states: Any, bucket: str, arn: str) -> None:
        self.backend = backend
        self.states = states
        self.bucket = bucket
        self.arn = arn

    async def start(self, name: str, source: str) -> str:
        """Start an execution; return its ARN."""
        given = {"mapping": "demo", "source": source}
        started = await self.states.start_execution(
            stateMachineArn=self.arn, name=name, input=json.dumps(given)
        )
        return str(started["executionArn"])

    async def end(self, execution: str) -> dict[str, Any]:
        """The execution once it has ended."""
        while True:
            found: dict[str, Any] = await self.states.describe_execution(executionArn=execution)
            if found["status"] != "RUNNING":
                return found
            await asyncio.sleep(0.2)

    async def put(self, key: str, text: str) -> str:
        """Upload a source; return its URL."""
        await self.backend.clients.s3.put_object(Bucket=self.bucket, Key=key, Body=text.encode())
        return f"s3://{self.bucket}/{key}"


@pytest.fixture
async def machine(
    aws_options: AwsOptions, names: ResourceNames, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Machine]:
    for folder in ("mappings", "schemas"):
        (tmp_path / folder).mkdir()
    (tmp_path / "mappings" / "demo.yaml").write_text(MAPPING)
    (tmp_path / "batch_agent.py").write_text(AGENT)
    monkeypatch.chdir(tmp_path)
    queue = {"poll_wait_s": 1.0}
    settings = Settings(
        bucket=names.bucket, table=names.table, prefix=names.prefix,
        mappings=tmp_path / "mappings", schemas=tmp_path / "schemas", drain_timeout_s=6.0,
        ingest=queue, rows=queue, results=queue,
    )  # type: ignore[arg-type]  # fmt: skip
    stop, ready = asyncio.Event(), asyncio.Event()
    async with open_clients(aws_options) as clients, open_client(aws_options, "stepfunctions") as states:
        await setup(clients, settings)
        backend = backend_on(clients, settings, Metrics())
        await backend.find_queues()
        read = MappingFolders(settings.mappings, settings.schemas, None).read
        url = (await clients.sqs.get_queue_url(QueueName=names.queue("ingest")))["QueueUrl"]
        text = DEFINITION.read_text().replace("${ingest_queue_url}", url)
        made = await states.create_state_machine(name=names.prefix, definition=text, roleArn=ROLE)
        running = asyncio.create_task(
            serve(backend, settings, read, ROLES, stop, on_ready=lambda _: ready.set())
        )
        await ready.wait()
        yield Machine(backend, states, names.bucket, made["stateMachineArn"])
        stop.set()
        await running
    sys.modules.pop("batch_agent", None)


async def test_a_state_machine_waits_for_a_batch_and_goes_on(machine: Machine) -> None:
    """Its output names the manifest. Failed rows are no failure; the token is answered once."""
    source = await machine.put("in.csv", "n\n" + "\n".join(map(str, range(1, 21))) + "\n")
    ended = await machine.end(await machine.start("run-1", source))
    assert ended["status"] == "SUCCEEDED", ended
    output = json.loads(ended["output"])
    manifest = f"s3://{machine.bucket}/results/demo/run-1/manifest.json"
    assert output == {
        "batch_id": "demo#run-1",
        "state": "COMPLETED_WITH_ERRORS",
        "succeeded": 19,
        "failed": 1,
        "output": f"s3://{machine.bucket}/results/demo/run-1/output.csv",
        "manifest": manifest,
    }
    found = await machine.backend.clients.s3.get_object(
        Bucket=machine.bucket, Key="results/demo/run-1/manifest.json"
    )
    async with found["Body"] as body:
        assert json.loads(await body.read())["total"] == 20
    (record,) = await machine.backend.ports.table.records("demo#run-1", OutboxKind.TASK)
    while record.is_pending:
        await asyncio.sleep(0.1)
        (record,) = await machine.backend.ports.table.records("demo#run-1", OutboxKind.TASK)


async def test_a_batch_that_fails_fails_its_execution(machine: Machine) -> None:
    """Error and cause say why."""
    ended = await machine.end(await machine.start("run-2", f"s3://{machine.bucket}/missing.csv"))
    assert (ended["status"], ended["error"]) == ("FAILED", "FAILED")
    assert "missing.csv" in ended["cause"]


async def test_a_token_that_nobody_waits_for_is_over(machine: Machine) -> None:
    """Heartbeat and answer report it, and raise nothing."""

    async def client() -> Any:
        return machine.states

    tasks = StepFunctionsTasks(client, 10.0)
    assert not await tasks.heartbeat("no-such-token")
    assert not await tasks.succeed("no-such-token", "{}")
    assert not await tasks.fail("no-such-token", "FAILED", "why")
