"""Contract of the port Agent: one suite over every way to invoke, against stand-ins for the services."""

import asyncio
import email.utils
import sys
import types
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from decimal import Decimal

import pytest
from aiohttp import web

from service.agents import open_agent
from service.agents.python import invocation_id
from service.domain import exact_json
from service.domain.errors import (
    AgentRejectedError,
    AgentThrottledError,
    AgentTimeoutError,
    AgentUnavailableError,
)
from service.domain.ports import Agent, Invocation, Reply
from tests.contract.agent_stand_ins import CONTEXT, MAX_REPLY_BYTES, NOW, PATIENT_S, CallLog, stand_in


class Throttled(Exception):  # noqa: N818
    def __init__(self, retry_after_s: float | None) -> None:
        super().__init__("slower, please")
        self.retry_after_s = retry_after_s


def behave(behaviour: str) -> object:
    errors: dict[str, Exception] = {
        "reject": ValueError("not a place: Atlantis"),
        "throttle": Throttled(7),
        "throttle-no-delay": Throttled(None),
        "error": RuntimeError("boom"),
        "unreachable": ConnectionRefusedError("nobody there"),
    }
    if behaviour in errors:
        raise errors[behaviour]
    return {"text": "plain words, no JSON: ü", "large": "x" * (MAX_REPLY_BYTES + 1)}.get(behaviour)


@asynccontextmanager
async def python_agent(log: CallLog, *, in_thread: bool) -> AsyncIterator[Callable[[str], Agent]]:
    loop = asyncio.get_running_loop()
    module = types.ModuleType("contract_functions")
    sys.modules[module.__name__] = module

    def open_one(behaviour: str) -> Agent:
        async def function(body: dict) -> object:
            log.ids.append(invocation_id())
            log.bodies.append(body)
            await log.hang(behaviour)
            return behave(behaviour) or {"got": body}

        def function_in_thread(body: dict) -> object:
            log.ids.append(invocation_id())
            log.bodies.append(body)
            asyncio.run_coroutine_threadsafe(log.hang(behaviour), loop).result()
            return behave(behaviour) or {"got": body}

        module.function = function_in_thread if in_thread else function
        options = {"function": f"{module.__name__}:function"}
        return open_agent("python", options, name="a", environ={}, context=CONTEXT)

    yield open_one
    log.release.set()
    del sys.modules[module.__name__]


class Invoker:
    """Invokes an agent with a given behaviour, opening it at the first call."""

    def __init__(self, open_one: Callable[[str], Agent]) -> None:
        self._open = open_one
        self._agents: dict[str, Agent] = {}

    async def __call__(self, behaviour: str, body: object = None, *, call_id: str = "b#1/row_1") -> Reply:
        """Invoke the agent once."""
        agent = self._agents.get(behaviour) or self._agents.setdefault(behaviour, self._open(behaviour))
        return await agent.invoke(Invocation(id=call_id, body=body or {"a": 1}, timeout_s=PATIENT_S))

    async def close(self) -> None:
        """Close every agent that was opened."""
        for agent in self._agents.values():
            await agent.close()


@pytest.fixture
def log() -> CallLog:
    return CallLog()


@pytest.fixture(
    params=[
        "http", "http secret", "lambda", "standard", "express", "agentcore", "command",
        "python thread", "python coroutine",
    ]
)  # fmt: skip
async def invoke(request: pytest.FixtureRequest, log: CallLog) -> AsyncIterator[Invoker]:
    """An invoker for each way to invoke. Models, which do not repeat their input, are in test_agent_cells."""
    way = request.param
    if way.startswith("python"):
        source = python_agent(log, in_thread=way == "python thread")
    else:
        source = stand_in(way, log)
    async with source as open_one:
        invoke = Invoker(open_one)
        yield invoke
        log.release.set()
        await invoke.close()


async def test_json_is_sent_and_received_unchanged(invoke: Invoker) -> None:
    """Long integers, decimals, Unicode and nesting arrive exactly, in both directions."""
    body = {"id": 12345678901234567890, "d": Decimal("0.1000000000000000000001"), "f": 0.1, "é": [None, True]}
    reply = await invoke("echo", body)
    assert reply.body == {"got": body}
    assert exact_json.dumps(reply.body) == exact_json.dumps({"got": body})
    assert reply.size == len(exact_json.dumps({"got": body}).encode())


async def test_text_stays_text(invoke: Invoker) -> None:
    """A reply that is no JSON is returned as text."""
    assert (await invoke("text")).body == "plain words, no JSON: ü"


async def test_a_rejected_input_rejects_the_row_with_the_agents_text(invoke: Invoker) -> None:
    """The row's error contains the text of the agent's error."""
    with pytest.raises(AgentRejectedError, match="not a place: Atlantis"):
        await invoke("reject")


