"""`invoke: http`: one request per row over connections that are kept open.

The input goes out as JSON under an `Idempotency-Key` that is the same for every attempt at a row, so an
agent can recognise a repetition. What the status means: 2xx is the answer; 408, 425, 429 and 5xx may pass
and are retried; every other status rejects the row. Redirects are not followed: a POST that moves would
arrive as a GET. Neither bodies nor resolved option values are logged.
"""

from __future__ import annotations

import codecs
import os
import re
import socket
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from http import HTTPStatus
from typing import NoReturn

import aiohttp
from yarl import URL

from service import __version__, jsontext
from service.agents.retry_after import retry_after_s
from service.agents.substitute import Options
from service.agents.surroundings import REPLY_LIMIT_SETTING, Surroundings
from service.errors import (
    AgentRejectedError,
    AgentRetryableError,
    AgentThrottledError,
    AgentTimeoutError,
    AgentUnavailableError,
    ConfigError,
)
from service.model import Json
from service.ports import Agent, Invocation, Reply

CONNECT_TIMEOUT_S = 5.0
"""Longest wait for a TCP connection: beyond it the host is not there."""

EXCERPT_CHARS = 300
"""How much of an error's body goes into the row's error text."""

_EXCERPT_BYTES = 4 * EXCERPT_CHARS
_CHUNK_BYTES = 64 * 2**10
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_METHODS = ("POST", "PUT", "PATCH")
_RETRYABLE = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})


def open_http(options: Options, surroundings: Surroundings) -> Agent:
    """Check the options; no connection is made. Raises ConfigError."""
    options.expect("url", "method", "headers")
    method = options.text("method", "POST").upper()
    if method not in _METHODS:
        raise ConfigError(
            f"{options.place}: method {method!r} cannot carry an input ({', '.join(_METHODS)} can)"
        )
    return HttpAgent(
        Endpoint(
            url=_url(options),
            shown=f"{method} {options.written['url']}",
            method=method,
            headers=_headers(options),
        ),
        options,
        surroundings,
    )


def _url(options: Options) -> URL:
    written = options.written.get("url")
    try:
        url = URL(options.text("url"))
        port = url.port
    except ValueError:
        url, port = URL(), None
    if url.scheme not in {"http", "https"} or not url.host or not port:
        raise ConfigError(f"{options.place}: url {written!r} is no address such as https://example.org/path")
    return url


def _headers(options: Options) -> dict[str, str]:
    given = options.values.get("headers") or {}
    if not isinstance(given, Mapping):
        raise ConfigError(f"{options.place}: headers must be name: value pairs")
    headers: dict[str, str] = {}
    for name, value in given.items():
        if not isinstance(value, str | int) or isinstance(value, bool):
            raise ConfigError(f"{options.place}: headers.{name} must be a text")
        text = str(value).strip()
        if _HEADER.fullmatch(name) is None or not text.isprintable():
            raise ConfigError(f"{options.place}: headers.{name} holds characters that no header can carry")
        headers[name] = text
    return headers


@dataclass(frozen=True, slots=True, repr=False)
class Endpoint:
    """Where requests go. `shown` is the method and the URL as written in the mapping, fit for messages."""

    url: URL
    shown: str
    method: str
    headers: Mapping[str, str]


