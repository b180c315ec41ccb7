"""/livez and /readyz."""

import aiohttp
import pytest

from service.app.health_server import serve_health
from service.domain.errors import ConfigError


async def get(url):
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return response.status, await response.text(), response.content_type


async def test_a_process_is_alive_whatever_its_troubles():
    """/livez says that the event loop runs, and nothing more: AWS's troubles are no reason to be killed."""
    async with serve_health("127.0.0.1", 0, lambda: {"worker": "access denied"}) as url:
        assert await get(f"{url}/livez") == (200, "alive\n", "text/plain")


async def test_a_process_without_troubles_is_ready():
    """200 with every role by name."""
    async with serve_health("127.0.0.1", 0, lambda: {"worker": "", "splitter": ""}) as url:
        status, body, kind = await get(f"{url}/readyz")
    assert (status, kind) == (200, "application/json")
    assert body == '{"ready":true,"roles":{"worker":"ok","splitter":"ok"}}\n'


async def test_a_process_in_trouble_is_not_ready_and_says_why():
    """503 with the reason of each role; the state is asked for at every request."""
    outages = {"worker": "", "splitter": "sqs:ReceiveMessage is denied"}
    async with serve_health("127.0.0.1", 0, lambda: outages) as url:
        status, body, _ = await get(f"{url}/readyz")
        assert status == 503
        assert body == '{"ready":false,"roles":{"worker":"ok","splitter":"sqs:ReceiveMessage is denied"}}\n'
        outages["splitter"] = ""
        assert (await get(f"{url}/readyz"))[0] == 200


async def test_parts_that_are_no_roles_stand_beside_them():
    """A broken mapping makes a process not ready too."""
    parts = {"mappings": "a.yaml:2: unknown method"}
    async with serve_health("127.0.0.1", 0, lambda: {"splitter": ""}, lambda: parts) as url:
        status, body, _ = await get(f"{url}/readyz")
        assert status == 503
        assert body == '{"ready":false,"roles":{"splitter":"ok"},"mappings":"a.yaml:2: unknown method"}\n'
        parts["mappings"] = ""
        assert (await get(f"{url}/readyz"))[0] == 200


async def test_a_taken_port_is_a_configuration_error():
    """The process says which setting to change, and does not start."""
    async with serve_health("127.0.0.1", 0, dict) as url:
        port = int(url.rsplit(":", 1)[1])
        with pytest.raises(ConfigError, match=rf"127\.0\.0\.1:{port}.*ROWFLEET_HEALTH__PORT"):
            async with serve_health("127.0.0.1", port, dict):
                pass
    async with serve_health("127.0.0.1", port, dict) as again:
        assert again == url, "the port is given back"


async def test_a_host_that_is_not_ours_is_a_configuration_error():
    """An address that cannot be bound is told like a taken port."""
    with pytest.raises(ConfigError, match="cannot serve health"):
        async with serve_health("203.0.113.7", 0, dict):
            pass
