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
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from urllib.request import getproxies, proxy_bypass

import aiohttp
from yarl import URL

from service import __version__
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

ENVIRONMENT = "environment"
"""Value of the setting `http.proxy` for HTTP_PROXY, HTTPS_PROXY and NO_PROXY."""


@dataclass(slots=True)
class Trace:
    """The connection of a request: whether it had been used before, and when the request got it."""

    is_reused: bool = False
    at_s: float = 0.0

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
    """The connections of one agent. They belong to the event loop of the first call."""

    def __init__(self, context: AgentContext) -> None:
        self._context = context
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
        if self._context.proxy != ENVIRONMENT:
            return self._context.proxy or None
        if proxy_bypass(url.host or ""):
            return None
        proxies = getproxies()
        return proxies.get(url.scheme) or proxies.get("all")

    async def close(self) -> None:
        """Close all connections."""
        for session in (self._kept, self._fresh):
            if session is not None:
                await session.close()

    def _open(self, *, force_close: bool) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=self._context.max_concurrency, force_close=force_close, socket_factory=_open_socket
            ),
            cookie_jar=aiohttp.DummyCookieJar(),  # no row sees a cookie of another
            trust_env=False,  # it would also send credentials of ~/.netrc
            headers={"User-Agent": f"rowfleet/{__version__}"},
            max_line_size=MAX_HEADER_BYTES,
            max_field_size=MAX_HEADER_BYTES,
            max_headers=MAX_HEADERS,
            auto_decompress=False,  # content_encoding.py notices a body that ends too early
            trace_configs=[_trace_config()],
        )


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


def _trace_config() -> aiohttp.TraceConfig:
    """Note in a request's Trace which connection it gets."""
    config = aiohttp.TraceConfig()

    async def note(_session: object, context: SimpleNamespace, parameters: object) -> None:
        trace: Trace = context.trace_request_ctx
        trace.is_reused = isinstance(parameters, aiohttp.TraceConnectionReuseconnParams)
        trace.at_s = asyncio.get_running_loop().time()

    config.on_connection_reuseconn.append(note)
    config.on_connection_create_end.append(note)
    return config
