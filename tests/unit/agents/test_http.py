"""The HTTP agent: statuses, charsets, compression, broken connections, and secrets in URLs."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web

from service.agents import open_agent
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
    """Serve a handler, and invoke it through a new agent."""
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


def replying(**response: Any) -> Handle:
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
async def test_the_status_classifies_the_error(call: Call, status: int, error: type[Exception]) -> None:
    """408, 425, 429, 5xx, and statuses about credentials or billing are retried; other 4xx reject the row."""
    with pytest.raises(error, match=f"HTTP {status}"):
        await call(replying(status=status))


async def test_an_overloaded_agent_may_state_a_delay(call: Call) -> None:
    """Retry-After counts for every retried status, not only 429."""
    with pytest.raises(AgentUnavailableError) as raised:
        await call(replying(status=503, headers={"Retry-After": "3"}))
    assert raised.value.retry_after_s == 3


async def test_the_body_of_an_error_is_quoted_on_one_line_and_cut(call: Call) -> None:
    """The error contains its first 300 characters."""
    with pytest.raises(AgentRejectedError) as raised:
        await call(replying(status=422, text="no\n  such place " + "x" * 1_000_000))
    text = str(raised.value)
    assert ": HTTP 422: no such place xxx" in text
    assert text.endswith("x")
    assert len(text.partition("HTTP 422: ")[2]) == 300


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_to_another_host_are_not_followed(call: Call, status: int) -> None:
    """Not to another host. The error names the new URL without its query."""
    asked = []

    async def handle(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(status=status, headers={"Location": "https://example.org/new?key=1"})

    with pytest.raises(AgentRejectedError, match=r"redirected to https://example\.org/new \("):
        await call(handle)
    assert asked == ["/"]


async def test_a_decompression_bomb_is_rejected(call: Call) -> None:
    """100 MB of zeros in 100 kB are too large. Decompression stops soon after the limit."""
    bomb = gzip.compress(bytes(100_000_000), compresslevel=9)
    assert len(bomb) < LIMIT
    with pytest.raises(AgentRejectedError, match=r"at least [0-9,]+ bytes, 100,000 are allowed") as raised:
        await call(replying(body=bomb, headers={"Content-Encoding": "gzip"}))
    size = int(str(raised.value).split("at least ")[1].split(" ")[0].replace(",", ""))
    assert size < 10 * LIMIT


async def test_a_compressed_reply(call: Call) -> None:
    """`size` counts the bytes after decompression."""
    packed = gzip.compress(b'{"a": 1}')
    reply = await call(replying(body=packed, headers={"Content-Encoding": "gzip"}))
    assert (reply.body, reply.size) == ({"a": 1}, 8)


async def test_an_endless_reply_is_cut_off(call: Call) -> None:
    """The connection is closed at the limit."""
    disconnected = asyncio.Event()

    async def handle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 10_000)
        except ConnectionError:
            disconnected.set()
        return response

    with pytest.raises(AgentRejectedError, match="100,000 are allowed"):
        await call(handle)
    await disconnected.wait()


async def test_an_incomplete_reply_is_retryable(call: Call) -> None:
    """The connection ends before Content-Length bytes."""

    async def handle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b'{"a":')
        request.transport.close()
        return response

    with pytest.raises(AgentUnavailableError, match="broke off"):
        await call(handle)


async def test_a_connection_reset_is_retryable(call: Call) -> None:
    """The connection ends before any response."""

    async def handle(request: web.Request) -> web.StreamResponse:
        request.transport.abort()
        return web.Response()

    with pytest.raises(AgentUnavailableError, match="closed before an answer"):
        await call(handle)


async def test_a_reply_that_stalls_times_out(call: Call, skip_time: Callable[[float], None]) -> None:
    """The time-out is for the whole reply, not for its first byte."""
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
    """Aiohttp's error is translated."""
    with pytest.raises(AgentRetryableError):
        await call(replying(body=b"this is not gzip", headers={"Content-Encoding": "gzip"}))


async def test_method_and_headers(call: Call) -> None:
    """The target's method and headers are sent, and default headers that the target does not set."""
    received: list[web.Request] = []

    async def handle(request: web.Request) -> web.Response:
        received.append(request)
        return web.json_response(await request.json(), headers={"Set-Cookie": "a=b", "X-Trace": "t"})

    headers = {"Authorization": "Bearer ${TOKEN}", "content-type": "application/x+json", "X-N": 5}
    reply = await call(handle, path="/v1?x=1", headers=headers, method="put")
    assert reply.body == {"a": 1}
    assert (received[0].method, received[0].path_qs) == ("PUT", "/v1?x=1")
    assert received[0].headers["Authorization"] == f"Bearer {SECRET}"
    assert received[0].headers.getall("Content-Type") == ["application/x+json"]
    assert received[0].headers["X-N"] == "5"
    assert received[0].headers["User-Agent"].startswith("rowfleet/")
    assert reply.headers["x-trace"] == "t"
    assert "set-cookie" not in reply.headers


