"""`invoke: http`: one request per row over connections that are kept open.

The input is sent as JSON, or as the query with a method that has no body (`wire/requests.py`). The header
`Idempotency-Key` is the same for every attempt at a row, so that an agent can recognise a repetition. Error
responses are classified by `wire/error_responses.py`, bodies read by `wire/reply_bodies.py`. Redirects are
followed only to the same host, and only if the method stays the same. Neither bodies nor resolved option
values are logged.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import lru_cache
from http import HTTPStatus

import aiohttp
from yarl import URL

from service.agents.options.context import AgentContext
from service.agents.options.substitution import ResolvedOptions
from service.agents.wire.connections import MAX_HEADER_BYTES, BodyEnd, Connections, Trace
from service.agents.wire.content_encoding import decoded
from service.agents.wire.error_responses import classify_response
from service.agents.wire.presets import chat_request
from service.agents.wire.replies import CHUNK_BYTES, read_bounded, too_large
from service.agents.wire.reply_bodies import BodyType, is_json, parse_labelled
from service.agents.wire.requests import HttpCall, Request, http_request
from service.domain.errors import (
    AgentCredentialsError,
    AgentOutageError,
    AgentRejectedError,
    AgentTimeoutError,
    AgentUnavailableError,
    FailureScope,
)
from service.domain.model import Json
from service.domain.ports import Agent, Invocation, Reply
from service.domain.provider_errors import AgentError
from service.mapping.replies.html_pages import is_page, page_words
from service.mapping.replies.text import decode_text, parse_body

CONNECT_TIMEOUT_S = 5.0
"""Longest wait for a TCP connection. After it the host counts as unreachable."""

EXCERPT_CHARS = 300
"""Characters of an error response's body that go into the row's error."""

_ERROR_BODY_BYTES = 64 * 2**10
"""Bytes of an error response's body that are read to classify it."""


def open_http(options: ResolvedOptions, context: AgentContext) -> Agent:
    """Check the options; no connection is made. Raises ConfigError."""
    return HttpAgent(http_calls(options, context), options, context)


def http_calls(options: ResolvedOptions, _context: AgentContext) -> Request:
    """The builder of a target's calls. Raises ConfigError."""
    return chat_request(options) if "preset" in options.values else http_request(options)


@dataclass(frozen=True, slots=True)
class Redirection:
    """The address on the same host to which a response refers; `is_temporary` as by 302 and 307."""

    url: URL
    is_temporary: bool


