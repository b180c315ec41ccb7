"""`invoke: http`: one request per row over connections that are kept open.

The input is sent as JSON, or as the query with a method that has no body (`wire/requests.py`). The header
`Idempotency-Key` is the same for every attempt at a row, so that an agent can recognise a repetition. Error
responses are classified by `wire/error_responses.py`; a stream of events is joined by
`wire/event_stream.py`. Redirects are not followed, because a redirected POST would arrive as a GET. Neither
bodies nor resolved option values are logged.
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
from service.agents.wire.error_responses import classify_response
from service.agents.wire.event_stream import MEDIA_TYPE, join_events
from service.agents.wire.presets import chat_request
from service.agents.wire.replies import CHUNK_BYTES, read_bounded, too_large
from service.agents.wire.requests import Request, http_request
from service.domain.errors import (
    AgentOutageError,
    AgentRejectedError,
    AgentTimeoutError,
    AgentUnavailableError,
    FailureScope,
)
from service.domain.model import Json
from service.domain.ports import Agent, Invocation, Reply
from service.domain.provider_errors import AgentError
from service.mapping.replies.text import decode_text, parse_body

CONNECT_TIMEOUT_S = 5.0
"""Longest wait for a TCP connection. After it the host counts as unreachable."""

EXCERPT_CHARS = 300
"""Characters of an error response's body that go into the row's error."""

_ERROR_BODY_BYTES = 64 * 2**10
"""Bytes of an error response's body that are read to classify it."""


def open_http(options: ResolvedOptions, context: AgentContext) -> Agent:
    """Check the options; no connection is made. Raises ConfigError."""
    request = chat_request(options) if "preset" in options.values else http_request(options)
    return HttpAgent(request, options, context)