class HttpAgent:
    """An agent behind a URL. The session belongs to the loop of the first call."""

    def __init__(self, endpoint: Endpoint, options: Options, surroundings: Surroundings) -> None:
        self._endpoint = endpoint
        self._options = options
        self._surroundings = surroundings
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    async def invoke(self, invocation: Invocation) -> Reply:
        """Send the input, and return a 2xx answer: JSON where it parses as such, otherwise text."""
        if self._closed:
            raise AgentUnavailableError(f"{self._endpoint.shown}: the agent is closed")
        payload = self._encode(invocation.body)
        try:
            async with self._open_session().request(
                self._endpoint.method,
                self._endpoint.url,
                data=payload,
                headers=self._headers_for(invocation),
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
                connector=aiohttp.TCPConnector(limit=self._surroundings.max_concurrency),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                headers={"User-Agent": f"rowfleet/{__version__}"},
            )
        return self._session

    def _headers_for(self, invocation: Invocation) -> dict[str, str]:
        ours = {
            "Content-Type": "application/json",
            "Accept": "application/json, text/*;q=0.9, */*;q=0.5",
            "Idempotency-Key": invocation.id,
        }
        theirs = {name.lower() for name in self._endpoint.headers}
        kept = {name: value for name, value in ours.items() if name.lower() not in theirs}
        return kept | dict(self._endpoint.headers)

    def _encode(self, body: Json) -> bytes:
        try:
            return jsontext.dumps(body).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise AgentRejectedError(
                f"the input cannot be written as JSON ({type(error).__name__})"
            ) from None

    async def _reply(self, response: aiohttp.ClientResponse) -> Reply:
        if not HTTPStatus.OK <= response.status < HTTPStatus.MULTIPLE_CHOICES:
            await self._refuse(response)
        headers = {name.lower(): value for name, value in response.headers.items()}
        headers.pop("set-cookie", None)
        async with AsyncExitStack() as budget:
            data = await self._read(response, budget)
            return Reply(body=parse_body(data, response.charset), size=len(data), headers=headers)

    async def _read(self, response: aiohttp.ClientResponse, budget: AsyncExitStack) -> bytes:
        """The whole body, or an error as soon as it is known to be too large.

        A body larger than a chunk waits for its share of the process's budget, which it has until the stack
        is closed; meanwhile TCP holds the sender back.
        """
        limit = self._surroundings.max_reply_bytes
        if (response.content_length or 0) > limit:
            self._too_large(response, f"{response.content_length:,}")
        data = bytearray()
        is_large = False
        async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
            data += chunk
            if len(data) > limit:
                self._too_large(response, f"at least {len(data):,}")
            if not is_large and len(data) >= _CHUNK_BYTES:
                is_large = True
                # of a compressed body nobody knows yet how large it is
                known = None if "Content-Encoding" in response.headers else response.content_length
                await budget.enter_async_context(self._surroundings.replies.taken(known or limit))
        return bytes(data)

    def _too_large(self, response: aiohttp.ClientResponse, size: str) -> NoReturn:
        response.close()
        limit = self._surroundings.max_reply_bytes
        raise AgentRejectedError(
            f"{self._endpoint.shown}: the reply has {size} bytes, "
            f"{limit:,} are allowed ({REPLY_LIMIT_SETTING})"
        )

    async def _refuse(self, response: aiohttp.ClientResponse) -> NoReturn:
        status = response.status
        if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
            target = self._options.redact(response.headers.get("Location", "")).partition("?")[0]
            raise AgentRejectedError(
                f"{self._endpoint.shown}: HTTP {status}, redirected to {target[:EXCERPT_CHARS] or 'nowhere'} "
                f"(redirects are not followed: put the final address into url)"
            )
        text = f"{self._endpoint.shown}: HTTP {status}{await self._excerpt(response)}"
        if status not in _RETRYABLE and status < HTTPStatus.INTERNAL_SERVER_ERROR:
            raise AgentRejectedError(text)
        kind: type[AgentRetryableError] = AgentUnavailableError
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            kind = AgentThrottledError
        wait_s = retry_after_s(response.headers.get("Retry-After", ""), now=self._surroundings.now())
        raise kind(text, retry_after_s=wait_s)

    async def _excerpt(self, response: aiohttp.ClientResponse) -> str:
        """`: ` and the start of an error's body on one line; nothing where there is none or it breaks off."""
        data = bytearray()
        try:
            async for chunk in response.content.iter_chunked(_EXCERPT_BYTES):
                data += chunk
                if len(data) >= _EXCERPT_BYTES:
                    response.close()
                    break
        except (aiohttp.ClientError, OSError):
            response.close()
        text = " ".join(_decode(bytes(data), response.charset).split())
        return f": {self._options.redact(text)[:EXCERPT_CHARS]}" if text else ""

    def _translate(
        self, error: Exception, invocation: Invocation
    ) -> AgentRetryableError | AgentRejectedError:
        """Every error of the layers below, in our words; theirs may repeat the address."""
        shown = self._endpoint.shown
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            return AgentUnavailableError(f"{shown}: no connection within {CONNECT_TIMEOUT_S:g} s")
        if isinstance(error, TimeoutError):
            return AgentTimeoutError(f"{shown}: no answer within {invocation.timeout_s:g} s")
        return AgentUnavailableError(f"{shown}: {_cause(error)}")


def parse_body(data: bytes, charset: str | None) -> Json:
    """JSON whatever the content type says, if it parses; otherwise text, with undecodable bytes replaced."""
    text = _decode(data, charset)
    try:
        return jsontext.loads(data if charset is None else text)
    except ValueError:
        return text


def _decode(data: bytes, charset: str | None) -> str:
    try:
        name = codecs.lookup(charset or "utf-8").name
        return data.decode(name, "replace").removeprefix("\ufeff")
    except (LookupError, ValueError):
        return data.decode("utf-8", "replace")


def _cause(error: Exception) -> str:
    for kinds, words in _CAUSES:
        if isinstance(error, kinds):
            return words
    if isinstance(error, OSError) and error.errno:
        return f"no connection ({os.strerror(error.errno)})"
    return type(error).__name__


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
