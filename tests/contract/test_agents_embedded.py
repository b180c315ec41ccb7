"""Agents and secrets behind AWS, over the real protocol against the embedded endpoint, ministack.

ministack runs Lambda functions and Step Functions for real. It differs from AWS in these points, which
`test_agent_cells` covers with stand-ins:

- every exception of a function is named Runtime.HandlerError;
- a function gets no client context;
- StartExecution of a running execution fails with ExecutionAlreadyExists even for the same input;
- Converse gives canned replies, AgentCore an echo;
- the only throttle is that of a function whose reserved concurrency is 0.
"""

import io
import json
import uuid
import zipfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest
from aiohttp import web

from service.adapters.aws.clients import AwsOptions, open_client, open_clients
from service.adapters.aws.s3 import S3Objects
from service.agents import open_agent
from service.agents.options.context import AgentContext
from service.domain.errors import (
    AgentOutageError,
    AgentRejectedError,
    AgentThrottledError,
    AgentTimeoutError,
    AgentUnavailableError,
)
from service.domain.ports import Agent, Invocation, Reply, StoredFile
from service.mapping.replies.normalise import normalise
from tests.contract.agent_stand_ins import PATIENT_S

BUCKET = "results"
ROLE = "arn:aws:iam::000000000000:role/any"

HANDLER = """
import threading
def handler(event, context):
    match event.get("do"):
        case "reject": raise ValueError("not a place: Atlantis")
        case "fail": raise RuntimeError("boom")
        case "hang": threading.Event().wait(30)
    return {"got": event}
"""

READER = """
import hashlib, json, os, urllib.request
def handler(event, context):
    at = event["input_s3"]
    body = urllib.request.urlopen(f"{os.environ['ENDPOINT']}/{at['bucket']}/{at['key']}").read()
    assert (len(body), hashlib.sha256(body).hexdigest()) == (at["bytes"], at["sha256"])
    return {"characters": len(json.loads(body)["text"])}
"""
"""A function that reads its input from S3 by the reference it received."""


@dataclass
class Aws:
    """Clients for the set-up, and agents, on the same endpoint."""

    options: AwsOptions
    stack: AsyncExitStack

    async def client(self, service: str) -> Any:
        """A client, closed at the end."""
        return await self.stack.enter_async_context(open_client(self.options, service))

    def agent(self, invoke: str, **options: object) -> Agent:
        """An agent, closed at the end."""
        context = AgentContext(aws=lambda _region: self.options, store=self._store)
        agent = open_agent(invoke, options, name="a", environ={}, context=context)
        self.stack.push_async_callback(agent.close)
        return agent

    async def _store(self, key: str, body: bytes) -> StoredFile:
        async with open_clients(self.options) as clients:
            await clients.s3.create_bucket(Bucket=BUCKET)
            objects = S3Objects(clients, part_bytes=8 * 2**20)
            return await objects.put(BUCKET, key, body, content_type="application/json")

    async def function(self, timeout_s: int = 900, code: str = HANDLER) -> str:
        """The name of a new Lambda function."""
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as file:
            file.writestr("index.py", code)
        name = f"f-{uuid.uuid4().hex[:8]}"
        await (await self.client("lambda")).create_function(
            FunctionName=name, Runtime="python3.11", Role=ROLE, Handler="index.handler",
            Code={"ZipFile": packed.getvalue()}, Timeout=timeout_s,
            Environment={"Variables": {"ENDPOINT": str(self.options.endpoint_url)}},
        )  # fmt: skip
        return name

    async def machine(self, state: dict, kind: str = "STANDARD") -> str:
        """The ARN of a new state machine of one state."""
        definition = {"StartAt": "Only", "States": {"Only": state}}
        created = await (await self.client("stepfunctions")).create_state_machine(
            name=f"m-{uuid.uuid4().hex[:8]}", definition=json.dumps(definition), roleArn=ROLE, type=kind
        )
        return str(created["stateMachineArn"])


@pytest.fixture
async def aws(aws_options: AwsOptions) -> AsyncIterator[Aws]:
    async with AsyncExitStack() as stack:
        yield Aws(aws_options, stack)


