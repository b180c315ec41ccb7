"""The Python agent: imports, exceptions, results that are no JSON, threads that do not end."""

import asyncio
import decimal
import enum
import subprocess
import sys
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from decimal import Decimal
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest

from service.agents import open_agent
from service.agents.options.context import AgentContext
from service.domain.errors import (
    AgentRejectedError,
    AgentRetryableError,
    AgentThrottledError,
    AgentTimeoutError,
    AgentUnavailableError,
    ConfigError,
)
from service.domain.ports import Agent, Invocation, Reply

ROOT = Path(__file__).parents[3]

Call = Callable[..., Awaitable[Reply]]


@pytest.fixture
async def open_function() -> AsyncIterator[Callable[..., Agent]]:
    """Open agents that call a given function; they are closed at the end."""
    module = ModuleType("unit_functions")
    sys.modules[module.__name__] = module
    agents: list[Agent] = []

    def open_one(function: object, **context: int) -> Agent:
        module.function = function
        options = {"function": "unit_functions:function"}
        agent_context = AgentContext(**context)
        agents.append(open_agent("python", options, name="a", environ={}, context=agent_context))
        return agents[-1]

    yield open_one
    for agent in agents:
        await agent.close()
    del sys.modules[module.__name__]


@pytest.fixture
def call(open_function: Callable[..., Agent]) -> Call:
    async def once(function: object, body: object = None, *, timeout_s: float = 3_600) -> Reply:
        return await open_function(function).invoke(Invocation(id="1", body=body, timeout_s=timeout_s))

    return once


def raising(error: BaseException) -> Callable[[object], None]:
    def function(_body: object) -> None:
        raise error

    return function


def raising_async(error: BaseException) -> Callable[[object], Awaitable[None]]:
    async def function(_body: object) -> None:
        raise error

    return function


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def with_retry_after(wait_s: object) -> Exception:
    error = RuntimeError("slow down")
    error.retry_after_s = wait_s  # type: ignore[attr-defined]
    return error


@pytest.mark.parametrize("kind", [raising, raising_async])
@pytest.mark.parametrize(
    ("raised", "error", "text"),
    [
        (ValueError("no such place"), AgentRejectedError, "no such place"),
        (ValueError(), AgentRejectedError, "ValueError"),
        (UnicodeDecodeError("utf-8", b"", 0, 1, "bad"), AgentRejectedError, "bad"),
        (TypeError("NoneType"), AgentUnavailableError, "TypeError: NoneType"),
        (KeyError("x"), AgentUnavailableError, "KeyError: 'x'"),
        (decimal.InvalidOperation(), AgentUnavailableError, "InvalidOperation"),
        (TimeoutError("upstream"), AgentTimeoutError, "TimeoutError: upstream"),
        (ConnectionResetError(104, "reset"), AgentUnavailableError, "ConnectionResetError"),
        (with_retry_after(2.5), AgentThrottledError, "RuntimeError: slow down"),
        (with_retry_after("soon"), AgentThrottledError, "slow down"),
        (AgentTimeoutError("as it is"), AgentTimeoutError, "^as it is$"),
        (AgentRejectedError("as it is"), AgentRejectedError, "^as it is$"),
        (SystemExit(1), AgentUnavailableError, "SystemExit"),
        (KeyboardInterrupt(), AgentUnavailableError, "KeyboardInterrupt"),
        (StopIteration(), AgentUnavailableError, "StopIteration"),
        (asyncio.CancelledError(), AgentUnavailableError, "cancelled from inside"),
        (UnprintableError(), AgentUnavailableError, "UnprintableError"),
        (RuntimeError("x" * 100_000), AgentUnavailableError, "x{900}"),
        (ExceptionGroup("many", [ValueError("a")]), AgentUnavailableError, "many"),
    ],
    ids=repr,
)
async def test_the_exception_classifies_the_error(
    call: Call, kind: Callable[..., object], raised: BaseException, error: type[Exception], text: str
) -> None:
    """ValueError rejects the row, any other exception is retried. No exception escapes untranslated."""
    with pytest.raises(error, match=text) as caught:
        await call(kind(raised))
    assert len(str(caught.value)) < 1_200


