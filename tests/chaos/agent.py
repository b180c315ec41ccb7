"""The agent of the chaos runs, and a thread in which it and the proxy run."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TypeVar

from aiohttp import web

from tests.chaos.proxy import HOST

T = TypeVar("T")

HEALED = 4
"""One bad row in so many is answered in each later round."""

PACED = "paced"
"""Calls of this path are answered at intervals, so that a batch lasts as long as the chaos."""


@dataclass(slots=True)
class Call:
    """A call as the agent saw it: its row, the process that made it, and monotonic times.

    `status` is 0 while it has no answer, or if its client went away.
    """

    batch_id: str
    round: int
    number: int
    process: int
    began: float
    ended: float = 0.0
    status: int = 0

    @property
    def row(self) -> tuple[str, int, int]:
        """Batch, round and number: what a row is called for once, unless something comes between."""
        return self.batch_id, self.round, self.number


class ChaosAgent:
    """An agent whose final reply depends on the row and its round only, not on number or time of its calls.

    `calls` are all calls in order. The first part of a path is the number of the process that calls.
    `interval_s` lies between two paced answers until `hurry` is called.
    """

    def __init__(self, interval_s: float = 0.0) -> None:
        self._interval_s = interval_s
        self._next = 0.0
        self._hurried: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._times: Counter[tuple[str, int, int]] = Counter()
        self.calls: list[Call] = []
        self.url = ""

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[ChaosAgent]:
        """Listen on a free port of 127.0.0.1; `url` is set to it."""
        self._loop, self._hurried = asyncio.get_running_loop(), asyncio.Event()
        application = web.Application()
        application.router.add_post("/{path:.*}", self._handle)
        runner = web.AppRunner(application, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, HOST, 0).start()
        self.url = f"http://{HOST}:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()

    def hurry(self) -> None:
        """Answer without intervals from now on. Safe to call from any thread."""
        assert self._loop is not None
        assert self._hurried is not None
        self._loop.call_soon_threadsafe(self._hurried.set)

    async def _handle(self, request: web.Request) -> web.Response:
        body = await request.json()
        process, _, path = request.path.removeprefix("/").partition("/")
        call = _call(request.headers["Idempotency-Key"], int(process or 0))
        self.calls.append(call)
        self._times[call.row] += 1
        is_first = self._times[call.row] == 1
        try:
            if path == PACED:
                await self._turn()
            call.status, reply = answer(body, is_first=is_first, round_=call.round)
        finally:
            call.ended = time.monotonic()
        return web.Response(status=call.status, body=json.dumps(reply), content_type="application/json")

    async def _turn(self) -> None:
        """Wait for the next interval, or for the end of the chaos."""
        assert self._hurried is not None
        now = asyncio.get_running_loop().time()
        self._next = max(now, self._next) + self._interval_s
        if self._next > now:
            try:
                async with asyncio.timeout_at(self._next):
                    await self._hurried.wait()
            except TimeoutError:
                return


def _call(key: str, process: int) -> Call:
    """The call with an idempotency key: `{batch id}@{incarnation}/{round}/{row}`."""
    identity, round_, number = key.rsplit("/", 2)
    return Call(identity.rpartition("@")[0], int(round_), int(number), process, time.monotonic())


def answer(body: dict[str, str], *, is_first: bool, round_: int = 1) -> tuple[int, object]:
    """Reply in capitals, but refuse names that begin with `bad`, and the first call of `busy` ones.

    In each later round a quarter of the bad ones is not refused any more.
    """
    name = body["name"]
    if name.startswith("bad") and int(body["n"]) % HEALED + 1 >= round_:
        return 422, {"reason": f"{name} is not for me"}
    if name.startswith("busy") and is_first:
        return 503, {"reason": "not now"}
    return 200, {"category": name.upper() + "." * int(body["width"])}


@contextmanager
def in_thread(context: Callable[[], AbstractAsyncContextManager[T]]) -> Iterator[T]:
    """Run an async context on an event loop in a thread of its own."""
    entered: Future[T] = Future()
    loops: list[asyncio.AbstractEventLoop] = []
    left = asyncio.Event()

    async def live() -> None:
        loops.append(asyncio.get_running_loop())
        try:
            async with context() as value:
                entered.set_result(value)
                await left.wait()
        except BaseException as error:
            if entered.done():
                raise
            entered.set_exception(error)

    thread = threading.Thread(target=asyncio.run, args=(live(),), name="chaos")
    thread.start()
    try:
        yield entered.result()
    finally:
        loops[0].call_soon_threadsafe(left.set)
        thread.join()
