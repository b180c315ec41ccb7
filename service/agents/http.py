"""`invoke: http`: one request per row over connections that are kept open.

The input goes out as JSON under an `Idempotency-Key` that is the same for every attempt at a row, so an
agent can recognise a repetition; with a method that has no body, as the query (`requests`). What a status
means is in `refusals`; a stream of events is joined (`event_stream`). Redirects are not followed: a POST
that moves would arrive as a GET. Neither bodies nor resolved option values are logged.
"""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from http import HTTPStatus

import aiohttp

from service import __version__
from service.agents.options.context import AgentContext
from service.agents.options.substitution import ResolvedOptions
from service.agents.wire.event_stream import MEDIA_TYPE, join_events
from service.agents.wire.presets import chat_request
from service.agents.wire.refusals import AgentError, refusal
from service.agents.wire.replies import CHUNK_BYTES, read_bounded, too_large
from service.agents.wire.requests import Request, http_request
from service.domain.errors import (
    AgentOutageError,
    AgentRejectedError,
    AgentTimeoutError,
    AgentUnavailableError,
)
from service.domain.model import Json
from service.domain.ports import Agent, Invocation, Reply
from service.mapping.replies.text import decode_text, parse_body

CONNECT_TIMEOUT_S = 5.0
"""Longest wait for a TCP connection: beyond it the host is not there."""

EXCERPT_CHARS = 300
"""How much of an error's body goes into the row's error text."""

_ERROR_BYTES = 64 * 2**10
"""How much of an error's body is read for what it means."""


def open_http(options: ResolvedOptions, context: AgentContext) -> Agent:
    """Check the options; no connection is made. Raises ConfigError."""
    made = chat_request(options) if "preset" in options.values else http_request(options)
    return HttpAgent(made, options, context)


