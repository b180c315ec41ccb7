"""`invoke: python`: one call of a Python function per row, in the worker's process.

`function: "module:function"` (or `"module:Class.method"`) is called with the input, a copy of its own, and
returns JSON-like values or a text. Plain functions run in threads, at most `max_concurrency` at a time;
coroutine functions run in the event loop. `invocation_id()` returns the invocation's id, which is the same
for every attempt at a row.

| the function | result |
| --- | --- |
| raises ValueError (also pydantic's ValidationError) | the row is rejected with the exception's text |
| raises an exception with `retry_after_s` | a throttle, retried after that time, or a back-off if None |
| raises TimeoutError | a time-out, retried |
| raises ConnectionRefusedError or socket.gaierror | an outage, retried |
| raises any other exception | unavailable, "TypeError: ...", retried |
| returns a value that is no JSON or too large | the row is rejected |
| takes longer than the time-out | a time-out, retried |

A thread cannot be stopped. One that exceeds the time-out keeps its slot until its function returns; while
all slots are taken, rows time out. The threads are daemons, so that neither `close` nor the end of the
process waits for them. A ThreadPoolExecutor would: it joins its threads at exit.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import copy
import difflib
import importlib
import inspect
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from service.agents.json_values import to_json
from service.agents.options.context import REPLY_LIMIT_SETTING, AgentContext
from service.agents.options.substitution import ResolvedOptions
from service.agents.wire.retry_after import MAX_RETRY_AFTER_S
from service.domain import exact_json
from service.domain.errors import (
    AgentOutageError,
    AgentRejectedError,
    AgentRetryableError,
    AgentThrottledError,
    AgentTimeoutError,
    AgentUnavailableError,
    ConfigError,
)
from service.domain.model import Json
from service.domain.ports import Agent, Invocation, Reply
from service.mapping.targets import RESERVED_PACKAGE

ERROR_CHARS = 1_000
"""Characters of an exception's text that go into the row's error."""

CLOSE_GRACE_S = 1.0
"""Time that `close` gives cancelled coroutines to clean up."""

_invocation_id: contextvars.ContextVar[str] = contextvars.ContextVar("invocation_id", default="")

Function = Callable[[Json], Any]


def invocation_id() -> str:
    """The id of the running call, for a function that must recognise a repetition; "" outside a call."""
    return _invocation_id.get()


def open_python(options: ResolvedOptions, context: AgentContext) -> Agent:
    """Import the function. Raises ConfigError that names module, function, and where they were searched."""
    calls = python_calls(options, context)
    return PythonAgent(
        _import_function(options, context.search_path),
        calls,
        max_concurrency=context.max_concurrency,
        max_reply_bytes=context.max_reply_bytes,
    )


@dataclass(frozen=True, slots=True, repr=False)
class FunctionCall:
    """One call of a function: its argument, a copy of the input, and `invocation_id()` inside it."""

    function: str
    argument: Json
    invocation_id: str

    def as_json(self) -> dict[str, Json]:
        """The call to show."""
        return {
            "function": self.function,
            "argument": self.argument,
            "invocation_id": self.invocation_id,
        }


@dataclass(frozen=True, slots=True)
class FunctionCalls:
    """Builds the calls of a function, `module:function`."""

    function: str

    async def call(self, invocation: Invocation) -> FunctionCall:
        """The call for an input."""
        return FunctionCall(self.function, copy.deepcopy(invocation.body), invocation.id)


def python_calls(options: ResolvedOptions, _context: AgentContext) -> FunctionCalls:
    """The builder of a target's calls; nothing is imported. Raises ConfigError."""
    options.allow_only("function")
    return FunctionCalls(options.text("function"))