class HttpAgent:
    """An agent behind a URL."""

    def __init__(self, request: Request, options: ResolvedOptions, context: AgentContext) -> None:
        self._request = request
        self._options = options
        self._context = context
        self._connections = Connections(context, request.common_headers)
        # a body of one chunk takes nothing from the budget
        self._small_bytes = min(CHUNK_BYTES, context.max_reply_bytes + 1)
        self._closed = False

    async def invoke(self, invocation: Invocation) -> Reply:
        """Send the input, and return the body of a 2xx response: as JSON if it parses, otherwise as text."""
        if self._closed:
            raise AgentUnavailableError(f"{self._request.label}: the agent is closed")
        call = await self._request.call(invocation)
        deadline = asyncio.get_running_loop().time() + invocation.timeout_s
        try:
            is_temporary = False
            for _ in range(1 + MAX_REDIRECTS):
                result = await self._exchange(call, invocation, deadline)
                if isinstance(result, Reply):
                    return self._landed(result, call.url) if is_temporary else result
                call = replace(call, url=result.url)
                is_temporary = is_temporary or result.is_temporary
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise self._translate(error, invocation) from None
        raise AgentRejectedError(f"{self._request.label}: redirected more than {MAX_REDIRECTS} times")

    async def _exchange(self, call: HttpCall, invocation: Invocation, deadline: float) -> Reply | Redirection:
        """Send a request. Return the reply, or the address to which it is redirected."""
        trace = Trace.begin()
        try:
            return await self._send(self._connections.kept(), call, invocation, deadline)
        except (aiohttp.ClientError, OSError) as error:
            if not trace.is_unseen(error):
                raise
        return await self._send(self._connections.fresh(), call, invocation, deadline)

    async def _send(
        self, session: aiohttp.ClientSession, call: HttpCall, invocation: Invocation, deadline: float
    ) -> Reply | Redirection:
        left_ms = round((deadline - asyncio.get_running_loop().time()) * 1000)
        async with session.request(
            call.method,
            call.url,
            data=call.payload,
            headers=call.headers,
            timeout=_time_limit(max(left_ms, 1)),
            allow_redirects=False,
            proxy=self._connections.proxy(call.url),
        ) as response:
            target = self._redirection(response, call.url)
            return await self._reply(response, invocation.body) if target is None else target

    async def close(self) -> None:
        """Close the connections; calls under way end as unavailable."""
        self._closed = True
        await self._connections.close()

    async def _reply(self, response: aiohttp.ClientResponse, sent: Json) -> Reply:
        if not HTTPStatus.OK <= response.status < HTTPStatus.MULTIPLE_CHOICES:
            raise await self._error(response, sent)
        headers = {name.lower(): value for name, value in response.headers.items()}
        headers.pop("set-cookie", None)  # it may be a credential
        if response.status == HTTPStatus.ACCEPTED:
            self._check_acceptance(headers)
        if self._is_empty_by_design(response.status):
            return Reply(body="", headers=headers)
        size = response.content_length
        if size is not None and size < self._small_bytes and "content-encoding" not in headers:
            return self._parsed(await response.read(), response.status, headers, is_framed=True)
        # The budget is held until the body is parsed: parsing takes several times the memory of the bytes.
        async with AsyncExitStack() as budget:
            end = BodyEnd(response)
            data = await self._read(response, budget)
            is_framed = "content-length" in headers or "chunked" in headers.get("transfer-encoding", "")
            if not is_framed and end.is_reset and not is_json(data):
                raise aiohttp.ClientPayloadError("the connection was reset")
            return self._parsed(data, response.status, headers, is_framed=is_framed)

    def _parsed(self, data: bytes, status: int, headers: dict[str, str], *, is_framed: bool) -> Reply:
        """The reply with this body. Raises AgentRetryableError or AgentRejectedError."""
        type_ = BodyType.parse(headers.get("content-type", ""), is_framed=is_framed)
        label = f"{self._request.label}: HTTP {status}"
        return Reply(parse_labelled(data, type_, label, self._options.redact), len(data), headers)

    def _is_empty_by_design(self, status: int) -> bool:
        """True if the method and status of a success allow no body."""
        method = self._request.method
        if status in _WITHOUT_CONTENT:
            return method in _EMPTY_IF_DONE | _EMPTY
        return method == "HEAD"

    def _check_acceptance(self, headers: Mapping[str, str]) -> None:
        """Raise the failure of a 202 that only says where the result will be."""
        place = next((headers[name] for name in _JOB_HEADERS if headers.get(name)), "")
        if place:
            target = self._options.redact(place).partition("?")[0][:EXCERPT_CHARS]
            raise AgentRejectedError(
                f"{self._request.label}: HTTP 202, accepted: the result will be at {target} "
                "(results are not polled for: call an address that answers when it is done)"
            )

    def _redirection(self, response: aiohttp.ClientResponse, url: URL) -> Redirection | None:
        """The address on the same host to which a request is redirected; None for any other response."""
        keeps_method = response.status in _SAME_METHOD or (
            response.status in _SAME_IF_SAFE and self._request.method in {"GET", "HEAD"}
        )
        if not keeps_method:
            return None
        try:
            target = url.join(URL(response.headers.get("Location", "")))
        except ValueError:
            return None
        is_upgrade = (url.scheme, target.scheme) == ("http", "https") and (url.port, target.port) == (80, 443)
        is_same = (url.scheme, url.port) == (target.scheme, target.port) or is_upgrade
        if target.host != url.host or not is_same or target == url:
            return None
        return Redirection(target, is_temporary=response.status in _TEMPORARY)

    def _landed(self, reply: Reply, url: URL) -> Reply:
        """The reply to which a request was sent on for once, unless it is a page: mostly that of a login."""
        if not _is_html(reply):
            return reply
        target = self._options.redact(str(url.with_query(None)))[:EXCERPT_CHARS]
        raise AgentRejectedError(
            f"{self._request.label}: redirected to {target}, an HTML page "
            "(check the credentials, or put the final address into url)"
        )

    async def _read(self, response: aiohttp.ClientResponse, budget: AsyncExitStack) -> bytes:
        """The whole body. Raises AgentRejectedError as soon as it is known to be too large.

        Before a body exceeds one chunk, its bytes are reserved in the process's reply budget until `budget`
        is closed. While the reader waits for them, TCP flow control stops the sender.
        """
        limit, label = self._context.max_reply_bytes, self._request.label

        async def chunks() -> AsyncIterator[bytes]:
            size = 0
            async for chunk in decoded(response, label):
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

    async def _error(self, response: aiohttp.ClientResponse, sent: Json) -> AgentError:
        """The error for a response that is not 2xx, to the input `sent`."""
        status, label = response.status, self._request.label
        if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
            # Without the query, which may hold a key.
            target = self._options.redact(response.headers.get("Location", "")).partition("?")[0]
            return AgentRejectedError(
                f"{label}: HTTP {status}, redirected to {target[:EXCERPT_CHARS] or 'nowhere'} "
                f"(only 307 and 308 to the same host are followed: put the final address into url)"
            )
        data = await self._read_beginning(response)
        charset = BodyType.parse(response.headers.get("Content-Type", "")).charset
        text = decode_text(data, charset)
        message = f"an HTML page, {page_words(text)!r}" if is_page(text) else " ".join(text.split())
        excerpt = f": {self._options.redact(message)[:EXCERPT_CHARS]}" if message else ""
        body = parse_body(data, charset)
        error = f"{label}: HTTP {status}{excerpt}"
        now = self._context.now()
        return classify_response(status, error, response.headers, body, now=now, sent=sent)

    async def _read_beginning(self, response: aiohttp.ClientResponse) -> bytes:
        """The first `_ERROR_BODY_BYTES` of a body, or as much as arrives before the connection breaks."""
        data = bytearray()
        try:
            async for chunk in decoded(response, self._request.label):
                data += chunk
                if len(data) >= _ERROR_BODY_BYTES:
                    response.close()  # otherwise aiohttp would wait for the rest
                    break
        except (aiohttp.ClientError, OSError, AgentRejectedError):
            response.close()
        return bytes(data)

    def _translate(self, error: Exception, invocation: Invocation) -> AgentError:
        """The error for an exception of aiohttp, whose own text is not shown: it may contain the URL."""
        label = self._request.label
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            return AgentOutageError(f"{label}: no connection within {CONNECT_TIMEOUT_S:g} s")
        if isinstance(error, TimeoutError):
            return AgentTimeoutError(f"{label}: no answer within {invocation.timeout_s:g} s")
        if isinstance(error, aiohttp.InvalidURL):
            return AgentRejectedError(f"{label}: the url is no address")
        if isinstance(error, aiohttp.ClientHttpProxyError):
            is_denied = error.status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED
            kind = AgentCredentialsError if is_denied else AgentOutageError
            return kind(f"{label}: the proxy answers HTTP {error.status}")
        text = f"{label}: {self._options.redact(_cause(error))}"
        if isinstance(error, _NOT_CONNECTED):
            return AgentOutageError(text)
        # A target that is down often resets connections, but a row's input may also crash it.
        return AgentUnavailableError(text, scope=FailureScope.UNCLEAR)


