"""A proxy in front of the embedded endpoint that produces faults of AWS and of networks.

It forwards requests unchanged, with their `Host`, so that signatures stay valid. A fault breaks only the
client's connection: the endpoint always receives whole requests.
"""

from __future__ import annotations

import asyncio
import io
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NoReturn

import aiohttp
from aiohttp import hdrs, web
from multidict import CIMultiDict
from yarl import URL

from tests.chaos import faults
from tests.chaos.faults import Chooser, Fault, Operation, Refusal, Tally

HOST = "127.0.0.1"

_BODY_LIMIT = 64 * 2**20
_HOP_BY_HOP = frozenset({"connection", "expect", "keep-alive", "transfer-encoding"})
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER of no time: close() sends RST instead of FIN


class _Answer:
    """A complete response of the endpoint."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: CIMultiDict[str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body


class FaultProxy:
    """Forwards to `upstream`; `chooser` decides which requests meet faults. `produced` counts them by name.

    `held` is called whenever an answer is held back.
    """

    def __init__(self, upstream: str, chooser: Chooser, *, held: Callable[[], None] = lambda: None) -> None:
        self._upstream = upstream
        self._chooser = chooser
        self._held = held
        self._session: aiohttp.ClientSession | None = None
        self._runner: web.AppRunner | None = None
        self.url = ""
        self.requests = 0
        self.produced: Tally = Counter()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[FaultProxy]:
        """Listen on a free port of 127.0.0.1; `url` is set to it."""
        application = web.Application(client_max_size=_BODY_LIMIT)
        application.router.add_route("*", "/{path:.*}", self._handle)
        # A handler whose client has gone is cancelled: that is what ends a held answer.
        self._runner = runner = web.AppRunner(
            application, handler_cancellation=True, access_log=None, shutdown_timeout=0.1
        )
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=30)
        async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as self._session:
            await runner.setup()
            site = web.TCPSite(runner, HOST, 0)
            await site.start()
            self.url = f"http://{HOST}:{runner.addresses[0][1]}"
            try:
                yield self
            finally:
                await self.stop()

    async def stop(self) -> None:
        """Close every connection, also with calls under way. Idempotent."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        operation = Operation.of(request.method, request.query, request.headers.get("X-Amz-Target", ""))
        self.requests += 1
        fault = self._chooser.choose(operation)
        if fault is None:
            return _reply(await self._forward(request, body))
        self.produced[fault] += 1
        if fault is Fault.DELAY:
            await _wait(self._chooser.delay_s())
            return _reply(await self._forward(request, body))
        if fault is Fault.PARTIAL:
            return await self._partial(request, body)
        if fault in {Fault.LOST, Fault.HALF, Fault.HELD}:
            return await self._spoil(fault, request, await self._forward(request, body))
        return await _refuse(fault, operation, request, body)

    async def _forward(self, request: web.Request, body: bytes) -> _Answer:
        assert self._session is not None
        headers = CIMultiDict(
            (name, value) for name, value in request.headers.items() if name.lower() not in _HOP_BY_HOP
        )
        headers[hdrs.CONTENT_LENGTH] = str(len(body))
        async with self._session.request(
            request.method,
            URL(self._upstream + request.raw_path, encoded=True),
            data=io.BytesIO(body) if body else None,  # aiohttp warns of large bytes
            headers=headers,
            skip_auto_headers=[hdrs.ACCEPT, hdrs.ACCEPT_ENCODING, hdrs.CONTENT_TYPE, hdrs.USER_AGENT],
            allow_redirects=False,
        ) as answer:
            kept = CIMultiDict(
                (name, value) for name, value in answer.headers.items() if name.lower() not in _HOP_BY_HOP
            )
            return _Answer(answer.status, kept, await answer.read())

    async def _partial(self, request: web.Request, body: bytes) -> web.StreamResponse:
        rest, failed = faults.refused_entries(body)
        if rest is None:
            answer = _Answer(200, CIMultiDict({hdrs.CONTENT_TYPE: "application/x-amz-json-1.0"}), b"{}")
        else:
            answer = await self._forward(request, rest)
        answer.body = faults.with_failed(answer.body, failed)
        answer.headers.popall(hdrs.CONTENT_LENGTH, None)
        return _reply(answer)

    async def _spoil(self, fault: Fault, request: web.Request, answer: _Answer) -> web.StreamResponse:
        """Keep the answer of an applied call from the client."""
        if fault is Fault.HELD:
            self._held()
            await _for_ever()
        if fault is Fault.HALF and len(answer.body) > 1:
            answer.headers[hdrs.CONTENT_LENGTH] = str(len(answer.body))
            half = web.StreamResponse(status=answer.status, headers=answer.headers)
            await half.prepare(request)
            await half.write(answer.body[: len(answer.body) // 2])
            await _hang_up(request, reset=False)
        await _hang_up(request, reset=True)


async def _refuse(
    fault: Fault, operation: Operation, request: web.Request, body: bytes
) -> web.StreamResponse:
    """Answer without calling the endpoint."""
    if fault is Fault.RESET:
        await _hang_up(request, reset=True)
    refusal = _refusal(fault, operation, body)
    response = web.Response(status=refusal.status, body=refusal.body)
    response.headers[hdrs.CONTENT_TYPE] = refusal.content_type
    return response


def _refusal(fault: Fault, operation: Operation, body: bytes) -> Refusal:
    if fault is Fault.THROTTLE:
        return faults.throttled(operation, body)
    if fault is Fault.CONFLICT:
        return faults.conflicting(operation, body)
    if fault is Fault.LATE_ERROR:
        return faults.late_error()
    return faults.broken(operation, int(fault))


def _reply(answer: _Answer) -> web.Response:
    return web.Response(status=answer.status, headers=answer.headers, body=answer.body)


async def _hang_up(request: web.Request, *, reset: bool) -> NoReturn:
    """Close the client's connection. The closing cancels this handler."""
    transport = request.transport
    if transport is not None:
        connection: socket.socket = transport.get_extra_info("socket")
        if reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            transport.abort()
        else:
            transport.close()
    await _for_ever()


async def _for_ever() -> NoReturn:
    """Wait until the client closes the connection or the proxy stops."""
    await asyncio.get_running_loop().create_future()
    raise AssertionError("nothing completes this future")


async def _wait(seconds: float) -> None:
    """Wait for so many seconds: the delay is the fault."""
    loop = asyncio.get_running_loop()
    over: asyncio.Future[None] = loop.create_future()
    timer = loop.call_later(seconds, over.set_result, None)
    try:
        await over
    finally:
        timer.cancel()