def _import_function(options: ResolvedOptions, search_path: str) -> Function:
    spec = options.text("function")
    module_name, _, attribute = spec.partition(":")
    if not module_name or not attribute:
        raise ConfigError(f"{options.where}: function {spec!r} must be written module:function")
    # For a console script, sys.path does not contain the folder in which it was started.
    if search_path and search_path not in sys.path:
        sys.path.insert(0, search_path)
    # The module's file may be newer than the folder listings that the import system has cached.
    importlib.invalidate_caches()
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # noqa: BLE001 -- a module may raise anything
        raise ConfigError(
            f"{options.where}: function {spec!r}: module {module_name!r} cannot be imported "
            f"({type(error).__name__}: {error}); "
            f"looked in {search_path or 'no folder of its own'} and sys.path "
            f"(hint: {_import_hint(error, module_name)})"
        ) from None
    function: Any = module
    for part in attribute.split("."):
        function = getattr(function, part, None)
    if not callable(function):
        near = difflib.get_close_matches(attribute, [name for name in vars(module) if name[0] != "_"], n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        what = "has no function" if function is None else "has something that is no function,"
        raise ConfigError(
            f"{options.where}: function {spec!r}: {module_name} ({getattr(module, '__file__', None)}) "
            f"{what} {attribute!r}{hint}"
        )
    return cast(Function, function)


def _import_hint(error: BaseException, module_name: str) -> str:
    if isinstance(error, ImportError) and (error.name or "").partition(".")[0] == RESERVED_PACKAGE:
        return (
            f"in rowfleet's processes {RESERVED_PACKAGE!r} is rowfleet's own package: rename yours, or call "
            "it by invoke: command or http, which run in a process of their own"
        )
    return f"start rowfleet in the folder that holds {module_name.partition('.')[0]!r}, or install it"


class PythonAgent:
    """A Python function as an agent."""

    def __init__(
        self, function: Function, calls: FunctionCalls, *, max_concurrency: int, max_reply_bytes: int
    ) -> None:
        self._function = function
        self._builder = calls
        self._name = calls.function
        self._max_reply_bytes = max_reply_bytes
        self._slots = asyncio.Semaphore(max_concurrency)
        self._calls: set[asyncio.Task[Any]] = set()
        self._closed = False
        # An object with an async `__call__` is not recognised by iscoroutinefunction(function) alone.
        call = getattr(function, "__call__", None)  # noqa: B004 -- its kind is the question, not its being there
        self._is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)

    async def invoke(self, invocation: Invocation) -> Reply:
        """Call the function within the time-out, and convert its result to JSON values."""
        if self._closed:
            raise AgentUnavailableError(f"{self._name}: the agent is closed")
        built = await self._builder.call(invocation)
        call = asyncio.create_task(self._call(built.argument, built.invocation_id))
        self._calls.add(call)
        call.add_done_callback(self._discard)
        try:
            # Not asyncio.timeout: a coroutine that does not react to its cancellation must not delay the row.
            await asyncio.wait({call}, timeout=invocation.timeout_s)
        finally:
            call.cancel()  # no effect on a call that is done
        if not call.done():
            raise AgentTimeoutError(f"{self._name}: no answer within {invocation.timeout_s:g} s")
        if call.cancelled():
            raise AgentUnavailableError(
                f"{self._name}: the call was cancelled from inside, or the agent closed"
            )
        error = call.exception()
        if error is not None:
            raise self._translate(error)
        return self._reply(call.result())

    async def close(self) -> None:
        """Cancel running coroutines, leave threads alone, and return within `CLOSE_GRACE_S`."""
        self._closed = True
        for call in self._calls:
            call.cancel()
        if self._calls:
            await asyncio.wait(set(self._calls), timeout=CLOSE_GRACE_S)

    def _discard(self, call: asyncio.Task[Any]) -> None:
        self._calls.discard(call)
        if not call.cancelled():
            # The caller may have timed out. asyncio prints exceptions that nothing has retrieved.
            call.exception()

    async def _call(self, body: Json, call_id: str) -> Any:
        _invocation_id.set(call_id)
        try:
            if self._is_async:
                return await self._function(body)
            result = await self._call_in_thread(body)
            # A plain function may return a coroutine, for example a lambda around a coroutine function.
            return await result if inspect.isawaitable(result) else result
        except (KeyboardInterrupt, SystemExit) as error:  # a function must not end the process
            raise RuntimeError(f"{type(error).__name__} was raised") from None

    async def _call_in_thread(self, body: Json) -> Any:
        await self._slots.acquire()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        context = contextvars.copy_context()

        def finish(result: Any, error: BaseException | None) -> None:
            """In the loop: release the slot, and pass the result on unless the caller has gone."""
            self._slots.release()
            if future.done():
                return
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

        def run() -> None:
            """In the thread: call the function."""
            result: Any = None
            error: BaseException | None = None
            try:
                result = context.run(self._function, body)
            except StopIteration as raised:
                error = RuntimeError(f"StopIteration: {raised}")  # a future cannot hold StopIteration
            except BaseException as raised:  # noqa: BLE001 -- the caller gets it
                error = raised
            with contextlib.suppress(RuntimeError):  # the loop is closed: there is no caller any more
                loop.call_soon_threadsafe(finish, result, error)

        try:
            threading.Thread(target=run, name=f"agent {self._name}", daemon=True).start()
        except RuntimeError:  # the machine has no threads left
            self._slots.release()
            raise
        return await future

    def _translate(self, error: BaseException) -> AgentRetryableError | AgentRejectedError:
        """The error for an exception of the function."""
        message = _text_of(error)
        text = f"{type(error).__name__}: {message}".rstrip(": ")
        if isinstance(error, AgentRetryableError | AgentRejectedError):
            return error
        if hasattr(error, "retry_after_s"):
            return AgentThrottledError(text, retry_after_s=_valid_delay_s(error.retry_after_s))
        if isinstance(error, TimeoutError):
            return AgentTimeoutError(text)
        if isinstance(error, ConnectionRefusedError | socket.gaierror):
            return AgentOutageError(text)
        if isinstance(error, ValueError):
            return AgentRejectedError(message or type(error).__name__)
        return AgentUnavailableError(text)

    def _reply(self, result: Any) -> Reply:
        try:
            data = (result if isinstance(result, str) else exact_json.dumps(to_json(result))).encode()
        except ValueError as error:
            reason = "its text is no valid Unicode" if isinstance(error, UnicodeError) else str(error)
            raise AgentRejectedError(f"{self._name} returned what is no JSON: {reason}") from None
        if len(data) > self._max_reply_bytes:
            raise AgentRejectedError(
                f"{self._name}: the reply has {len(data):,} bytes, "
                f"{self._max_reply_bytes:,} are allowed ({REPLY_LIMIT_SETTING})"
            )
        return Reply(body=_parse(data, result), size=len(data))


def _valid_delay_s(delay_s: Any) -> float | None:
    """`retry_after_s` of an exception, cut to a day; None unless it is a number from 0."""
    # The comparison is false for NaN as well.
    if isinstance(delay_s, int | float) and delay_s >= 0:
        return float(min(delay_s, MAX_RETRY_AFTER_S))
    return None


def _text_of(error: BaseException) -> str:
    try:
        return str(error)[:ERROR_CHARS]
    except Exception:  # noqa: BLE001 -- a broken __str__ must not hide the exception's type
        return ""


def _parse(data: bytes, result: Any) -> Json:
    """The body as an HTTP agent would read it, except that a text is parsed only if it is an object or list.

    `"12"` returned by a function is meant as a text.
    """
    if isinstance(result, str) and result.lstrip()[:1] not in {"{", "["}:
        return str(result)
    try:
        return exact_json.loads(data)
    except ValueError:
        return str(result)
