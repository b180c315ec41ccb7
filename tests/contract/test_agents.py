"""Every way to invoke an agent keeps the same promises: one suite over all of them."""

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
from tests.contract.agent_stand_ins import CONTEXT, MAX_REPLY_BYTES, NOW, PATIENT_S, Seen, stand_in


class Throttled(Exception):  # noqa: N818
    def __init__(self, retry_after_s: float | None) -> None:
        super().__init__("slower, please")
        self.retry_after_s = retry_after_s


def behaviour(what: str) -> object:
    raised: dict[str, Exception] = {
        "reject": ValueError("not a place: Atlantis"),
        "throttle": Throttled(7),
        "throttle-unsaid": Throttled(None),
        "error": RuntimeError("boom"),
        "unreachable": ConnectionRefusedError("nobody there"),
    }
    if what in raised:
        raise raised[what]
    return {"text": "plain words, no JSON: ü", "large": "x" * (MAX_REPLY_BYTES + 1)}.get(what)


@asynccontextmanager
async def python_agent(seen: Seen, *, in_thread: bool) -> AsyncIterator[Callable[[str], Agent]]:
    loop = asyncio.get_running_loop()
    module = types.ModuleType("contract_functions")
    sys.modules[module.__name__] = module

    def opened(what: str) -> Agent:
        async def answer(given: dict) -> object:
            seen.ids.append(invocation_id())
            seen.bodies.append(given)
            await seen.hang(what)
            return behaviour(what) or {"got": given}

        def answer_in_thread(given: dict) -> object:
            seen.ids.append(invocation_id())
            seen.bodies.append(given)
            asyncio.run_coroutine_threadsafe(seen.hang(what), loop).result()
            return behaviour(what) or {"got": given}

        module.answer = answer_in_thread if in_thread else answer
        options = {"function": f"{module.__name__}:answer"}
        return open_agent("python", options, name="a", environ={}, context=CONTEXT)

    yield opened
    seen.release.set()
    del sys.modules[module.__name__]


class Ask:
    """Asks the agent that behaves as `what`, once per call."""

    def __init__(self, opened: Callable[[str], Agent]) -> None:
        self._opened = opened
        self._agents: dict[str, Agent] = {}

    async def __call__(self, what: str, body: object = None, *, call_id: str = "b#1/row_1") -> Reply:
        """One attempt."""
        agent = self._agents.get(what) or self._agents.setdefault(what, self._opened(what))
        return await agent.invoke(Invocation(id=call_id, body=body or {"a": 1}, timeout_s=PATIENT_S))

    async def close(self) -> None:
        """Close every agent that was opened."""
        for agent in self._agents.values():
            await agent.close()


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture(
    params=[
        "http", "http secret", "lambda", "standard", "express", "agentcore", "command",
        "python thread", "python coroutine",
    ]
)  # fmt: skip
async def ask(request: pytest.FixtureRequest, seen: Seen) -> AsyncIterator[Ask]:
    """The same questions to every agent that answers as it is told; models are in test_agent_cells."""
    way = request.param
    if way.startswith("python"):
        source = python_agent(seen, in_thread=way == "python thread")
    else:
        source = stand_in(way, seen)
    async with source as opened:
        ask = Ask(opened)
        yield ask
        seen.release.set()
        await ask.close()


async def test_json_comes_back_as_it_went_out(ask: Ask) -> None:
    """Integers of any length, decimals, Unicode and nesting survive both ways, digit by digit."""
    body = {"id": 12345678901234567890, "d": Decimal("0.1000000000000000000001"), "f": 0.1, "é": [None, True]}
    reply = await ask("echo", body)
    assert reply.body == {"got": body}
    assert exact_json.dumps(reply.body) == exact_json.dumps({"got": body})
    assert reply.size == len(exact_json.dumps({"got": body}).encode())


