"""`invoke: python`: a function of yours per row, in this process.

`function: "module:function"` (or `"module:Class.method"`) is called with the mapped input, a dict of its
own, and returns what JSON can hold, or a text. Plain functions run in threads, at most `max_concurrency` at
a time; coroutine functions in the loop. `invocation_id()` gives the id that is the same for every attempt at
a row.

| the function | the row |
| --- | --- |
| raises ValueError (also pydantic's ValidationError) | is rejected with its text |
| raises something with `retry_after_s` | is throttled: again after that many seconds, or a back-off if None |
| raises TimeoutError | timed out: again later |
| raises ConnectionRefusedError or socket.gaierror | an outage: again later |
| raises anything else | unavailable, "TypeError: ...": again later |
| returns what is no JSON, or too much of it | is rejected |
| takes longer than the time-out | timed out: again later |

A thread cannot be stopped: one that overruns keeps its place until its function returns, and while all
places are taken rows time out. The threads are daemons, so neither `close` nor the end of the process
waits for them (which is why this is no ThreadPoolExecutor: that joins its threads at exit).
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
from typing import Any, cast

from service.agents.json_values import to_json
from service.agents.options.context import REPLY_LIMIT_SETTING, AgentContext
from service.agents.options.substitution import ResolvedOptions
from service.agents.wire.retry_after import LONGEST_S
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

ERROR_CHARS = 1_000
"""How much of an exception's text goes into the row's error."""

CLOSE_GRACE_S = 1.0
"""How long `close` lets cancelled coroutines clean up."""

_invocation_id: contextvars.ContextVar[str] = contextvars.ContextVar("invocation_id", default="")

Function = Callable[[Json], Any]


def invocation_id() -> str:
    """The id of the call under way, for a function that has to recognise a repetition; "" outside a call."""
    return _invocation_id.get()


def open_python(options: ResolvedOptions, context: AgentContext) -> Agent:
    """Import the function. Raises ConfigError naming module, function and where they were looked for."""
    options.expect("function")
    return PythonAgent(
        _import(options, context.search_path),
        name=options.text("function"),
        max_concurrency=context.max_concurrency,
        max_reply_bytes=context.max_reply_bytes,
    )


def _import(options: ResolvedOptions, search_path: str) -> Function:
    spec = options.text("function")
    module_name, _, attribute = spec.partition(":")
    if not module_name or not attribute:
        raise ConfigError(f"{options.place}: function {spec!r} must be written module:function")
    if search_path and search_path not in sys.path:
        sys.path.insert(0, search_path)
    importlib.invalidate_caches()
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # noqa: BLE001 -- a module may raise anything
        raise ConfigError(
            f"{options.place}: function {spec!r}: module {module_name!r} cannot be imported "
            f"({type(error).__name__}: {error}); "
            f"looked in {search_path or 'no folder of its own'} and sys.path (hint: start rowfleet in "
            f"the folder that holds {module_name.partition('.')[0]!r}, or install it)"
        ) from None
    function: Any = module
    for part in attribute.split("."):
        function = getattr(function, part, None)
    if not callable(function):
        near = difflib.get_close_matches(attribute, [name for name in vars(module) if name[0] != "_"], n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        what = "has no function" if function is None else "has something that is no function,"
        raise ConfigError(
            f"{options.place}: function {spec!r}: {module_name} ({getattr(module, '__file__', None)}) "
            f"{what} {attribute!r}{hint}"
        )
    return cast(Function, function)


class PythonAgent:
    """An agent that is a function."""

    def __init__(self, function: Function, *, name: str, max_concurrency: int, max_reply_bytes: int) -> None:
        self._function = function
        self._name = name
        self._max_reply_bytes = max_reply_bytes
        self._places = asyncio.Semaphore(max_concurrency)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False
        call = getattr(function, "__call__", None)  # noqa: B004 -- its kind is the question, not its being there
        self._is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)

    async def invoke(self, invocation: Invocation) -> Reply:
        """Call the function within the time-out, and hold its result to what JSON can say."""
        if self._closed:
            raise AgentUnavailableError(f"{self._name}: the agent is closed")
        task = asyncio.create_task(self._call(copy.deepcopy(invocation.body), invocation.id))
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        try:
            await asyncio.wait({task}, timeout=invocation.timeout_s)
        finally:
            task.cancel()
        if not task.done():
            raise AgentTimeoutError(f"{self._name}: no answer within {invocation.timeout_s:g} s")
        if task.cancelled():
            raise AgentUnavailableError(
                f"{self._name}: the call was cancelled from inside, or the agent closed"
            )
        error = task.exception()
        if error is not None:
            raise self._translate(error)
        return self._reply(task.result())

    async def close(self) -> None:
        """Cancel coroutines under way, leave threads alone; returns within `CLOSE_GRACE_S`."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=CLOSE_GRACE_S)

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # of a call nobody waits for any more: without this, asyncio prints it

    async def _call(self, body: Json, call_id: str) -> Any:
        _invocation_id.set(call_id)
        try:
            if not self._is_async:
                result = await self._in_thread(body)
                return await result if inspect.isawaitable(result) else result
            return await self._function(body)
        except (KeyboardInterrupt, SystemExit) as error:  # a function must not end the process
            raise RuntimeError(f"{type(error).__name__} was raised") from None

    async def _in_thread(self, body: Json) -> Any:
        await self._places.acquire()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        context = contextvars.copy_context()

        def settle(result: Any, error: BaseException | None) -> None:
            self._places.release()
            if answer.done():
                return
            if error is None:
                answer.set_result(result)
            else:
                answer.set_exception(error)

        def run() -> None:
            result: Any = None
            error: BaseException | None = None
            try:
                result = context.run(self._function, body)
            except StopIteration as raised:
                error = RuntimeError(f"StopIteration: {raised}")  # which no future can hold
            except BaseException as raised:  # noqa: BLE001 -- it belongs to whoever waits
                error = raised
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                loop.call_soon_threadsafe(settle, result, error)

        try:
            threading.Thread(target=run, name=f"agent {self._name}", daemon=True).start()
        except RuntimeError:  # the machine has no threads left
            self._places.release()
            raise
        return await answer

    def _translate(self, error: BaseException) -> AgentRetryableError | AgentRejectedError:
        said = _text_of(error)
        text = f"{type(error).__name__}: {said}".rstrip(": ")
        if isinstance(error, AgentRetryableError | AgentRejectedError):
            return error
        if hasattr(error, "retry_after_s"):
            wait_s = error.retry_after_s
            known = isinstance(wait_s, int | float) and wait_s >= 0
            return AgentThrottledError(text, retry_after_s=float(min(wait_s, LONGEST_S)) if known else None)
        if isinstance(error, TimeoutError):
            return AgentTimeoutError(text)
        if isinstance(error, ConnectionRefusedError | socket.gaierror):
            return AgentOutageError(text)
        if isinstance(error, ValueError):
            return AgentRejectedError(said or type(error).__name__)
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


def _text_of(error: BaseException) -> str:
    try:
        return str(error)[:ERROR_CHARS]
    except Exception:  # noqa: BLE001 -- a broken __str__ must not cost the row its reason
        return ""


def _parse(data: bytes, result: Any) -> Json:
    """As over HTTP, except that a text stays one unless it is a JSON object or list."""
    if isinstance(result, str) and result.lstrip()[:1] not in {"{", "["}:
        return str(result)
    try:
        return exact_json.loads(data)
    except ValueError:
        return str(result)