class HttpAgent:
    """An agent behind a URL. Its session belongs to the event loop of the first call."""

    def __init__(self, request: Request, options: ResolvedOptions, context: AgentContext) -> None:
        self._request = request
        self._options = options
        self._context = context
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    async def invoke(self, invocation: Invocation) -> Reply:
        """Send the input, and return the body of a 2xx response: as JSON if it parses, otherwise as text."""
        if self._closed:
            raise AgentUnavailableError(f"{self._request.label}: the agent is closed")
        url, payload = self._request.render(invocation.body)
        try:
            async with self._open_session().request(
                self._request.method,
                url,
                data=payload,
                headers=self._headers(invocation, payload),
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
                cookie_jar=aiohttp.DummyCookieJar(),  # no row sees a cookie of another
                trust_env=False,  # the mapping alone decides where requests go, not `HTTP_PROXY`
                headers={"User-Agent": f"rowfleet/{__version__}"},
            )
        return self._session

    def _headers(self, invocation: Invocation, payload: bytes | None) -> dict[str, str]:
        """Default headers and the target's, which replace defaults of the same name."""
        defaults = {
            "Accept": f"application/json, {MEDIA_TYPE};q=0.9, text/*;q=0.9, */*;q=0.5",
            "Idempotency-Key": invocation.id,
        }
        if payload is not None:
            defaults["Content-Type"] = "application/json"
        own_names = {name.lower() for name in self._request.headers}
        kept = {name: value for name, value in defaults.items() if name.lower() not in own_names}
        return kept | dict(self._request.headers)

    async def _reply(self, response: aiohttp.ClientResponse) -> Reply:
        if not HTTPStatus.OK <= response.status < HTTPStatus.MULTIPLE_CHOICES:
            raise await self._error(response)
        headers = {name.lower(): value for name, value in response.headers.items()}
        headers.pop("set-cookie", None)  # it may be a credential
        # The budget is held until the body is parsed: parsing takes several times the memory of the bytes.
        async with AsyncExitStack() as budget:
            data = await self._read(response, budget)
            return Reply(body=self._parse(data, response), size=len(data), headers=headers)

    def _parse(self, data: bytes, response: aiohttp.ClientResponse) -> Json:
        if response.content_type != MEDIA_TYPE:
            return parse_body(data, response.charset)
        try:
            return join_events(decode_text(data, response.charset))
        except (AgentUnavailableError, AgentRejectedError, AgentTimeoutError) as error:
            raise type(error)(f"{self._request.label}: {self._options.redact(str(error))}") from None

    async def _read(self, response: aiohttp.ClientResponse, budget: AsyncExitStack) -> bytes:
        """The whole body. Raises AgentRejectedError as soon as it is known to be too large.

        Before a body exceeds one chunk, its bytes are reserved in the process's reply budget until `budget`
        is closed. While the reader waits for them, TCP flow control stops the sender.
        """
        limit, label = self._context.max_reply_bytes, self._request.label

        async def chunks() -> AsyncIterator[bytes]:
            size = 0
            async for chunk in response.content.iter_chunked(CHUNK_BYTES):
                if size < CHUNK_BYTES <= size + len(chunk) <= limit:
                    # Content-Length is the compressed size, so a compressed body reserves the limit.
                    known_size = None if "Content-Encoding" in response.headers else response.content_length
                    reservation = self._context.reply_budget.reserve(known_size or limit)
                    await budget.enter_async_context(reservation)
                size += len(chunk)
                yield chunk

        try:
            if (response.content_length or 0) > limit:
                raise too_large(label, f"{response.content_length:,}", limit)
            return await read_bounded(chunks(), limit, label)
        except AgentRejectedError:
            # Otherwise aiohttp would read the rest of the body to reuse the connection.
            response.close()
            raise

    async def _error(self, response: aiohttp.ClientResponse) -> AgentError:
        """The error for a response that is not 2xx."""
        status, label = response.status, self._request.label
        if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
            # Without the query, which may hold a key.
            target = self._options.redact(response.headers.get("Location", "")).partition("?")[0]
            return AgentRejectedError(
                f"{label}: HTTP {status}, redirected to {target[:EXCERPT_CHARS] or 'nowhere'} "
                f"(redirects are not followed: put the final address into url)"
            )
        data = await self._read_beginning(response)
        message = " ".join(decode_text(data, response.charset).split())
        excerpt = f": {self._options.redact(message)[:EXCERPT_CHARS]}" if message else ""
        body = parse_body(data, response.charset)
        text = f"{label}: HTTP {status}{excerpt}"
        return classify_response(status, text, response.headers, body, now=self._context.now())

    async def _read_beginning(self, response: aiohttp.ClientResponse) -> bytes:
        """The first `_ERROR_BODY_BYTES` of a body, or as much as arrives before the connection breaks."""
        data = bytearray()
        try:
            async for chunk in response.content.iter_chunked(_ERROR_BODY_BYTES):
                data += chunk
                if len(data) >= _ERROR_BODY_BYTES:
                    response.close()  # otherwise aiohttp would wait for the rest
                    break
        except (aiohttp.ClientError, OSError):
            response.close()
        return bytes(data)

    def _translate(self, error: Exception, invocation: Invocation) -> AgentError:
        """The error for an exception of aiohttp, whose own text is not shown: it may contain the URL."""
        label = self._request.label
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            return AgentOutageError(f"{label}: no connection within {CONNECT_TIMEOUT_S:g} s")
        if isinstance(error, TimeoutError):
            return AgentTimeoutError(f"{label}: no answer within {invocation.timeout_s:g} s")
        if isinstance(error, _NOT_CONNECTED):
            return AgentOutageError(f"{label}: {_cause(error)}")
        # A target that is down often resets connections, but a row's input may also crash it.
        return AgentUnavailableError(f"{label}: {_cause(error)}", scope=FailureScope.UNCLEAR)


def _cause(error: Exception) -> str:
    for kinds, text in _CAUSES:
        if isinstance(error, kinds):
            return text
    if isinstance(error, OSError) and error.errno:
        return f"no connection ({os.strerror(error.errno)})"
    return type(error).__name__


_NOT_CONNECTED = (aiohttp.ClientConnectorError, socket.gaierror, ConnectionRefusedError)
"""No connection was made: refused, or no route, no address or no accepted certificate of the host."""

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
