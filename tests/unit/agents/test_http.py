"""What only HTTP has: statuses, charsets, compression, connections that break, and secrets in addresses."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web

from service.agents import open_agent
from service.agents.http import parse_body
from service.agents.options.context import AgentContext
from service.domain.errors import (
    AgentCredentialsError,
    AgentOutageError,
    AgentRejectedError,
    AgentRetryableError,
    AgentThrottledError,
    AgentTimeoutError,
    AgentUnavailableError,
    ConfigError,
)
from service.domain.ports import Invocation, Reply

LIMIT = 100_000
SECRET = "s3cr3t-t0k3n"

Handle = Callable[[web.Request], Awaitable[web.StreamResponse]]
Call = Callable[..., Awaitable[Reply]]


@pytest.fixture
async def call() -> AsyncIterator[Call]:
    """Call a handler through a new server and agent."""
    cleanups: list[Callable[[], Awaitable[None]]] = []

    async def once(handle: Handle, *, path: str = "/", timeout_s: float = 3_600, **options: Any) -> Reply:
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", handle)
        runner = web.AppRunner(app, shutdown_timeout=0.01)
        await runner.setup()
        cleanups.append(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        options = {"url": f"http://127.0.0.1:{runner.addresses[0][1]}{path}"} | options
        agent = open_agent(
            "http",
            options,
            name="a",
            environ={"TOKEN": SECRET},
            context=AgentContext(max_reply_bytes=LIMIT),
        )
        cleanups.append(agent.close)
        return await agent.invoke(Invocation(id="1", body={"a": 1}, timeout_s=timeout_s))

    yield once
    for cleanup in reversed(cleanups):
        await cleanup()


def answering(**response: Any) -> Handle:
    async def handle(_request: web.Request) -> web.Response:
        return web.Response(**response)

    return handle


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, AgentRejectedError),
        (401, AgentCredentialsError),
        (402, AgentOutageError),
        (403, AgentCredentialsError),
        (404, AgentRejectedError),
        (408, AgentUnavailableError),
        (413, AgentRejectedError),
        (425, AgentUnavailableError),
        (429, AgentThrottledError),
        (500, AgentUnavailableError),
        (503, AgentUnavailableError),
        (599, AgentUnavailableError),
    ],
)
async def test_what_a_status_means(call: Call, status: int, error: type[Exception]) -> None:
    """408, 425, 429, 5xx and what is about credentials or money are retried; other 4xx reject the row."""
    with pytest.raises(error, match=f"HTTP {status}"):
        await call(answering(status=status))


async def test_an_overloaded_agent_may_say_how_long(call: Call) -> None:
    """Retry-After counts with every status that is retried."""
    with pytest.raises(AgentUnavailableError) as raised:
        await call(answering(status=503, headers={"Retry-After": "3"}))
    assert raised.value.retry_after_s == 3


async def test_an_errors_body_is_quoted_on_one_line_and_cut(call: Call) -> None:
    """300 characters are enough to see what is wrong."""
    with pytest.raises(AgentRejectedError) as raised:
        await call(answering(status=422, text="no\n  such place " + "x" * 1_000_000))
    text = str(raised.value)
    assert ": HTTP 422: no such place xxx" in text
    assert text.endswith("x")
    assert len(text.partition("HTTP 422: ")[2]) == 300


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(call: Call, status: int) -> None:
    """A POST that moves would arrive as something else; the error says where to, without the query."""
    asked = []

    async def handle(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(status=status, headers={"Location": "https://example.org/new?key=1"})

    with pytest.raises(AgentRejectedError, match=r"redirected to https://example\.org/new \("):
        await call(handle)
    assert asked == ["/"]


async def test_a_bomb_is_measured_unpacked(call: Call) -> None:
    """100 MB of zeros in 100 kB are too large, and are not unpacked to find out."""
    bomb = gzip.compress(bytes(100_000_000), compresslevel=9)
    assert len(bomb) < LIMIT
    with pytest.raises(AgentRejectedError, match=r"at least [0-9,]+ bytes, 100,000 are allowed") as raised:
        await call(answering(body=bomb, headers={"Content-Encoding": "gzip"}))
    size = int(str(raised.value).split("at least ")[1].split(" ")[0].replace(",", ""))
    assert size < 10 * LIMIT


async def test_a_compressed_answer_of_proper_size(call: Call) -> None:
    """`size` counts the bytes after decompression."""
    packed = gzip.compress(b'{"a": 1}')
    reply = await call(answering(body=packed, headers={"Content-Encoding": "gzip"}))
    assert (reply.body, reply.size) == ({"a": 1}, 8)


async def test_an_endless_answer_is_cut_off(call: Call) -> None:
    """Reading stops at the limit, not at the end."""
    gone = asyncio.Event()

    async def handle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 10_000)
        except ConnectionError:
            gone.set()
        return response

    with pytest.raises(AgentRejectedError, match="100,000 are allowed"):
        await call(handle)
    await gone.wait()


async def test_an_answer_that_breaks_off_is_retryable(call: Call) -> None:
    """Half an answer is none."""

    async def handle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b'{"a":')
        request.transport.close()
        return response

    with pytest.raises(AgentUnavailableError, match="broke off"):
        await call(handle)


async def test_a_connection_that_is_reset_is_retryable(call: Call) -> None:
    """So is no answer at all."""

    async def handle(request: web.Request) -> web.StreamResponse:
        request.transport.abort()
        return web.Response()

    with pytest.raises(AgentUnavailableError, match="closed before an answer"):
        await call(handle)


async def test_an_answer_that_stalls_halfway_times_out(
    call: Call, skip_time: Callable[[float], None]
) -> None:
    """The time-out is for the whole answer, not for its first byte."""
    begun, release = asyncio.Event(), asyncio.Event()

    async def handle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"{")
        begun.set()
        await release.wait()
        return response

    calling = asyncio.create_task(call(handle))
    await begun.wait()
    for _ in range(100):
        await asyncio.sleep(0)  # the client reads the first byte
    skip_time(3_600)
    with pytest.raises(AgentTimeoutError):
        await calling
    release.set()


async def test_damaged_compression_is_retryable(call: Call) -> None:
    """An error below becomes one of ours."""
    with pytest.raises(AgentRetryableError):
        await call(answering(body=b"this is not gzip", headers={"Content-Encoding": "gzip"}))


async def test_what_is_sent(call: Call) -> None:
    """POST, JSON, the configured headers, and ours where the configuration has none of that name."""
    seen: list[web.Request] = []

    async def handle(request: web.Request) -> web.Response:
        seen.append(request)
        return web.json_response(await request.json(), headers={"Set-Cookie": "a=b", "X-Trace": "t"})

    headers = {"Authorization": "Bearer ${TOKEN}", "content-type": "application/x+json", "X-N": 5}
    reply = await call(handle, path="/v1?x=1", headers=headers, method="put")
    assert reply.body == {"a": 1}
    assert (seen[0].method, seen[0].path_qs) == ("PUT", "/v1?x=1")
    assert seen[0].headers["Authorization"] == f"Bearer {SECRET}"
    assert seen[0].headers.getall("Content-Type") == ["application/x+json"]
    assert seen[0].headers["X-N"] == "5"
    assert seen[0].headers["User-Agent"].startswith("rowfleet/")
    assert reply.headers["x-trace"] == "t"
    assert "set-cookie" not in reply.headers


async def test_connections_are_used_again_and_cookies_forgotten() -> None:
    """A hundred rows in turn cost one connection, also after errors; no row sees another's cookie."""
    peers, cookies = set(), set()

    async def handle(request: web.Request) -> web.Response:
        peers.add(request.transport.get_extra_info("peername"))
        cookies.add(request.headers.get("Cookie"))
        status = 503 if len(await request.text()) % 2 else 200
        return web.Response(status=status, text="x" * 500, headers={"Set-Cookie": "a=b"})

    app = web.Application()
    app.router.add_post("/", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    agent = open_agent("http", {"url": url}, name="a", environ={})
    failed = 0
    for number in range(100):
        try:
            await agent.invoke(Invocation(id=str(number), body="x" * number))
        except AgentUnavailableError:
            failed += 1
    assert failed == 50
    assert len(peers) == 1
    assert cookies == {None}
    await agent.close()
    await runner.cleanup()


async def test_no_proxy_of_the_environment_is_used(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where requests go is the mapping's business alone."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    assert (await call(answering(text="1"))).body == 1


async def test_a_host_that_does_not_resolve_is_retryable() -> None:
    """DNS has bad days."""
    agent = open_agent("http", {"url": "http://nobody.invalid/"}, name="a", environ={})
    with pytest.raises(AgentUnavailableError):
        await agent.invoke(Invocation(id="1", body={}))
    await agent.close()


async def test_an_input_that_is_no_json_rejects_the_row() -> None:
    """A lone surrogate cannot be sent; nothing is."""
    agent = open_agent("http", {"url": "http://127.0.0.1:1/"}, name="a", environ={})
    with pytest.raises(AgentRejectedError, match="cannot be written as JSON"):
        await agent.invoke(Invocation(id="1", body={"a": "\ud800"}))
    await agent.close()


@pytest.mark.parametrize(
    ("data", "charset", "body"),
    [
        (b'{"a": 1}', None, {"a": 1}),
        (b"\xef\xbb\xbf[1]", None, [1]),
        (b"\xef\xbb\xbf[1]", "utf-8", [1]),
        ('{"é": 1}'.encode("latin-1"), "iso-8859-1", {"é": 1}),
        ('{"é": 1}'.encode("utf-16"), None, {"é": 1}),
        ("é".encode("latin-1"), "latin-1", "é"),
        (b"caf\xe9", None, "caf\ufffd"),
        (b"abc", "no-such-charset", "abc"),
        (b"abc", "hex", "abc"),
        (b"", None, ""),
        (b'{"a": NaN}', None, '{"a": NaN}'),
        (b"[" * 100_000, None, "[" * 100_000),
        (b"9" * 5_000, None, "9" * 5_000),
    ],
)
def test_bodies(data: bytes, charset: str | None, body: object) -> None:
    """JSON if it parses, whatever its type says; otherwise text; never an error."""
    assert parse_body(data, charset) == body


async def test_resolved_values_are_shown_nowhere(call: Call) -> None:
    """Not when the agent repeats them, not in a redirect, not in a repr, not when there is no connection."""
    repeats = f"bad token {SECRET}"
    path = "/?key=${TOKEN}"
    for handle in (
        answering(status=401, text=repeats),
        answering(status=500, text=repeats),
        answering(status=302, headers={"Location": f"/{SECRET}/"}),
        answering(status=200, text="x" * (LIMIT + 1)),
    ):
        with pytest.raises((AgentRejectedError, AgentRetryableError)) as raised:
            await call(handle, path=path)
        assert SECRET not in str(raised.value)
        assert "${TOKEN}" in str(raised.value)
        assert raised.value.__cause__ is None
    agent = open_agent("http", {"url": "http://${HOST}:1/"}, name="a", environ={"HOST": "127.0.0.1"})
    with pytest.raises(AgentUnavailableError) as unreachable:
        await agent.invoke(Invocation(id="1", body={}))
    assert "127.0.0.1" not in str(unreachable.value)
    assert "127.0.0.1" not in repr(agent)
    await agent.close()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "url is missing"),
        ({"url": "example.org"}, "no address"),
        ({"url": "ftp://example.org/"}, "no address"),
        ({"url": "http://"}, "no address"),
        ({"url": "http://h:99999/"}, "no address"),
        ({"url": "${GONE}/x"}, "target broad: url: environment variable GONE is not set"),
        ({"url": "${secret:vault:TOKEN}"}, "no source 'vault' of secrets"),
        ({"url": "${secret:#key}"}, "names no secret"),
        ({"url": "${TO KEN}"}, "no variable name"),
        (
            {"url": "http://h/", "headers": {"X": "${GONE}"}},
            r"target broad: headers\.X: environment variable GONE",
        ),
        ({"url": "http://h/", "headers": {"X": "a\r\nY: b"}}, r"headers\.X holds characters"),
        ({"url": "http://h/", "headers": {"X Y": "a"}}, "holds characters"),
        ({"url": "http://h/", "headers": ["X"]}, "name: value pairs"),
        ({"url": "http://h/", "headers": {"X": [1]}}, r"headers\.X must be a text"),
        ({"url": "http://h/", "method": "TRACE"}, "none of POST"),
        ({"url": "http://{{ host }}/"}, "no template of an address"),
        ({"preset": "opnai", "model": "m"}, "unknown preset"),
        ({"url": "http://h/", "verb": "POST"}, r"unknown option 'verb' \(known: url"),
    ],
)
def test_wrong_options_are_found_at_once(options: dict[str, Any], says: str) -> None:
    """Before a row is spent, naming target and option, and never a value of the environment."""
    with pytest.raises(ConfigError, match=says) as raised:
        open_agent("http", options, name="broad", environ={"TOKEN": SECRET})
    assert SECRET not in str(raised.value)


def test_a_way_to_invoke_that_does_not_exist() -> None:
    """The message names those that do."""
    with pytest.raises(
        ConfigError, match=r"invoke: fax is not supported by this version \(http, lambda, .*python are\)"
    ):
        open_agent("fax", {}, name="a", environ={})


async def test_a_url_from_the_environment_that_is_wrong_is_not_repeated() -> None:
    """It may hold a password."""
    with pytest.raises(ConfigError, match=r"\$\{URL\}") as raised:
        open_agent("http", {"url": "${URL}"}, name="a", environ={"URL": "htp://user:hunter2@h"})
    assert "hunter2" not in str(raised.value)