@pytest.mark.parametrize(
    ("stated_s", "delay_s"), [(2.5, 2.5), (0, 0), (-1, None), (float("nan"), None), (1e300, 86_400)]
)
async def test_an_exception_may_state_a_delay(call: Call, stated_s: float, delay_s: float | None) -> None:
    """`retry_after_s` of any exception counts if it is a number from 0, cut to a day."""
    with pytest.raises(AgentThrottledError) as caught:
        await call(raising(with_retry_after(stated_s)))
    assert caught.value.retry_after_s == delay_s


class Colour(enum.StrEnum):
    RED = "red"


class Size(enum.IntEnum):
    SMALL = 1


@pytest.mark.parametrize(
    ("value", "body"),
    [
        (None, None),
        (True, True),
        (12345678901234567890, 12345678901234567890),
        (Decimal("0.10"), Decimal("0.10")),
        (Decimal("0.1000000000000000000001"), Decimal("0.1000000000000000000001")),
        ((1, 2), [1, 2]),
        (OrderedDict(a=1), {"a": 1}),
        ({1: "one"}, {"1": "one"}),
        ([Colour.RED, Size.SMALL], ["red", 1]),
        ("words", "words"),
        ("12", "12"),
        ('{"a": [1]}', {"a": [1]}),
        ("{not json", "{not json"),
        ("", ""),
    ],
    ids=repr,
)
async def test_results_that_are_json(call: Call, value: object, body: object) -> None:
    """They are converted to plain JSON values. A text that is a JSON object or list is parsed."""
    reply = await call(lambda _body: value)
    assert reply.body == body
    assert type(reply.body) is type(body)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (object(), r"\$ is of type object"),
        ({"a": [1, {2}]}, r"\$\.a\[1\] is of type set"),
        (float("nan"), "is nan, which JSON cannot hold"),
        (Decimal("sNaN"), "is sNaN, which JSON cannot hold"),
        ({"a": float("inf")}, r"\$\.a is inf"),
        (Decimal("NaN"), "is NaN"),
        (b"bytes", "of type bytes"),
        ({("a", 1): 1}, "a key of type tuple"),
        ({None: 1}, "a key of type NoneType"),
        pytest.param(10**5_000, "more than 4,000 digits", id="long"),
        ("\ud800", "no valid Unicode"),
        ({"a": "\ud800"}, "no valid Unicode"),
        (Colour, "is of type EnumType|EnumMeta"),
    ],
)
async def test_results_that_are_no_json(call: Call, value: object, message: str) -> None:
    """The error contains the path in the result and the type or value there."""
    with pytest.raises(AgentRejectedError, match=message):
        await call(lambda _body: value)


async def test_a_result_that_contains_itself(call: Call) -> None:
    """The row is rejected at the maximal depth."""
    circle: list[object] = []
    circle.append(circle)
    with pytest.raises(AgentRejectedError, match="or holds itself"):
        await call(lambda _body: circle)


async def test_the_function_gets_a_copy_of_the_input(call: Call) -> None:
    """Its changes do not affect the next attempt."""
    body = {"a": [1]}

    def function(body: dict) -> int:
        body["a"].append(2)
        return len(body["a"])

    assert (await call(function, body)).body == 2
    assert body == {"a": [1]}


async def test_kinds_of_callables(call: Call) -> None:
    """Callable objects, partial functions, and a plain function that returns a coroutine."""

    class Sync:
        def __call__(self, body: int) -> int:
            return body + 1

    class Async:
        async def __call__(self, body: int) -> int:
            return body + 1

    async def add(number: int, body: int) -> int:
        return body + number

    for function in (Sync(), Async(), partial(add, 1), lambda body: add(1, body)):
        assert (await call(function, 1)).body == 2