async def invoke(agent: Agent, body: object, attempt: int = 1) -> Reply:
    return await agent.invoke(Invocation("b#1/row_1", body, attempt, timeout_s=PATIENT_S))


async def test_a_lambda_function(aws: Aws) -> None:
    """It receives the input, and its result or the text of its exception comes back; also by version."""
    name = await aws.function()
    agent = aws.agent("lambda", function=name)
    assert (await invoke(agent, {"a": "é"})).body == {"got": {"a": "é"}}
    with pytest.raises(AgentUnavailableError, match="not a place: Atlantis"):
        await invoke(agent, {"do": "reject"})
    with pytest.raises(AgentUnavailableError, match="boom"):
        await invoke(agent, {"do": "fail"})
    version = (await (await aws.client("lambda")).publish_version(FunctionName=name))["Version"]
    assert (await invoke(aws.agent("lambda", function=name, qualifier=version), {})).body["got"] == {}
    with pytest.raises(AgentOutageError, match="ResourceNotFoundException"):
        await invoke(aws.agent("lambda", function="nosuch"), {})


async def test_a_time_out_of_lambda(aws: Aws) -> None:
    """Lambda's own time-out raises AgentTimeoutError."""
    agent = aws.agent("lambda", function=await aws.function(timeout_s=1))
    with pytest.raises(AgentTimeoutError):
        await invoke(agent, {"do": "hang"})


async def test_a_lambda_function_reads_a_large_input_from_s3(aws: Aws) -> None:
    """The reference leads to the whole input. Without the option the row is rejected."""
    name = await aws.function(code=READER)
    body = {"text": "é" * 2**22}
    agent = aws.agent("lambda", function=name, large_input="reference")
    assert (await invoke(agent, body)).body == {"characters": 2**22}
    with pytest.raises(AgentRejectedError, match="large_input: reference"):
        await invoke(aws.agent("lambda", function=name), body)


async def test_a_workflow_gets_a_reference_to_a_large_input(aws: Aws) -> None:
    """Standard and express: a function that a state calls reads the input from S3."""
    arn = f"arn:aws:lambda:us-east-1:000000000000:function:{await aws.function(code=READER)}"
    for kind in ("STANDARD", "EXPRESS"):
        machine = await aws.machine({"Type": "Task", "Resource": arn, "End": True}, kind)
        agent = aws.agent(
            "step_functions", state_machine=machine, workflow=kind.lower(), large_input="reference"
        )
        assert (await invoke(agent, {"text": "x" * 2**18})).body == {"characters": 2**18}


async def test_a_lambda_function_without_concurrency_throttles(aws: Aws) -> None:
    """TooManyRequestsException raises AgentThrottledError."""
    name = await aws.function()
    await (await aws.client("lambda")).put_function_concurrency(
        FunctionName=name, ReservedConcurrentExecutions=0
    )
    with pytest.raises(AgentThrottledError):
        await invoke(aws.agent("lambda", function=name), {})


async def test_a_standard_workflow(aws: Aws) -> None:
    """An execution is started and polled. The next attempt finds it instead of starting another."""
    machine = await aws.machine({"Type": "Pass", "Result": {"category": "X"}, "End": True})
    agent = aws.agent("step_functions", state_machine=machine)
    assert (await invoke(agent, {"a": 1})).body == {"category": "X"}
    assert (await invoke(agent, {"a": 1})).body == {"category": "X"}
    listed = await (await aws.client("stepfunctions")).list_executions(stateMachineArn=machine)
    assert len(listed["executions"]) == 1


async def test_a_workflow_that_fails(aws: Aws) -> None:
    """Its error and cause become the row's error. The next attempt starts another execution."""
    for kind in ("STANDARD", "EXPRESS"):
        state = {"Type": "Fail", "Error": "ValueError", "Cause": "not a place: Atlantis"}
        machine = await aws.machine(state, kind)
        agent = aws.agent("step_functions", state_machine=machine, workflow=kind.lower())
        with pytest.raises(AgentRejectedError, match="ValueError: not a place: Atlantis"):
            await invoke(agent, {})
        with pytest.raises(AgentRejectedError):
            await invoke(agent, {}, attempt=2)