async def test_a_throttle_carries_the_stated_delay(invoke: Invoker) -> None:
    """`retry_after_s` is the delay that the agent states, None if it states none."""
    with pytest.raises(AgentThrottledError) as with_delay:
        await invoke("throttle")
    assert with_delay.value.retry_after_s == 7
    with pytest.raises(AgentThrottledError) as without_delay:
        await invoke("throttle-no-delay")
    assert without_delay.value.retry_after_s is None


async def test_a_server_error_is_retryable(invoke: Invoker) -> None:
    """A 5xx or an unexpected exception is retried. Its text is kept."""
    with pytest.raises(AgentUnavailableError, match="boom"):
        await invoke("error")


async def test_an_unreachable_agent_is_retryable(invoke: Invoker) -> None:
    """No connection can be made, or the program cannot be started."""
    with pytest.raises(AgentUnavailableError):
        await invoke("unreachable")


async def test_a_reply_too_large_rejects_the_row_and_names_both_sizes(invoke: Invoker) -> None:
    """It is not retried: another attempt would give as much."""
    with pytest.raises(AgentRejectedError, match=r"10,001 bytes, 10,000 are allowed"):
        await invoke("large")


async def test_a_call_ends_at_its_time_out(
    invoke: Invoker, log: CallLog, skip_time: Callable[[float], None]
) -> None:
    """A call that hangs raises AgentTimeoutError, and the next call works."""
    call = asyncio.create_task(invoke("hang"))
    await log.started.wait()
    skip_time(PATIENT_S)
    with pytest.raises(AgentTimeoutError, match=f"no answer within {PATIENT_S:g} s"):
        await call
    log.release.set()
    assert (await invoke("hang")).body == {"got": {"a": 1}}


async def test_calls_run_concurrently_up_to_the_limit(invoke: Invoker, log: CallLog) -> None:
    """Eight calls run at once, and a ninth waits instead of failing."""
    async with asyncio.TaskGroup() as group:
        calls = [group.create_task(invoke("hang8", {"n": n}, call_id=f"b#1/call_{n}")) for n in range(9)]
        await log.started.wait()
        log.release.set()
    assert sorted(call.result().body["got"]["n"] for call in calls) == list(range(9))
    assert log.max_running >= 8


async def test_the_agent_receives_the_invocation_id(invoke: Invoker, log: CallLog) -> None:
    """It is the same for every attempt, so that an agent can recognise a repetition."""
    await asyncio.gather(invoke("echo", call_id="b#1/row_1"), invoke("echo", call_id="b#1/row_2"))
    await invoke("echo", call_id="b#1/row_1")
    assert sorted(log.ids) == ["b#1/row_1", "b#1/row_1", "b#1/row_2"]


async def test_a_cancelled_call_leaves_the_agent_usable(invoke: Invoker, log: CallLog) -> None:
    """The cancellation is raised in the caller, and the next call works."""
    call = asyncio.create_task(invoke("hang"))
    await log.started.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    log.release.set()
    assert (await invoke("hang")).body == {"got": {"a": 1}}


async def test_close_ends_running_calls_without_waiting_for_them(invoke: Invoker, log: CallLog) -> None:
    """Also if the service never replies. A closed agent refuses further calls."""
    call = asyncio.create_task(invoke("hang"))
    await log.started.wait()
    await invoke.close()
    with pytest.raises(AgentUnavailableError):
        await call
    with pytest.raises(AgentUnavailableError, match="closed"):
        await invoke("hang")


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120),
        ("1.5", 1.5),
        (email.utils.formatdate(NOW + 90, usegmt=True), 90),
        (email.utils.formatdate(NOW - 90, usegmt=True), 0),
        ("99999999", 86_400),
        ("soon", None),
        ("-5", None),
        ("nan", None),
        ("9" * 5000, None),
    ],
)
async def test_retry_after_header(header: str, seconds: float | None) -> None:
    """Seconds and HTTP dates are read, malformed values are ignored, and a longer delay is cut to a day."""

    async def handle(_request: web.Request) -> web.Response:
        return web.Response(status=429, headers={"Retry-After": header})

    runner = web.AppRunner(web_app(handle), shutdown_timeout=0.01)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    agent = open_agent("http", {"url": url}, name="a", environ={}, context=CONTEXT)
    with pytest.raises(AgentThrottledError) as throttled:
        await agent.invoke(Invocation(id="1", body={}))
    assert throttled.value.retry_after_s == (None if seconds is None else pytest.approx(seconds))
    await agent.close()
    await runner.cleanup()


def web_app(handle: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> web.Application:
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", handle)
    return app
