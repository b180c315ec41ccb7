"""Calls as they are shown, compared with the requests that stand-ins receive, for every way to invoke."""

import sys
import types
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from service.agents import open_agent
from service.agents.description import CallDescriber, open_describer
from service.agents.python import invocation_id
from service.domain import exact_json
from service.domain.ports import Agent, Invocation
from tests.contract.agent_stand_ins import (
    CONTEXT,
    IDS,
    PATIENT_S,
    CallLog,
    ReceivedRequest,
    StandInServices,
    serve,
    target,
)

ENVIRON = {"KEY": "the-key-of-the-agent"}
BODY = {"postcode": "SW1A 1AA", "price": exact_json.loads("12.50"), "note": 'ü "quoted"'}
OF_THE_CLIENT = {"host", "content-length"}
"""Headers that the HTTP client adds."""


@dataclass
class Case:
    """An agent and its describer, opened with the same options."""

    agent: Agent
    describer: CallDescriber
    base: str


@asynccontextmanager
async def opened(way: str, log: CallLog) -> AsyncIterator[Case]:
    async with serve(StandInServices(log)) as base:
        invoke, options = target(way, "echo", base)
        same = {"name": "a", "environ": ENVIRON, "context": CONTEXT}
        agent = open_agent(invoke, options, **same)
        try:
            yield Case(agent, open_describer(invoke, options, **same), base)
        finally:
            await agent.close()


async def both(way: str, *, attempt: int = 1) -> tuple[dict, ReceivedRequest, str]:
    """The call as it is shown, the first request that was received, and the server's base URL."""
    log = CallLog()
    invocation = Invocation(IDS[0], BODY, attempt, timeout_s=PATIENT_S)
    async with opened(way, log) as case:
        shown = await case.describer.describe(invocation)
        assert not log.requests, "a description sends nothing"
        await case.agent.invoke(invocation)
    return shown, log.requests[0], case.base


@pytest.mark.parametrize("way", ["http", "http stream", "http secret", "openai", "anthropic"])
async def test_an_http_request_is_shown_as_it_is_received(way):
    """Method, address, every header and the body; only credentials differ, which are masked."""
    shown, received, _ = await both(way)
    assert (shown["invoke"], shown["method"], shown["url"]) == ("http", received.method, received.url)
    assert shown["body"] == exact_json.loads(received.body)
    headers = {name.lower(): value for name, value in shown["headers"].items()}
    assert set(received.headers) - set(headers) == OF_THE_CLIENT
    masked = {
        "http secret": {"x-key": "${secret:env:KEY}"},
        "openai": {"authorization": "Bearer ***"},
        "anthropic": {"x-api-key": "***"},
    }.get(way, {})
    assert headers == {name: received.headers[name] for name in headers} | masked
    for name, mask in masked.items():
        assert received.headers[name] != mask


async def test_a_call_of_lambda():
    """Function, client context and event."""
    shown, received, base = await both("lambda")
    assert (shown["service"], shown["operation"], shown["region"]) == ("lambda", "Invoke", "us-east-1")
    assert shown["endpoint_url"] == base
    parameters = shown["parameters"]
    assert f"/functions/{parameters['FunctionName']}/invocations" in received.url
    assert parameters["InvocationType"] == received.headers["x-amz-invocation-type"]
    assert parameters["ClientContext"] == received.headers["x-amz-client-context"]
    assert parameters["Payload"] == exact_json.loads(received.body) == BODY


@pytest.mark.parametrize(
    ("way", "operation"), [("standard", "StartExecution"), ("express", "StartSyncExecution")]
)
async def test_an_execution(way, operation):
    """State machine, name and input of the execution that is started."""
    shown, received, _ = await both(way)
    assert shown["operation"] == operation == received.headers["x-amz-target"].rpartition(".")[2]
    sent = exact_json.loads(received.body)
    assert shown["parameters"] == sent | {"input": exact_json.loads(sent["input"])}
    assert shown["parameters"]["input"] == BODY


async def test_the_execution_of_a_later_attempt():
    """The name is that of the execution that this attempt may start."""
    shown, *_ = await both("express", attempt=3)
    assert shown["parameters"]["name"].endswith("-3")


async def test_a_request_of_converse():
    """All members of the request but the model, which stands in the path."""
    shown, received, _ = await both("converse")
    parameters = shown["parameters"]
    assert f"/model/{parameters.pop('modelId')}/converse" in received.url
    assert parameters == exact_json.loads(received.body)


async def test_a_call_of_an_agent_runtime():
    """Runtime, session and payload."""
    shown, received, _ = await both("agentcore")
    parameters = shown["parameters"]
    assert parameters["agentRuntimeArn"].rpartition("/")[2] in received.url
    session = received.headers["x-amzn-bedrock-agentcore-runtime-session-id"]
    assert (parameters["runtimeSessionId"], parameters["accept"]) == (session, received.headers["accept"])
    assert parameters["payload"] == exact_json.loads(received.body) == BODY


async def test_a_run_of_a_program():
    """The program posts its stdin and its `INVOCATION_ID` to the stand-in."""
    shown, received, base = await both("command")
    assert shown["command"][-1] == f"{base}/http/echo"
    assert shown["env"] == {"INVOCATION_ID": received.headers["idempotency-key"]}
    assert shown["stdin"] == exact_json.loads(received.body)


async def test_a_call_of_a_function():
    """The argument and `invocation_id()`; a description does not import the function."""
    module = types.ModuleType("described_functions")
    seen: list[tuple] = []
    module.function = lambda body: seen.append((body, invocation_id())) or "ok"
    options = {"function": "described_functions:function"}
    same = {"name": "a", "environ": {}, "context": CONTEXT}
    shown = await open_describer("python", options, **same).describe(Invocation(IDS[0], BODY))
    sys.modules[module.__name__] = module
    try:
        agent = open_agent("python", options, **same)
        await agent.invoke(Invocation(IDS[0], BODY, timeout_s=PATIENT_S))
        await agent.close()
    finally:
        del sys.modules[module.__name__]
    assert shown["function"] == "described_functions:function"
    assert [(shown["argument"], shown["invocation_id"])] == seen
