"""The endpoints /livez and /readyz."""

import aiohttp
import pytest

from service.app.health_server import serve_health
from service.domain.errors import ConfigError


async def get(url):
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return response.status, await response.text(), response.content_type


async def test_a_process_with_a_problem_is_alive():
    """/livez answers 200 while the event loop runs, whatever problems the roles have."""
    async with serve_health("127.0.0.1", 0, lambda: {"worker": "access denied"}) as url:
        assert await get(f"{url}/livez") == (200, "alive\n", "text/plain")


async def test_a_process_without_problems_is_ready():
    """/readyz answers 200 and lists the roles."""
    async with serve_health("127.0.0.1", 0, lambda: {"worker": "", "splitter": ""}) as url:
        status, body, kind = await get(f"{url}/readyz")
    assert (status, kind) == (200, "application/json")
    assert body == '{"ready":true,"roles":{"worker":"ok","splitter":"ok"}}\n'


async def test_a_process_with_a_problem_is_not_ready():
    """/readyz answers 503 with the problem of each role, read at every request."""
    problems = {"worker": "", "splitter": "sqs:ReceiveMessage is denied"}
    async with serve_health("127.0.0.1", 0, lambda: problems) as url:
        status, body, _ = await get(f"{url}/readyz")
        assert status == 503
        assert body == '{"ready":false,"roles":{"worker":"ok","splitter":"sqs:ReceiveMessage is denied"}}\n'
        problems["splitter"] = ""
        assert (await get(f"{url}/readyz"))[0] == 200


async def test_other_parts_are_listed_beside_the_roles():
    """A broken mapping makes a process not ready as well."""
    others = {"mappings": "a.yaml:2: unknown method"}
    async with serve_health("127.0.0.1", 0, lambda: {"splitter": ""}, lambda: others) as url:
        status, body, _ = await get(f"{url}/readyz")
        assert status == 503
        assert body == '{"ready":false,"roles":{"splitter":"ok"},"mappings":"a.yaml:2: unknown method"}\n'
        others["mappings"] = ""
        assert (await get(f"{url}/readyz"))[0] == 200


async def test_a_taken_port_is_a_configuration_error():
    """A taken port raises ConfigError that names the setting; after the server ends the port is free."""
    async with serve_health("127.0.0.1", 0, dict) as url:
        port = int(url.rsplit(":", 1)[1])
        with pytest.raises(ConfigError, match=rf"127\.0\.0\.1:{port}.*ROWFLEET_HEALTH__PORT"):
            async with serve_health("127.0.0.1", port, dict):
                pass
    async with serve_health("127.0.0.1", port, dict) as again:
        assert again == url, "the port is free again"


async def test_a_foreign_address_is_a_configuration_error():
    """An address that cannot be bound raises ConfigError, as a taken port does."""
    with pytest.raises(ConfigError, match="cannot serve health"):
        async with serve_health("203.0.113.7", 0, dict):
            pass
