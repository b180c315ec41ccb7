"""Connections of the HTTP agent, against a server that speaks bytes."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from service.adapters.proxies import ENVIRONMENT
from service.agents import open_agent
from service.agents.options.context import AgentContext
from service.agents.wire import connections
from service.domain.errors import (
    AgentCredentialsError,
    AgentOutageError,
    AgentRetryableError,
    AgentUnavailableError,
    FailureScope,
)
from service.domain.ports import Agent, Invocation

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n42"

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(handle: Handler, **context: Any) -> AsyncIterator[Agent]:
    """An agent whose server runs `handle` for each connection."""
    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    if context.get("proxy") == "here":
        context["proxy"] = f"http://127.0.0.1:{port}"
    agent = open_agent(
        "http", {"url": f"http://127.0.0.1:{port}/x"}, name="a", environ={}, context=AgentContext(**context)
    )
    try:
        yield agent
    finally:
        await agent.close()
        server.close()


async def read_request(reader: asyncio.StreamReader) -> bytes:
    """The head of a request with a body of two bytes; the body is read as well."""
    head = await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(2)
    return head


def answering(*answers: bytes) -> Handler:
    """Send one answer for each request of a connection, and close the connection after the last."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            await read_request(reader)
            writer.write(answer)
        writer.close()

    return handle


async def invoke(agent: Agent) -> Any:
    return (await agent.invoke(Invocation(id="1", body={}, timeout_s=3_600))).body


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b'HTTP/1.0 200 OK\r\n\r\n{"a": "b', "its JSON ends in the middle"),
        (b'HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n[{"a": 1},', "ends in the middle"),
        (b"HTTP/1.0 200 OK\r\n\r\n", "the reply is empty"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "HTTP 200: the reply is empty"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "HTTP 204: the reply is empty"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n42", "broke off"),
        (b"no HTTP at all\r\n\r\n", "not HTTP as it should be"),
        (
            b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
            "a header of the answer is larger than 64 KB$",
        ),
        (b"", "closed before an answer came"),
    ],
)
async def test_answers_that_are_none(answer: bytes, reason: str) -> None:
    """Each is retryable, and the error says in words what came."""
    async with serving(answering(answer)) as agent:
        with pytest.raises(AgentUnavailableError, match=reason) as raised:
            await invoke(agent)
    assert "ClientResponseError" not in str(raised.value)


async def test_a_reset_may_be_an_outage() -> None:
    """Its scope is unclear: all rows may meet it, or one row's input may crash the server."""
    async with serving(answering(b"")) as agent:
        with pytest.raises(AgentUnavailableError) as raised:
            await invoke(agent)
    assert raised.value.scope is FailureScope.UNCLEAR


async def test_headers_of_64_kb() -> None:
    """In one field, or in many."""
    fields = b"".join(b"X-%d: %s\r\n" % (n, b"x" * 200) for n in range(300))
    for headers in (b"X: " + b"x" * 60_000 + b"\r\n", fields):
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n" + headers + b"\r\n42"
        async with serving(answering(answer)) as agent:
            assert await invoke(agent) == 42


async def test_a_kept_connection_that_was_closed_costs_nothing() -> None:
    """The request is sent again on a new connection, with the same Idempotency-Key; only once."""
    heads: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await read_request(reader))
        writer.write(OK)
        if len(heads) in {1, 5}:
            heads.append(await read_request(reader))  # the second request meets the close
        writer.transport.abort()

    async with serving(handle) as agent:
        assert await invoke(agent) == 42
        assert await invoke(agent) == 42
    assert len(heads) == 3
    keys = [line for head in heads for line in head.split(b"\r\n") if line.startswith(b"Idempotency-Key")]
    assert len(set(keys)) == 1


async def test_a_request_that_the_server_may_have_seen_is_not_repeated(
    skip_time: Callable[[float], None],
) -> None:
    """On a new connection, after a while, or after the first byte of a reply, the failure stands."""
    asked = 0

    def handler(end: Callable[[asyncio.StreamWriter], None]) -> Handler:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal asked
            await read_request(reader)
            writer.write(OK)
            await read_request(reader)
            asked += 1
            end(writer)
            writer.close()

        return handle

    def late(_writer: asyncio.StreamWriter) -> None:
        skip_time(connections.UNSEEN_S + 1)

    def partial(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")

    for end in (late, partial):
        async with serving(handler(end)) as agent:
            await invoke(agent)
            with pytest.raises(AgentUnavailableError):
                await invoke(agent)
    assert asked == 2


async def test_tcp_watches_the_connection() -> None:
    """A call of many minutes is silent; load balancers forget it after 350 s."""
    opened = connections._open_socket((socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 1)))
    try:
        assert opened.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        if hasattr(socket, "TCP_KEEPIDLE"):
            assert opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == connections.KEEP_ALIVE_IDLE_S
    finally:
        opened.close()


async def test_a_proxy_by_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its address, or `environment`; NO_PROXY is obeyed."""
    heads: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await read_request(reader))
        writer.write(OK)
        writer.close()

    async with serving(handle, proxy="here") as agent:
        assert await invoke(agent) == 42
    assert heads[0].startswith(b"POST http://127.0.0.1:")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "")
    async with serving(handle, proxy=ENVIRONMENT) as agent:
        with pytest.raises(AgentOutageError, match="proxy cannot be reached"):
            await invoke(agent)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    async with serving(handle, proxy=ENVIRONMENT) as agent:
        assert await invoke(agent) == 42


@pytest.mark.parametrize(
    ("status", "error"), [(b"407 Denied", AgentCredentialsError), (b"502 Bad", AgentRetryableError)]
)
async def test_a_proxy_that_refuses(status: bytes, error: type[Exception]) -> None:
    """Its answer to CONNECT is named as the proxy's."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    proxy = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    agent = open_agent(
        "http", {"url": "https://example.invalid/"}, name="a", environ={}, context=AgentContext(proxy=proxy)
    )
    with pytest.raises(error, match=f"the proxy answers HTTP {status[:3].decode()}"):
        await invoke(agent)
    await agent.close()
    server.close()


@pytest.mark.parametrize("body", [b"hello wor", b'{"a": 1}'])
async def test_a_reset_cuts_a_body_of_unstated_length(body: bytes) -> None:
    """A text that ends with a reset is not whole. JSON that is complete is."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n" + body)
        await writer.drain()
        # A close that discards nothing and lingers for no time is a reset.
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()

    async with serving(handle) as agent:
        invoked = agent.invoke(Invocation(id="1", body={}))
        if body.startswith(b"{"):
            assert (await invoked).body == {"a": 1}
        else:
            with pytest.raises(AgentUnavailableError, match="broke off"):
                await invoked
