"""A webhook gets signed events; it cannot lead the sender anywhere else."""

import asyncio
import base64
import json
import time
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from standardwebhooks import Webhook

from service.adapters.proxies import ENVIRONMENT
from service.adapters.webhook.webhook import WebhookTarget
from service.domain.errors import AccessError, ReceiverGoneError, RetryableError, UnreachableError
from service.domain.model import Batch, Event, EventKind, Location, Source, State

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef01234567").decode()
BATCH = Batch("demo", "e1", State.SUCCEEDED, Source("b", "k"), Location("b", "out/"), ttl=2_000_000_000)
EVENT = Event.of(
    BATCH, EventKind.COMPLETED, at="2026-11-18T10:00:00.000Z", status={"state": "SUCCEEDED", "größe": 1}
)


async def secret():
    return SECRET


@asynccontextmanager
async def receiver(handle):
    """A local server whose handler answers a POST of an event."""
    app = web.Application()
    app.router.add_post("/hook", handle)
    async with TestServer(app) as server:
        yield server


def target(url, **more):
    return WebhookTarget(str(url), more.pop("secret", secret), now_s=time.time, **more)


def answering(status, got=None, headers=None):
    async def handle(request):
        if got is not None:
            got.append((dict(request.headers), await request.text()))
        return web.Response(status=status, headers=headers)

    return handle


async def test_an_event_is_signed_and_verified_by_the_library():
    """Headers and signature are Standard Webhooks'; a receiver that knows the secret gets the event."""
    got = []
    async with (
        receiver(answering(204, got)) as server,
        target(server.make_url("/hook"), allow_private=True, user_agent="rowfleet/9") as webhook,
    ):
        await webhook.deliver(EVENT)
        await webhook.deliver(EVENT)
    for headers, text in got:
        assert Webhook(SECRET).verify(text, headers) == json.loads(EVENT.body)
        assert headers["webhook-id"] == EVENT.id
        assert headers["Content-Type"] == "application/json"
        assert headers["User-Agent"] == "rowfleet/9"
    assert [text for _, text in got] == [EVENT.body] * 2
    body = json.loads(EVENT.body)
    assert list(body) == ["schema", "id", "kind", "at", "batch_id", "status", "manifest"]
    assert (body["schema"], body["kind"], body["manifest"]) == (1, "completed", "s3://b/out/manifest.json")


@pytest.mark.parametrize("status", [300, 400, 401, 404, 429, 500, 503])
async def test_every_other_status_is_a_failure(status):
    """The event is delivered again; the text names the host and not the path, which may be a secret."""
    async with (
        receiver(answering(status)) as server,
        target(server.make_url("/hook"), allow_private=True) as webhook,
    ):
        with pytest.raises(RetryableError, match=rf"^the webhook at 127\.0\.0\.1 answers {status}") as raised:
            await webhook.deliver(EVENT)
    assert "/hook" not in str(raised.value)


async def test_a_webhook_that_is_gone_says_so():
    """410: it wants no events any more."""
    async with (
        receiver(answering(410)) as server,
        target(server.make_url("/hook"), allow_private=True) as webhook,
    ):
        with pytest.raises(ReceiverGoneError, match="410"):
            await webhook.deliver(EVENT)


async def test_a_redirect_is_not_followed():
    """It would lead to an address that was not checked."""
    got = []
    async with receiver(answering(200, got)) as inner:
        redirect = answering(302, headers={"Location": str(inner.make_url("/hook"))})
        async with (
            receiver(redirect) as server,
            target(server.make_url("/hook"), allow_private=True) as webhook,
        ):
            with pytest.raises(RetryableError, match="answers 302, and redirects are not followed"):
                await webhook.deliver(EVENT)
    assert got == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "2130706433"])
