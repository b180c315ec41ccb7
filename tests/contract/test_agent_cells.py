"""Matrix of ways to invoke and possible results: one test per cell.

The stand-ins reply as the services document (`agent_stand_ins` names the references).
"""

import asyncio
import sys
import types
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256

import pytest

from service.adapters.memory import MemoryObjects
from service.agents import open_agent
from service.agents.aws.lambda_function import PAYLOAD_BYTES
from service.app.settings import Settings
from service.app.wiring.agents import agent_opener
from service.domain.errors import (
    AgentCredentialsError,
    AgentOutageError,
    AgentRejectedError,
    AgentThrottledError,
    AgentTimeoutError,
)
from service.domain.ports import Invocation, StoredFile
from service.mapping import Catalog
from service.mapping.replies.normalise import normalise
from tests.contract.agent_stand_ins import (
    CONTEXT,
    MAX_REPLY_BYTES,
    PATIENT_S,
    CallLog,
    StandInServices,
    serve,
    stand_in,
    target,
)

WAYS = [
    "http", "http stream", "http secret", "openai", "anthropic", "lambda", "standard", "express", "converse",
    "agentcore", "command",
]  # fmt: skip
CELLS = {
    "success": ("text", None),
    "time-out": ("hang", AgentTimeoutError),
    "throttle": ("throttle", AgentThrottledError),
    "refusal": ("reject", AgentRejectedError),
    "bad reply": ("large", AgentRejectedError),
    "credentials": ("denied", AgentCredentialsError),
    "unavailable": ("unreachable", AgentOutageError),
}


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("way", WAYS)
async def test_a_result_has_the_same_class_for_every_way_to_invoke(
    way: str, cell: str, skip_time: Callable[[float], None]
) -> None:
    """Also the stated delay of a throttle, 7 s, is the same."""
    behaviour, error = CELLS[cell]
    log = CallLog()
    async with stand_in(way, log) as open_one:
        agent = open_one(behaviour)
        call = asyncio.create_task(agent.invoke(Invocation("b#1/row_1", {"a": 1}, timeout_s=PATIENT_S)))
        if behaviour == "hang":
            await log.started.wait()
            skip_time(PATIENT_S)
        if error is None:
            reply = await call
            assert "plain words, no JSON: ü" in str(reply.body)
            assert 0 < reply.size <= MAX_REPLY_BYTES
        else:
            with pytest.raises(error) as raised:
                await call
            assert type(raised.value) is error
            assert getattr(raised.value, "retry_after_s", None) == (7 if behaviour == "throttle" else None)
        await agent.close()


@pytest.mark.parametrize(
    ("raised", "error"),
    [
        (None, None),
        (TimeoutError(), AgentTimeoutError),
        (type("Busy", (Exception,), {"retry_after_s": 7})(), AgentThrottledError),
        (ValueError("no"), AgentRejectedError),
        (ConnectionRefusedError("nobody there"), AgentOutageError),
    ],
)
async def test_an_exception_of_a_python_function_has_the_same_class(
    raised: Exception | None, error: type[Exception] | None
) -> None:
    """A function states by its exception what a service states by its protocol."""
    module = sys.modules["cell_functions"] = types.ModuleType("cell_functions")

    def function(_body: object) -> object:
        if raised is not None:
            raise raised
        return {"ok": True}

    module.function = function
    agent = open_agent("python", {"function": "cell_functions:function"}, name="a", environ={})
    call = Invocation("b#1/row_1", {})
    if error is None:
        assert (await agent.invoke(call)).body == {"ok": True}
    else:
        with pytest.raises(error) as caught:
            await agent.invoke(call)
        assert type(caught.value) is error
    await agent.close()
    del sys.modules["cell_functions"]


@pytest.mark.parametrize("way", ["openai", "anthropic", "converse"])
async def test_the_text_of_a_model_is_found_in_its_reply(way: str) -> None:
    """The mapping language normalises the replies of all models."""
    async with stand_in(way, CallLog()) as open_one:
        agent = open_one("text")
        reply = await agent.invoke(Invocation("b#1/row_1", {"prompt": "say it"}))
        assert normalise(reply.body).text == "plain words, no JSON: ü"
        await agent.close()


ASKED = {"role": "user", "content": "why?"}


@pytest.mark.parametrize(
    ("way", "parameters", "sent"),
    [
        (
            "openai",
            {"temperature": 0},
            {"messages": [{"role": "system", "content": "be brief"}, ASKED], "model": "m"},
        ),
        (
            "anthropic",
            {"temperature": 0},
            {"messages": [ASKED], "model": "m", "system": "be brief", "max_tokens": 4096},
        ),
        (
            "converse",
            {"inferenceConfig": {"temperature": 0}},
            {
                "messages": [{"role": "user", "content": [{"text": "why?"}]}],
                "system": [{"text": "be brief"}],
                "requestMetadata": {"invocation_id": "b#1/row_1"},
            },
        ),
    ],
)
async def test_the_request_to_a_model(way: str, parameters: dict, sent: dict) -> None:
    """The prompt becomes the user's message. System prompt and parameters are added."""
    log = CallLog()
    async with serve(StandInServices(log)) as base:
        invoke, options = target(way, "text", base)
        options |= {"system": "be brief", "parameters": parameters}
        agent = open_agent(invoke, options, name="a", environ={}, context=CONTEXT)
        await agent.invoke(Invocation("b#1/row_1", {"prompt": "why?", "other": 1}))
        await agent.close()
    assert log.bodies == [sent | parameters]


