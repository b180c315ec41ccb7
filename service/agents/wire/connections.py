"""Connections of an HTTP agent: kept open, watched by TCP, and through a proxy where the settings say so.

A server may close a connection that it kept open at the very moment at which a request is sent on it. The
request then fails although the server is well and has not seen it. Browsers send such a request again,
whatever its method (Chromium: `HttpNetworkTransaction::ShouldResendRequest`), and urllib3 drops a connection
that it sees closed before it uses it. HTTP asks for care with methods that are not idempotent (RFC 9110,
9.2.2), so a call counts as unseen only if all of this holds: the connection had been used before, no byte of
a reply came, and it was closed within `UNSEEN_S` of the request. The request is then sent once more, on a
connection of its own; its `Idempotency-Key` is the same.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp.connector import Connection
from aiohttp.tracing import Trace as EventTrace
from yarl import URL

from service.adapters.proxies import proxy_for
from service.agents.options.context import AgentContext

UNSEEN_S = 1.0
"""A connection that was closed later after the request may have been closed because of it."""

KEEP_ALIVE_IDLE_S = 60
"""Seconds of silence before TCP probes: load balancers and NAT forget a silent connection after 350 s."""

KEEP_ALIVE_INTERVAL_S = 15
KEEP_ALIVE_PROBES = 4

MAX_HEADER_BYTES = 64 * 2**10
"""Largest header field; aiohttp's default of 8 KB is less than gateways send."""

MAX_HEADERS = 1_000


@dataclass(slots=True)
class Trace:
    """The connection of a request: whether it had been used before, and when the request got it."""

    is_reused: bool = True
    at_s: float = 0.0

    @classmethod
    def begin(cls) -> Trace:
        """The trace of the request that this task sends next."""
        trace = cls()
        _TRACE.set(trace)
        return trace

    def is_unseen(self, error: Exception) -> bool:
        """True if the server closed the connection before it saw the request."""
        if not self.is_reused or asyncio.get_running_loop().time() - self.at_s > UNSEEN_S:
            return False
        if isinstance(error, aiohttp.ServerDisconnectedError):
            # The message is the part of a reply that came.
            return isinstance(error.message, str)
        return isinstance(error, ConnectionResetError | BrokenPipeError) or (
            isinstance(error, aiohttp.ClientOSError) and not isinstance(error, aiohttp.ClientConnectorError)
        )


_TRACE: ContextVar[Trace] = ContextVar("trace")
"""The trace of the request that a task is sending."""


class BodyEnd:
    """The way in which a body of unstated length ends: by a close, or by a reset that cuts it."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        """Begin to watch, before the body is read."""
        connection = response.connection
        protocol = None if connection is None else connection.protocol
        self._closed = None if protocol is None else protocol.closed
        if self._closed is not None:
            # asyncio would report an exception that nobody looks at.
            self._closed.add_done_callback(lambda closed: closed.cancelled() or closed.exception())

    @property
    def is_reset(self) -> bool:
        """True if the connection has been reset, which aiohttp takes for an end like any other."""
        closed = self._closed
        return closed is not None and closed.done() and not closed.cancelled() and bool(closed.exception())


class Connections:
    """The connections of one agent, with the headers of all its requests.

    They belong to the event loop of the first call.
    """

    def __init__(self, context: AgentContext, headers: Mapping[str, str]) -> None:
        self._context = context
        self._headers = headers
        self._kept: aiohttp.ClientSession | None = None
        self._fresh: aiohttp.ClientSession | None = None

    def kept(self) -> aiohttp.ClientSession:
        """The session whose connections are kept open."""
        if self._kept is None:
            self._kept = self._open(force_close=False)
        return self._kept

    def fresh(self) -> aiohttp.ClientSession:
        """The session that makes a new connection for each request."""
        if self._fresh is None:
            self._fresh = self._open(force_close=True)
        return self._fresh

    def proxy(self, url: URL) -> str | None:
        """The proxy for a URL, None for a direct connection."""
        return proxy_for(url, self._context.proxy)

    async def close(self) -> None:
        """Close all connections."""
        for session in (self._kept, self._fresh):
            if session is not None:
                await session.close()

    def _open(self, *, force_close: bool) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=_TracedConnector(
                limit=self._context.max_concurrency,
                force_close=force_close,
                socket_factory=_open_traced_socket,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),  # no row sees a cookie of another
            trust_env=False,  # it would also send credentials of ~/.netrc
            headers=self._headers,
            max_line_size=MAX_HEADER_BYTES,
            max_field_size=MAX_HEADER_BYTES,
            max_headers=MAX_HEADERS,
            auto_decompress=False,  # content_encoding.py notices a body that ends too early
        )


class _TracedConnector(aiohttp.TCPConnector):
    """A connector that notes in the trace of a request which connection the request gets.

    A `TraceConfig` could do it as well, but makes an object for each event of each request: a sixth of its
    CPU time.
    """

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[EventTrace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 -- aiohttp's parameter
    ) -> Connection:
        """The connection for a request: a kept one, or a new one."""
        connection = await super().connect(req, traces, timeout)
        _TRACE.get().at_s = asyncio.get_running_loop().time()
        return connection


def _open_traced_socket(address: Any) -> socket.socket:
    _TRACE.get().is_reused = False
    return _open_socket(address)


def _open_socket(address: Any) -> socket.socket:
    """A socket whose connection TCP watches, so that a call notices that its server is gone."""
    family, type_, protocol, *_ = address
    opened = socket.socket(family, type_, protocol)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", KEEP_ALIVE_IDLE_S),
        ("TCP_KEEPALIVE", KEEP_ALIVE_IDLE_S),  # macOS
        ("TCP_KEEPINTVL", KEEP_ALIVE_INTERVAL_S),
        ("TCP_KEEPCNT", KEEP_ALIVE_PROBES),
    ):
        if hasattr(socket, name):
            opened.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return opened