@lru_cache(maxsize=1_000)
def _time_limit(left_ms: int) -> aiohttp.ClientTimeout:
    """The time-outs of a request. Most rows have as much time as the rows before them."""
    return aiohttp.ClientTimeout(total=left_ms / 1000, sock_connect=CONNECT_TIMEOUT_S)


def _is_html(reply: Reply) -> bool:
    """True if a reply is text that calls itself an HTML page."""
    media_type = reply.headers.get("content-type", "").lower()
    return isinstance(reply.body, str) and media_type.startswith("text/html")


def _cause(error: Exception) -> str:
    for kinds, text in _CAUSES:
        if isinstance(error, kinds):
            return text
    if isinstance(error, OSError) and error.errno:
        return f"no connection ({os.strerror(error.errno)})"
    # The text of other errors may hold the URL; this one is about the bytes of a response.
    if isinstance(error, aiohttp.ClientResponseError):
        said = " ".join(str(error.message).split())[:EXCERPT_CHARS]
        if said.startswith("Got more than"):
            return f"a header of the answer is larger than {MAX_HEADER_BYTES // 2**10} KB"
        return f"the answer is not HTTP as it should be{f' ({said})' if said else ''}"
    return f"the call failed inside the HTTP client ({type(error).__name__})"


MAX_REDIRECTS = 5

_SAME_METHOD = frozenset({HTTPStatus.TEMPORARY_REDIRECT, HTTPStatus.PERMANENT_REDIRECT})
_TEMPORARY = frozenset({HTTPStatus.TEMPORARY_REDIRECT, HTTPStatus.FOUND})
_SAME_IF_SAFE = frozenset({HTTPStatus.MOVED_PERMANENTLY, HTTPStatus.FOUND})
"""A redirected POST would arrive as a GET."""

_WITHOUT_CONTENT = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.RESET_CONTENT})
_EMPTY = frozenset({"DELETE", "HEAD", "OPTIONS"})
_EMPTY_IF_DONE = frozenset({"PUT", "PATCH"})
"""Methods whose success has no body; of the others a 204 says that there is no answer."""

_JOB_HEADERS = ("location", "operation-location", "azure-asyncoperation")
"""Headers of a 202 that name the place of the later result."""

_NOT_CONNECTED = (aiohttp.ClientConnectorError, socket.gaierror, ConnectionRefusedError)
"""No connection was made: refused, or no route, no address or no accepted certificate of the host."""

_CAUSES: tuple[tuple[tuple[type[Exception], ...], str], ...] = (
    ((aiohttp.ClientProxyConnectionError,), "the proxy cannot be reached"),
    ((aiohttp.ClientConnectorCertificateError,), "the TLS certificate is not accepted"),
    ((aiohttp.ClientConnectorSSLError,), "TLS failed"),
    ((aiohttp.ClientConnectorDNSError, socket.gaierror), "the host name does not resolve"),
    (
        (aiohttp.ServerDisconnectedError, ConnectionResetError),
        "the connection was closed before an answer came",
    ),
    ((aiohttp.ClientPayloadError,), "the answer broke off or is damaged"),
)
