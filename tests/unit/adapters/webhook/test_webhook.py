"""A webhook gets signed events; it cannot lead the sender anywhere else."""

import base64
import json
import time
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from standardwebhooks import Webhook

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


async def test_the_environment_names_no_proxy(monkeypatch):
    """A proxy would be checked in the place of the receiver."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    got = []
    async with (
        receiver(answering(200, got)) as server,
        target(server.make_url("/hook"), allow_private=True) as webhook,
    ):
        await webhook.deliver(EVENT)
    assert len(got) == 1


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