class HttpAgent:
    """An agent behind a URL. The session belongs to the loop of the first call."""

    def __init__(self, request: Request, options: ResolvedOptions, context: AgentContext) -> None:
        self._request = request
        self._options = options
        self._context = context
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    async def invoke(self, invocation: Invocation) -> Reply:
        """Send the input, and return a 2xx answer: JSON where it parses as such, otherwise text."""
        if self._closed:
            raise AgentUnavailableError(f"{self._request.shown}: the agent is closed")
        address, payload = self._request.fill(invocation.body)
        try:
            async with self._open_session().request(
                self._request.method,
                address,
                data=payload,
                headers=self._headers_for(invocation, payload),
                timeout=aiohttp.ClientTimeout(total=invocation.timeout_s, sock_connect=CONNECT_TIMEOUT_S),
                allow_redirects=False,
            ) as response:
                return await self._reply(response)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise self._translate(error, invocation) from None

    async def close(self) -> None:
        """Close the connections; calls under way end as unavailable."""
        self._closed = True
        if self._session is not None:
            await self._session.close()

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._context.max_concurrency),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                headers={"User-Agent": f"rowfleet/{__version__}"},
            )
        return self._session

    def _headers_for(self, invocation: Invocation, payload: bytes | None) -> dict[str, str]:
        ours = {
            "Accept": f"application/json, {MEDIA_TYPE};q=0.9, text/*;q=0.9, */*;q=0.5",
            "Idempotency-Key": invocation.id,
        }
        if payload is not None:
            ours["Content-Type"] = "application/json"
        theirs = {name.lower() for name in self._request.headers}
        kept = {name: value for name, value in ours.items() if name.lower() not in theirs}
        return kept | dict(self._request.headers)

    async def _reply(self, response: aiohttp.ClientResponse) -> Reply:
        if not HTTPStatus.OK <= response.status < HTTPStatus.MULTIPLE_CHOICES:
            raise await self._refusal(response)
        headers = {name.lower(): value for name, value in response.headers.items()}
        headers.pop("set-cookie", None)
        async with AsyncExitStack() as budget:
            data = await self._read(response, budget)
            return Reply(body=self._parse(data, response), size=len(data), headers=headers)

    def _parse(self, data: bytes, response: aiohttp.ClientResponse) -> Json:
        if response.content_type != MEDIA_TYPE:
            return parse_body(data, response.charset)
        try:
            return join_events(decode_text(data, response.charset))
        except (AgentUnavailableError, AgentRejectedError, AgentTimeoutError) as error:
            raise type(error)(f"{self._request.shown}: {self._options.redact(str(error))}") from None

    async def _read(self, response: aiohttp.ClientResponse, budget: AsyncExitStack) -> bytes:
        """The whole body, or an error as soon as it is known to be too large.

        A body larger than a chunk waits for its share of the process's budget, which it has until the stack
        is closed; meanwhile TCP holds the sender back.
        """
        limit, shown = self._context.max_reply_bytes, self._request.shown

        async def chunks() -> AsyncIterator[bytes]:
            size = 0
            async for chunk in response.content.iter_chunked(CHUNK_BYTES):
                if size < CHUNK_BYTES <= size + len(chunk) <= limit:
                    # of a compressed body nobody knows yet how large it is
                    known = None if "Content-Encoding" in response.headers else response.content_length
                    await budget.enter_async_context(self._context.reply_budget.reserve(known or limit))
                size += len(chunk)
                yield chunk

        try:
            if (response.content_length or 0) > limit:
                raise too_large(shown, f"{response.content_length:,}", limit)
            return await read_bounded(chunks(), limit, shown)
        except AgentRejectedError:
            response.close()
            raise

    async def _refusal(self, response: aiohttp.ClientResponse) -> AgentError:
        status, shown = response.status, self._request.shown
        if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
            target = self._options.redact(response.headers.get("Location", "")).partition("?")[0]
            return AgentRejectedError(
                f"{shown}: HTTP {status}, redirected to {target[:EXCERPT_CHARS] or 'nowhere'} "
                f"(redirects are not followed: put the final address into url)"
            )
        data = await self._beginning(response)
        said = " ".join(decode_text(data, response.charset).split())
        excerpt = f": {self._options.redact(said)[:EXCERPT_CHARS]}" if said else ""
        body = parse_body(data, response.charset)
        text = f"{shown}: HTTP {status}{excerpt}"
        return refusal(status, text, response.headers, body, now=self._context.now())

    async def _beginning(self, response: aiohttp.ClientResponse) -> bytes:
        """The start of an error's body; nothing more where it breaks off."""
        data = bytearray()
        try:
            async for chunk in response.content.iter_chunked(_ERROR_BYTES):
                data += chunk
                if len(data) >= _ERROR_BYTES:
                    response.close()
                    break
        except (aiohttp.ClientError, OSError):
            response.close()
        return bytes(data)

    def _translate(self, error: Exception, invocation: Invocation) -> AgentError:
        """Every error of the layers below, in our words; theirs may repeat the address."""
        shown = self._request.shown
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            return AgentOutageError(f"{shown}: no connection within {CONNECT_TIMEOUT_S:g} s")
        if isinstance(error, TimeoutError):
            return AgentTimeoutError(f"{shown}: no answer within {invocation.timeout_s:g} s")
        kind = AgentOutageError if isinstance(error, _NOBODY_THERE) else AgentUnavailableError
        return kind(f"{shown}: {_cause(error)}")


def _cause(error: Exception) -> str:
    for kinds, words in _CAUSES:
        if isinstance(error, kinds):
            return words
    if isinstance(error, OSError) and error.errno:
        return f"no connection ({os.strerror(error.errno)})"
    return type(error).__name__


_NOBODY_THERE = (aiohttp.ClientConnectorError, socket.gaierror, ConnectionRefusedError)
"""No connection at all: refused, without a route, a name or a certificate that is accepted."""

_CAUSES: tuple[tuple[tuple[type[Exception], ...], str], ...] = (
    ((aiohttp.ClientConnectorCertificateError,), "the TLS certificate is not accepted"),
    ((aiohttp.ClientConnectorSSLError,), "TLS failed"),
    ((aiohttp.ClientConnectorDNSError, socket.gaierror), "the host name does not resolve"),
    (
        (aiohttp.ServerDisconnectedError, ConnectionResetError),
        "the connection was closed before an answer came",
    ),
    ((aiohttp.ClientPayloadError,), "the answer broke off or is damaged"),
)