async def test_a_private_address_is_not_called(host):
    """Neither as a number nor behind a name; the text names the setting that allows it."""
    got = []
    async with (
        receiver(answering(200, got)) as server,
        target(f"http://{host}:{server.port}/hook") as webhook,
    ):
        with pytest.raises((AccessError, UnreachableError)) as raised:
            await webhook.deliver(EVENT)
    assert got == []
    if host in ("127.0.0.1", "localhost"):
        assert "ROWFLEET_EVENTS__ALLOW_PRIVATE" in str(raised.value)


async def test_the_environment_alone_names_no_proxy(monkeypatch):
    """The setting decides: a proxy is connected to in the place of the receiver, whose address is checked."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    got = []
    async with (
        receiver(answering(200, got)) as server,
        target(server.make_url("/hook"), allow_private=True) as webhook,
    ):
        await webhook.deliver(EVENT)
    assert len(got) == 1


@asynccontextmanager
async def proxying(got, status=204):
    """A proxy that notes the request lines it gets, and answers in the place of the receiver."""

    async def serve(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        got.append(head.split(b"\r\n")[0].decode())
        writer.write(b"HTTP/1.1 %d Answer\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % status)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_the_setting_names_a_proxy(monkeypatch):
    """The proxy may be in the own network and resolves the name; NO_PROXY of the environment is obeyed."""
    got = []
    async with proxying(got) as proxy:
        async with target("http://hooks.example/hook", proxy=proxy) as webhook:
            await webhook.deliver(EVENT)
        monkeypatch.setenv("http_proxy", proxy)
        monkeypatch.setenv("no_proxy", "")
        async with target("http://hooks.example/hook", proxy=ENVIRONMENT) as webhook:
            await webhook.deliver(EVENT)
        assert got == ["POST http://hooks.example/hook HTTP/1.1"] * 2
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        direct = []
        async with (
            receiver(answering(204, direct)) as server,
            target(server.make_url("/hook"), proxy=ENVIRONMENT, allow_private=True) as webhook,
        ):
            await webhook.deliver(EVENT)
    assert (len(got), len(direct)) == (2, 1)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "10.0.0.7", "[::1]", "localhost", "a.localhost.", "2130706433", "0x7f.1"]
)
async def test_a_proxy_is_not_asked_for_a_private_address(host):
    """The proxy could reach more of the own network than the sender; with the setting it may."""
    got = []
    async with proxying(got) as proxy:
        async with target(f"http://{host}/hook", proxy=proxy) as webhook:
            with pytest.raises(AccessError, match="ROWFLEET_EVENTS__ALLOW_PRIVATE"):
                await webhook.deliver(EVENT)
        assert got == []
        async with target(f"http://{host}/hook", proxy=proxy, allow_private=True) as webhook:
            await webhook.deliver(EVENT)
    assert len(got) == 1


async def test_a_proxy_that_refuses():
    """Its answer to CONNECT is named as the proxy's, and the event is delivered again later."""
    got = []
    async with (
        proxying(got, status=403) as proxy,
        target("https://hooks.example/hook", proxy=proxy) as webhook,
    ):
        with pytest.raises(
            UnreachableError, match=r"hooks\.example cannot be reached: its proxy answers 403"
        ):
            await webhook.deliver(EVENT)
    assert got == ["CONNECT hooks.example:443 HTTP/1.1"]


async def test_a_receiver_that_nobody_reaches():
    """Nothing listens there."""
    async with target("http://127.0.0.1:1/hook?key=hidden", allow_private=True) as webhook:
        with pytest.raises(UnreachableError, match=r"127\.0\.0\.1 cannot be reached") as raised:
            await webhook.deliver(EVENT)
    assert "hidden" not in str(raised.value)


async def test_a_secret_that_is_none():
    """The text does not show it."""

    async def wrong():
        return "whsec_***"

    async with target("http://127.0.0.1:1/hook", allow_private=True, secret=wrong) as webhook:
        with pytest.raises(AccessError, match="no Base64 after whsec_") as raised:
            await webhook.deliver(EVENT)
    assert "***" not in str(raised.value)