async def test_text_stays_text(ask: Ask) -> None:
    """An answer that is no JSON is no error."""
    assert (await ask("text")).body == "plain words, no JSON: ü"


async def test_a_refusal_rejects_the_row_with_the_agents_words(ask: Ask) -> None:
    """The row's error says what the agent said."""
    with pytest.raises(AgentRejectedError, match="not a place: Atlantis"):
        await ask("reject")


async def test_a_throttle_carries_the_wish_to_wait(ask: Ask) -> None:
    """Where the agent says how long, the worker knows; where it does not, that is no error."""
    with pytest.raises(AgentThrottledError) as said:
        await ask("throttle")
    assert said.value.retry_after_s == 7
    with pytest.raises(AgentThrottledError) as unsaid:
        await ask("throttle-unsaid")
    assert unsaid.value.retry_after_s is None


async def test_an_agents_own_fault_is_retryable(ask: Ask) -> None:
    """A 5xx or an unexpected exception may pass; its text is kept."""
    with pytest.raises(AgentUnavailableError, match="boom"):
        await ask("error")


async def test_unreachable_is_retryable(ask: Ask) -> None:
    """Nobody there now: maybe later."""
    with pytest.raises(AgentUnavailableError):
        await ask("unreachable")


async def test_a_reply_too_large_rejects_the_row_and_names_both_sizes(ask: Ask) -> None:
    """Asking again would give as much again."""
    with pytest.raises(AgentRejectedError, match=r"10,001 bytes, 10,000 are allowed"):
        await ask("large")


async def test_the_time_out_holds(ask: Ask, seen: Seen, skip_time: Callable[[float], None]) -> None:
    """A call that hangs ends as timed out, and the next one works."""
    call = asyncio.create_task(ask("hang"))
    await seen.started.wait()
    skip_time(PATIENT_S)
    with pytest.raises(AgentTimeoutError, match=f"no answer within {PATIENT_S:g} s"):
        await call
    seen.release.set()
    assert (await ask("hang")).body == {"got": {"a": 1}}


async def test_calls_run_at_the_same_time_up_to_the_limit(ask: Ask, seen: Seen) -> None:
    """Eight at once are under way together, and a ninth waits instead of failing."""
    async with asyncio.TaskGroup() as group:
        calls = [group.create_task(ask("hang8", {"n": n}, call_id=f"b#1/call_{n}")) for n in range(9)]
        await seen.started.wait()
        seen.release.set()
    assert sorted(call.result().body["got"]["n"] for call in calls) == list(range(9))
    assert seen.most_running >= 8


async def test_the_agent_learns_the_id_of_the_invocation(ask: Ask, seen: Seen) -> None:
    """The same for every attempt, so that an agent can recognise a repetition."""
    await asyncio.gather(ask("echo", call_id="b#1/row_1"), ask("echo", call_id="b#1/row_2"))
    await ask("echo", call_id="b#1/row_1")
    assert sorted(seen.ids) == ["b#1/row_1", "b#1/row_1", "b#1/row_2"]


async def test_a_cancelled_call_leaves_the_agent_usable(ask: Ask, seen: Seen) -> None:
    """Cancelling is passed on, and the next call works."""
    call = asyncio.create_task(ask("hang"))
    await seen.started.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    seen.release.set()
    assert (await ask("hang")).body == {"got": {"a": 1}}


async def test_close_ends_calls_under_way_and_does_not_wait_for_them(ask: Ask, seen: Seen) -> None:
    """Also where the far side never comes back; a closed agent refuses further calls."""
    call = asyncio.create_task(ask("hang"))
    await seen.started.wait()
    await ask.close()
    with pytest.raises(AgentUnavailableError):
        await call
    with pytest.raises(AgentUnavailableError, match="closed"):
        await ask("hang")


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
async def test_retry_after_over_http(header: str, seconds: float | None) -> None:
    """Seconds and HTTP dates are understood, nonsense is ignored, and a year is taken for a day."""

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