async def test_a_standard_execution_is_found_again_and_not_started_twice(
    skip_time: Callable[[float], None],
) -> None:
    """After a time-out the next attempt waits for the execution that still runs. Only one was started."""
    log = CallLog()
    async with stand_in("standard", log) as open_one:
        agent = open_one("hang")
        call = asyncio.create_task(
            agent.invoke(Invocation("b#1/row_1", {"a": 1}, attempt=1, timeout_s=PATIENT_S))
        )
        await log.started.wait()
        skip_time(PATIENT_S)
        with pytest.raises(AgentTimeoutError):
            await call
        log.release.set()
        reply = await agent.invoke(Invocation("b#1/row_1", {"a": 1}, attempt=2))
        again = await agent.invoke(Invocation("b#1/row_1", {"a": 1}, attempt=1))
        assert reply.body == again.body == {"got": {"a": 1}}
        assert len(log.bodies) == 1
        await agent.close()


async def test_a_failed_execution_is_followed_by_one_of_the_next_number() -> None:
    """Each attempt starts at most one execution. A repeated attempt reports its failed execution."""
    log = CallLog()
    async with stand_in("standard", log) as open_one:
        agent = open_one("error")
        for attempt, started in ((1, 1), (1, 1), (2, 2), (2, 2), (3, 3)):
            with pytest.raises(Exception, match="RuntimeError: boom"):
                await agent.invoke(Invocation("b#1/row_1", {"a": 1}, attempt=attempt))
            assert len(log.bodies) == started
        await agent.close()


async def test_an_execution_is_polled_at_growing_intervals() -> None:
    """Pauses grow from 0.25 s to 20 s, with a pause of 0.1 s before each poll for the limit of all rows."""
    log = CallLog()
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 40:
            log.release.set()
        await asyncio.sleep(0)

    async with stand_in("standard", log, sleep=sleep) as open_one:
        agent = open_one("hang")
        await agent.invoke(Invocation("b#1/row_1", {"a": 1}))
        await agent.close()
    growing = [wait for wait in waits if wait != 0.1]
    assert waits.count(0.1) == len(growing)
    assert growing[:3] == [0.25, 0.375, 0.5625]
    assert growing == sorted(growing)
    assert max(growing) == 20


LIMITS = [
    ("lambda", 6_291_456, "Lambda takes 6,291,456"),
    ("standard", 262_144, "an execution takes 262,144"),
    ("express", 262_144, "an execution takes 262,144"),
]


@pytest.mark.parametrize(("way", "size", "message"), LIMITS)
async def test_an_input_too_large_for_the_service_is_rejected(way: str, size: int, message: str) -> None:
    """One byte too many is rejected before it is sent, with limit and remedy. The largest input is sent."""
    log = CallLog()
    async with stand_in(way, log) as open_one:
        agent = open_one("text")
        with pytest.raises(AgentRejectedError, match=f"{message} .*`large_input: reference`"):
            await agent.invoke(Invocation("b#1/row_1", "x" * (size - 1)))
        assert log.bodies == []
        await agent.invoke(Invocation("b#1/row_1", "x" * (size - 2)))
        assert log.bodies == ["x" * (size - 2)]
        await agent.close()


@pytest.mark.parametrize(("way", "size", "_message"), LIMITS)
async def test_an_input_too_large_for_the_service_is_sent_as_a_reference(
    way: str, size: int, _message: str
) -> None:
    """With `large_input: reference` the largest input is sent itself. One byte more is stored in S3.

    Every attempt at the row writes the same object and sends the same reference.
    """
    log, objects = CallLog(), MemoryObjects()

    async def store(key: str, body: bytes) -> StoredFile:
        return await objects.put("results", key, body, content_type="application/json")

    invoke, options = target(way, "text", "")
    async with serve(StandInServices(log)) as base:
        options |= {"endpoint_url": base, "large_input": "reference"}
        agent = open_agent(invoke, options, name="a", environ={}, context=replace(CONTEXT, store=store))
        await agent.invoke(Invocation("b#1/row_1", "x" * (size - 2)))
        assert (await objects.listing("results", "")).sources == []
        for attempt in (1, 2):
            await agent.invoke(Invocation("b#1/row_2", "x" * (size - 1), attempt))
        await agent.close()
    (stored,) = (await objects.listing("results", "work/inputs/b/1/row_2/")).sources
    body = await objects.read(stored, 0, stored.size)
    assert body == b'"' + b"x" * (size - 1) + b'"'
    reference = {
        "bucket": "results",
        "key": stored.key,
        "bytes": size + 1,
        "sha256": sha256(body).hexdigest(),
    }
    assert log.bodies[0] == "x" * (size - 2)
    assert len(log.bodies) == (2 if way == "standard" else 3)  # a standard execution is found again
    assert all(sent == {"input_s3": reference} for sent in log.bodies[1:])


MAPPING = """
target: {{ type: agent, name: a, invoke: lambda, function: text, region: us-east-1, endpoint_url: {url},
           large_input: reference }}
output_mapping: {{ extraction_methods: [{{ method: direct, field_mappings: {{ a: $.a }} }}] }}
"""


async def test_large_inputs_are_stored_in_the_results_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wiring of the process uses the bucket for results, not the one for incoming files."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    settings = Settings(_env_file=None, bucket="incoming", output_bucket="results")  # type: ignore[call-arg]
    log, objects = CallLog(), MemoryObjects()
    async with serve(StandInServices(log)) as url:
        definition = Catalog.load({"mappings/a.yaml": MAPPING.format(url=url)}, {}).definition("a")
        agent = agent_opener(settings, {}, objects)(definition.compile())
        await agent.invoke(Invocation("b#1/row_1", "x" * PAYLOAD_BYTES))
        await agent.close()
    assert [sent["input_s3"]["bucket"] for sent in log.bodies] == ["results"]
    assert len((await objects.listing("results", "work/inputs/")).sources) == 1