async def test_connections_are_reused_and_cookies_dropped() -> None:
    """A hundred rows in turn use one connection, also after errors. No row sends a cookie of another."""
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
    """Only the mapping decides where requests go."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    assert (await call(replying(text="1"))).body == 1


async def test_a_host_that_does_not_resolve_is_retryable() -> None:
    """The failure of DNS may be temporary."""
    agent = open_agent("http", {"url": "http://nobody.invalid/"}, name="a", environ={})
    with pytest.raises(AgentUnavailableError):
        await agent.invoke(Invocation(id="1", body={}))
    await agent.close()


async def test_an_input_that_is_no_json_rejects_the_row() -> None:
    """A lone surrogate cannot be encoded, and no request is sent."""
    agent = open_agent("http", {"url": "http://127.0.0.1:1/"}, name="a", environ={})
    with pytest.raises(AgentRejectedError, match="cannot be written as JSON"):
        await agent.invoke(Invocation(id="1", body={"a": "\ud800"}))
    await agent.close()


@pytest.mark.parametrize(
    ("body", "content_type", "reply"),
    [
        (b'{"a": 1}', "text/plain", {"a": 1}),
        (b"\xef\xbb\xbf[1]", "application/json", [1]),
        ('{"é": 1}'.encode(), "application/json; charset=iso-8859-1", {"é": 1}),
        ('{"é": 1}'.encode("latin-1"), "application/json; charset=iso-8859-1", {"é": 1}),
        ('{"é": 1}'.encode("utf-16"), "application/json", {"é": 1}),
        ("é".encode("latin-1"), "text/plain; charset=latin-1", "é"),
        (b"abc", "text/plain; charset=no-such-charset", "abc"),
        (b'{"a": NaN}', "application/json", {"a": None}),
        (b"9" * 5_000, "text/plain", "9" * 5_000),
    ],
)
async def test_a_body_is_json_or_text(call: Call, body: bytes, content_type: str, reply: object) -> None:
    """It is JSON if it parses, whatever its content type; UTF-8 if it is valid, whatever the charset says."""
    assert (await call(replying(body=body, headers={"Content-Type": content_type}))).body == reply


async def test_a_body_of_no_charset_is_a_failure(call: Call) -> None:
    """It is never a reply with replacement characters."""
    with pytest.raises(AgentRejectedError, match="HTTP 200: the reply cannot be decoded"):
        await call(replying(body=b"caf\xe9", headers={"Content-Type": "text/plain"}))


@pytest.mark.parametrize("status", [307, 308])
async def test_a_redirect_to_the_same_host_is_followed(call: Call, status: int) -> None:
    """With the same method and body, for example to the path with a slash at its end."""
    asked = []

    async def handle(request: web.Request) -> web.Response:
        asked.append(
            (request.method, request.path_qs, await request.json(), request.headers["Idempotency-Key"])
        )
        if request.path.endswith("/"):
            return web.json_response(42)
        return web.Response(status=status, headers={"Location": "/a/?b=1"})

    assert (await call(handle, path="/a")).body == 42
    assert asked == [("POST", "/a", {"a": 1}, "1"), ("POST", "/a/?b=1", {"a": 1}, "1")]


async def test_redirects_end(call: Call) -> None:
    """A GET is redirected by any status, but not for ever, and not to itself."""
    asked = []

    async def handle(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(status=302, headers={"Location": f"{request.path}x"})

    with pytest.raises(AgentRejectedError, match="more than 5 times"):
        await call(handle, method="GET")
    assert len(asked) == 6
    with pytest.raises(AgentRejectedError, match="HTTP 302, redirected to"):
        await call(handle)
    with pytest.raises(AgentRejectedError, match="HTTP 307, redirected to"):
        await call(replying(status=307, headers={"Location": "/"}))


@pytest.mark.parametrize(("status", "page"), [(302, True), (307, True), (301, False), (308, False)])
async def test_a_redirection_for_once_to_a_page_is_no_reply(call: Call, status: int, page: bool) -> None:
    """A login page. At an address that has changed for good, a page is the reply as before."""

    async def handle(request: web.Request) -> web.Response:
        if request.path == "/login":
            return web.Response(text="<html><title>Sign in</title></html>", content_type="text/html")
        if request.path == "/json":
            return web.json_response({"a": 1})
        return web.Response(status=status, headers={"Location": request.path.removesuffix("/to")})

    assert (await call(handle, path="/json/to", method="GET")).body == {"a": 1}
    if page:
        with pytest.raises(
            AgentRejectedError, match=r"redirected to .*/login, an HTML page \(check the cred"
        ):
            await call(handle, path="/login/to", method="GET")
    else:
        assert "Sign in" in str((await call(handle, path="/login/to", method="GET")).body)


async def test_a_text_that_gzip_shows_to_be_cut_is_no_reply(call: Call) -> None:
    """The HTTP library would hand out what arrived. An error keeps its status, whatever its body is."""
    data = gzip.compress(b"Exchange: WHITEHALL, Cabinet: P12. " * 20)[:-12]
    headers = {"Content-Encoding": "gzip", "Content-Type": "text/plain"}
    with pytest.raises(AgentUnavailableError, match="broke off or is damaged"):
        await call(replying(body=data, headers=headers))
    with pytest.raises(AgentThrottledError, match="HTTP 429: Exchange: WHITEHALL"):
        await call(replying(status=429, body=data, headers=headers))
    with pytest.raises(AgentRejectedError, match="Content-Encoding 'br'"):
        await call(replying(body=b"\x8b\x02\x80", headers=headers | {"Content-Encoding": "br"}))


async def test_an_error_page_is_shown_by_its_title(call: Call) -> None:
    """Proxies and load balancers send pages, whose first 300 characters are markup."""
    page = (
        "<!DOCTYPE html>\n<!--[if IE 7]> <html> <![endif]-->\n<head>\n<title>h | 520: unknown error</title>"
    )
    with pytest.raises(AgentUnavailableError, match=r"HTTP 520: an HTML page, 'h \| 520: unknown error'$"):
        await call(replying(status=520, text=page, content_type="text/html"))


async def test_a_job_that_was_accepted_is_no_reply(call: Call) -> None:
    """A 202 with a Location only says where the result will be. Without one its body is the reply."""
    for header in ("Location", "Operation-Location"):
        headers = {header: "https://example.org/jobs/7?key=1"}
        with pytest.raises(AgentRejectedError, match=r"HTTP 202.*https://example\.org/jobs/7 \("):
            await call(replying(status=202, text="{}", headers=headers))
    assert (await call(replying(status=202, text="[1]"))).body == [1]


@pytest.mark.parametrize(("method", "status"), [("DELETE", 204), ("PUT", 204), ("PATCH", 204), ("HEAD", 200)])
async def test_methods_whose_success_has_no_body(call: Call, method: str, status: int) -> None:
    """Their empty reply is a reply."""
    assert (await call(replying(status=status), method=method)).body == ""


@pytest.mark.parametrize(
    ("status", "body", "headers", "error"),
    [
        (529, '{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}', {},
         AgentThrottledError),
        (503, '{"error":{"code":503,"status":"UNAVAILABLE","message":"x"}}', {}, AgentThrottledError),
        (404, '{"error":{"code":"model_not_found","message":"x"}}', {}, AgentOutageError),
        (400, '{"error":{"details":[{"reason":"API_KEY_INVALID"}],"status":"INVALID_ARGUMENT"}}', {},
         AgentCredentialsError),
        (409, "{}", {"x-should-retry": "true"}, AgentUnavailableError),
        (400, '{"error":{"code":"tool_use_failed"}}', {}, AgentUnavailableError),
    ],
)  # fmt: skip
async def test_the_body_classifies_the_error(
    call: Call, status: int, body: str, headers: dict[str, str], error: type[Exception]
) -> None:
    """Before the status."""
    with pytest.raises(error) as raised:
        await call(replying(status=status, text=body, headers=headers))
    assert type(raised.value) is error


async def test_an_error_in_a_stream_is_labelled_and_redacted(call: Call) -> None:
    """Of any class, also a throttle."""
    stream = f'data: {{"type": "error", "error": {{"type": "rate_limit_error", "message": "{SECRET}"}}}}\n\n'
    with pytest.raises(AgentThrottledError) as raised:
        await call(replying(text=stream, content_type="text/event-stream"), path="/?key=${TOKEN}")
    assert str(raised.value).startswith("POST http://127.0.0.1:")
    assert SECRET not in str(raised.value)


async def test_resolved_values_are_never_shown(call: Call) -> None:
    """Neither if the agent repeats them, nor in a redirect, a repr or a connection error."""
    repeats = f"bad token {SECRET}"
    path = "/?key=${TOKEN}"
    for handle in (
        replying(status=401, text=repeats),
        replying(status=500, text=repeats),
        replying(status=302, headers={"Location": f"/{SECRET}/"}),
        replying(status=200, text="x" * (LIMIT + 1)),
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
    ("options", "message"),
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
def test_invalid_options_raise_config_error(options: dict[str, Any], message: str) -> None:
    """When the agent is opened. The error names target and option, and no value of the environment."""
    with pytest.raises(ConfigError, match=message) as raised:
        open_agent("http", options, name="broad", environ={"TOKEN": SECRET})
    assert SECRET not in str(raised.value)


def test_an_unknown_way_to_invoke_raises_config_error() -> None:
    """The error lists the supported ones."""
    with pytest.raises(
        ConfigError, match=r"invoke: fax is not supported by this version \(http, lambda, .*python are\)"
    ):
        open_agent("fax", {}, name="a", environ={})


async def test_an_invalid_url_from_the_environment_is_not_shown() -> None:
    """It may hold a password."""
    with pytest.raises(ConfigError, match=r"\$\{URL\}") as raised:
        open_agent("http", {"url": "${URL}"}, name="a", environ={"URL": "htp://user:hunter2@h"})
    assert "hunter2" not in str(raised.value)