async def test_an_express_workflow_that_calls_a_function(aws: Aws) -> None:
    """The function's result is the reply."""
    arn = f"arn:aws:lambda:us-east-1:000000000000:function:{await aws.function()}"
    machine = await aws.machine({"Type": "Task", "Resource": arn, "End": True}, "EXPRESS")
    agent = aws.agent("step_functions", state_machine=machine, workflow="express")
    assert (await invoke(agent, {"a": [1, None]})).body["got"] == {"a": [1, None]}


async def test_a_missing_state_machine(aws: Aws) -> None:
    """It is an outage and does not reject the row."""
    gone = "arn:aws:states:us-east-1:000000000000:stateMachine:gone"
    for workflow in ("standard", "express"):
        with pytest.raises(AgentOutageError, match="StateMachineDoesNotExist"):
            await invoke(aws.agent("step_functions", state_machine=gone, workflow=workflow), {})


async def test_a_model(aws: Aws) -> None:
    """Converse accepts a prompt, messages and tools, and replies with text and usage."""
    tool = {"toolSpec": {"name": "t", "inputSchema": {"json": {"type": "object"}}}}
    agent = aws.agent(
        "bedrock", model="anthropic.claude-3-5-sonnet-20240620-v1:0", system="be brief",
        parameters={"inferenceConfig": {"maxTokens": 5}, "toolConfig": {"tools": [tool]}},
    )  # fmt: skip
    for body in ({"prompt": "why?"}, {"messages": [{"role": "user", "content": "why?"}]}):
        found = normalise((await invoke(agent, body)).body)
        assert "ministack mock anthropic" in found.text
        assert found.usage.output_tokens > 0
    with pytest.raises(AgentRejectedError, match="ValidationException"):
        await invoke(agent, {"messages": [{"role": "judge", "content": "why?"}]})


async def test_an_agentcore_runtime(aws: Aws) -> None:
    """The endpoint's echo comes back. A missing runtime is an outage."""
    control = await aws.client("bedrock-agentcore-control")
    created = await control.create_agent_runtime(
        agentRuntimeName=f"r{uuid.uuid4().hex[:8]}",
        agentRuntimeArtifact={"containerConfiguration": {"containerUri": "x/y:1"}},
        roleArn=ROLE,
        networkConfiguration={"networkMode": "PUBLIC"},
    )
    agent = aws.agent("bedrock", agent_runtime=created["agentRuntimeArn"])
    reply = await invoke(agent, {"prompt": "why?"})
    assert "why?" in json.dumps(reply.body)
    gone = created["agentRuntimeArn"][:-3] + "zzz"
    with pytest.raises(AgentOutageError):
        await invoke(aws.agent("bedrock", agent_runtime=gone), {})


async def test_secrets_of_both_stores(aws: Aws) -> None:
    """Secrets Manager by name, ARN and key, and the Parameter Store with decryption."""
    unique = uuid.uuid4().hex[:8]
    created = await (await aws.client("secretsmanager")).create_secret(
        Name=f"prod/{unique}", SecretString='{"token": "of-the-manager"}'
    )
    await (await aws.client("ssm")).put_parameter(
        Name=f"/prod/{unique}", Value="of-the-store", Type="SecureString"
    )
    headers_received: dict[str, str] = {}

    async def handle(request: web.Request) -> web.Response:
        headers_received.update(request.headers)
        return web.json_response({})

    app = web.Application()
    app.router.add_post("/", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    headers = {
        "X-A": f"${{secret:prod/{unique}#token}}",
        "X-B": f"Bearer ${{secret:secretsmanager:{created['ARN']}#token}}",
        "X-C": f"${{secret:ssm:/prod/{unique}}}",
    }
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    await invoke(aws.agent("http", url=url, headers=headers), {})
    assert tuple(headers_received[name] for name in ("X-A", "X-B", "X-C")) == (
        "of-the-manager", "Bearer of-the-manager", "of-the-store",
    )  # fmt: skip
    for name in ("nosuch", "ssm:/nosuch"):
        with pytest.raises(AgentOutageError, match=r"cannot be read: .*NotFound"):
            await invoke(aws.agent("http", url=url, headers={"X": f"${{secret:{name}}}"}), {})
    await runner.cleanup()