async def test_plain_functions_run_in_a_limited_number_of_threads(
    open_function: Callable[..., Agent], skip_time: Callable[[float], None]
) -> None:
    """The event loop stays free. A function that exceeds its time-out keeps its slot until it returns."""
    release, names, running_threads = threading.Event(), set(), []
    loop, full = asyncio.get_running_loop(), asyncio.Event()

    def function(_body: object) -> int:
        names.add(threading.current_thread().name)
        running_threads.append(sum(thread.name.startswith("agent ") for thread in threading.enumerate()))
        if len(running_threads) == 2:
            loop.call_soon_threadsafe(full.set)
        release.wait()
        return 1

    agent = open_function(function, max_concurrency=2)
    calls = [agent.invoke(Invocation(id=str(n), body=None, timeout_s=3_600)) for n in range(5)]
    running = asyncio.gather(*calls, return_exceptions=True)
    await full.wait()
    skip_time(3_600)
    results = await running
    assert all(isinstance(result, AgentTimeoutError) for result in results)
    assert len(running_threads) == 2
    assert max(running_threads) <= 2
    release.set()
    assert (await agent.invoke(Invocation(id="6", body=None))).body == 1
    assert names == {"agent unit_functions:function"}


async def test_a_coroutine_that_ignores_cancellation_times_out(
    call: Call, skip_time: Callable[[float], None]
) -> None:
    """It delays neither the row nor, beyond CLOSE_GRACE_S, `close`."""
    started, release = asyncio.Event(), asyncio.Event()

    async def function(_body: object) -> None:
        started.set()
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    running = asyncio.create_task(call(function))
    await started.wait()
    skip_time(3_600)
    with pytest.raises(AgentTimeoutError):
        await running
    release.set()


def test_the_process_ends_while_a_function_hangs() -> None:
    """Neither `close` nor the end of the process waits for its thread."""
    program = """
import asyncio, sys, threading, types
from service.agents import open_agent
from service.domain.errors import AgentTimeoutError
from service.domain.ports import Invocation
module = sys.modules["m"] = types.ModuleType("m")
module.hang = lambda given: threading.Event().wait()
async def main():
    agent = open_agent("python", {"function": "m:hang"}, name="a", environ={})
    try:
        await agent.invoke(Invocation(id="1", body=None, timeout_s=0.05))
    except AgentTimeoutError:
        print("timed out")
    await agent.close()
asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "timed out\n", "")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (
            "nowhere:f",
            r"module 'nowhere' cannot be imported \(ModuleNotFoundError.*looked in .*hint: start rowfleet",
        ),
        ("their_client:f", r"No module named 'service.client'.*hint: in rowfleet's .* rename yours, or"),
        ("their_name:f", r"cannot import name 'client'.*hint: in rowfleet's .* rename yours, or"),
        ("broken:f", "module 'broken' cannot be imported .*SyntaxError"),
        ("exits:f", "module 'exits' cannot be imported .*SystemExit"),
        ("fine:anwser", r"has no function 'anwser' \(did you mean answer\?\)"),
        ("fine:answer.nothing", "has no function 'answer.nothing'"),
        ("fine:number", "something that is no function, 'number'"),
        ("fine", "must be written module:function"),
        ("fine.answer", "must be written module:function"),
        ("..:f", "cannot be imported"),
        ("", "must be a text"),
    ],
)
def test_a_failed_import_raises_config_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, message: str
) -> None:
    """When the agent is open_function. The error names the folders that were searched."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "broken.py").write_text("def f(:")
    (tmp_path / "their_client.py").write_text("import service.client")
    (tmp_path / "their_name.py").write_text("from service import client")
    (tmp_path / "exits.py").write_text("raise SystemExit(3)")
    (tmp_path / "fine.py").write_text("number = 1\ndef answer(given): return given")
    context = AgentContext(search_path=str(tmp_path))
    with pytest.raises(ConfigError, match=message):
        open_agent("python", {"function": function}, name="a", environ={}, context=context)


async def test_modules_come_from_the_search_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the folder in which rowfleet was started."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    text = "class Finder:\n    @staticmethod\n    def answer(given): return {'here': given}"
    (tmp_path / "only_here.py").write_text(text)
    context = AgentContext(search_path=str(tmp_path))
    agent = open_agent(
        "python", {"function": "only_here:Finder.answer"}, name="a", environ={}, context=context
    )
    assert (await agent.invoke(Invocation(id="1", body=1))).body == {"here": 1}
    await agent.close()
    with pytest.raises(AgentRetryableError, match="closed"):
        await agent.invoke(Invocation(id="1", body=1))
