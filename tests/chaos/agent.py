"""The agent of the chaos runs, and a thread in which it and the proxy run."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import TypeVar

from aiohttp import web

from tests.chaos.proxy import HOST

T = TypeVar("T")

PACED = "/paced"
"""Calls of this path are answered at intervals, so that a batch lasts as long as the chaos."""


class ChaosAgent:
    """An agent whose final reply depends on the row only, not on the number or time of its calls.

    `calls` counts invocations by their id, of which every row has one. `interval_s` lies between two paced
    answers until `hurry` is called.
    """

    def __init__(self, interval_s: float = 0.0) -> None:
        self._interval_s = interval_s
        self._next = 0.0
        self._hurried: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.calls: Counter[str] = Counter()
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
        invocation = request.headers["Idempotency-Key"]
        self.calls[invocation] += 1
        is_first = self.calls[invocation] == 1
        if request.path == PACED:
            await self._turn()
        status, reply = answer(body, is_first=is_first)
        return web.Response(status=status, body=json.dumps(reply), content_type="application/json")

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


def answer(body: dict[str, str], *, is_first: bool) -> tuple[int, object]:
    """Refuse names that begin with `bad`, and the first call of `busy` ones; reply to others in capitals."""
    name = body["name"]
    if name.startswith("bad"):
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
