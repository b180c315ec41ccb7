"""Secrets: cached, read again when they expire or are refused, and never shown."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web

from service.agents import open_agent
from service.agents.options.context import AgentContext
from service.agents.options.substitution import ResolvedOptions, resolve
from service.agents.with_secrets import AgentWithSecrets
from service.domain.errors import (
    AgentCredentialsError,
    AgentOutageError,
    AgentRejectedError,
    AgentUnavailableError,
)
from service.domain.ports import Agent, Invocation, Reply

VALID = "valid-s3cr3t"


@dataclass
class KeyServer:
    """A server that accepts one key, and the file from which the agent reads its key.

    `now` is the agent's time. `twenty_wait` is set once twenty calls wait for `release`.
    """

    file: Path
    url: str = ""
    key: str = VALID
    keys_received: list[str] = field(default_factory=list)
    pins_received: list[str] = field(default_factory=list)
    now: float = 1_000.0
    release: asyncio.Event = field(default_factory=asyncio.Event)
    twenty_wait: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: int = 0

    def agent(self, **options: object) -> Agent:
        """An agent whose key is in the file."""
        options = {"url": self.url, "headers": {"X-Key": f"${{secret:file:{self.file}}}"}} | options
        context = AgentContext(secret_ttl_s=60, now=lambda: self.now)
        return open_agent("http", options, name="a", environ={"KEY": VALID}, context=context)

    async def handle(self, request: web.Request) -> web.Response:
        """401 for a wrong key. /echo repeats the key. On /held, calls with an old key wait for `release`."""
        key = request.headers.get("X-Key", "")
        self.keys_received.append(key)
        self.pins_received.append(request.headers.get("X-Pin", ""))
        if request.path == "/held" and key != VALID:
            self.waiting += 1
            if self.waiting == 20:
                self.twenty_wait.set()
            await self.release.wait()
        if request.path == "/echo":
            return web.json_response({key: ["a", f"you said {key}!"]}, headers={"X-You": "x" + VALID})
        if request.path == "/basic":
            return web.json_response({"you": request.headers["Authorization"]})
        if request.path == "/complain":
            return web.Response(status=422, text=f"what is {key}?")
        return web.Response(status=200 if key == self.key else 401, text='"in"')


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[KeyServer]:
    server = KeyServer(tmp_path / "key")
    server.file.write_text(VALID + "\n")
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", server.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.01)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    yield server
    server.release.set()
    await runner.cleanup()


async def invoke(agent: Agent) -> Reply:
    return await agent.invoke(Invocation("1", {}))


async def test_a_secret_is_cached_until_it_expires(server: KeyServer) -> None:
    """The file is read again after `secret_ttl_s`, 60 s here, and the new value is used."""
    agent = server.agent()
    assert (await invoke(agent)).body == "in"
    server.file.write_text("old-now-wrong")
    server.now += 59
    assert (await invoke(agent)).body == "in"
    server.now += 1
    with pytest.raises(AgentCredentialsError):
        await invoke(agent)
    assert server.keys_received == [VALID, VALID, "old-now-wrong"]
    await agent.close()


async def test_a_refused_secret_is_read_again_and_the_call_repeated(server: KeyServer) -> None:
    """After a rotation the same call succeeds, without another attempt."""
    server.file.write_text("rotated-away")
    agent = server.agent()
    with pytest.raises(AgentCredentialsError):
        await invoke(agent)
    server.file.write_text(VALID)
    server.now += 10
    assert (await invoke(agent)).body == "in"
    assert server.keys_received == ["rotated-away", "rotated-away", VALID]
    await agent.close()


async def test_many_refusals_read_a_secret_once(server: KeyServer) -> None:
    """Twenty rows are refused at the same time, and all succeed with the value of one read."""
    server.file.write_text("rotated-away")
    agent = server.agent(url=server.url + "held")
    calls = [asyncio.create_task(invoke(agent)) for _ in range(20)]
    await server.twenty_wait.wait()
    server.file.write_text(VALID)
    server.now += 10
    server.release.set()
    replies = await asyncio.gather(*calls, return_exceptions=True)
    assert [getattr(reply, "body", reply) for reply in replies] == ["in"] * 20
    assert server.keys_received == ["rotated-away"] * 20 + [VALID] * 20
    await agent.close()


async def test_a_secret_that_stays_wrong_is_not_read_for_every_row(server: KeyServer) -> None:
    """Refusals cause a read at most every RENEW_EVERY_S, 10 s, for any number of rows."""
    server.file.write_text("wrong-and-stays")
    agent = server.agent()
    for _ in range(3):
        with pytest.raises(AgentCredentialsError):
            await invoke(agent)
    server.file.write_text(VALID)
    with pytest.raises(AgentCredentialsError):
        await invoke(agent)
    server.now += 10
    assert (await invoke(agent)).body == "in"
    await agent.close()


async def test_a_secret_that_cannot_be_read_again_keeps_its_value(server: KeyServer) -> None:
    """The last value stays in use, and the read is repeated after RETRY_READ_S."""
    agent = server.agent()
    await invoke(agent)
    server.file.unlink()
    server.now += 60
    assert (await invoke(agent)).body == "in"
    server.file.write_text("wrong-at-last")
    server.now += 29
    assert (await invoke(agent)).body == "in"
    server.now += 1
    with pytest.raises(AgentCredentialsError):
        await invoke(agent)
    await agent.close()


@pytest.mark.parametrize("path", ["echo", "complain", "nothing"])
async def test_secrets_that_the_agent_repeats_are_redacted(server: KeyServer, path: str) -> None:
    """Replies, their keys and headers, and errors contain the reference instead."""
    server.key = "another"
    agent = server.agent(url=server.url + path, headers={"X-Key": "${secret:env:KEY}"})
    try:
        reply = await invoke(agent)
        shown = f"{reply.body} {reply.headers}"
        assert reply.body == {"${secret:env:KEY}": ["a", "you said ${secret:env:KEY}!"]}
        assert reply.headers["x-you"] == "x${secret:env:KEY}"
    except (AgentRejectedError, AgentCredentialsError) as error:
        shown = f"{error!r} {error.__cause__}"
    assert VALID not in shown
    assert VALID not in repr(agent)
    await agent.close()


async def test_a_secret_in_the_user_part_of_an_address_is_redacted_in_base64(server: KeyServer) -> None:
    """HTTP sends it in that form, and an agent may repeat it in a reply."""
    url = server.url.replace("://", f"://bob:${{secret:file:{server.file}}}@") + "basic"
    agent = server.agent(url=url, headers={})
    assert (await invoke(agent)).body == {"you": "Basic ***"}
    await agent.close()


@pytest.mark.parametrize(
    ("text", "reference", "message"),
    [
        (None, "file:{}", r"cannot be read: No such file"),
        ("", "file:{}", "is empty"),
        ("{}", "file:{}#token", "no JSON object with a key 'token'"),
        ("no json", "file:{}#token", "no JSON object with a key 'token'"),
        ('{"token": [1]}', "file:{}#token", "is no text"),
        ("x" * 70_000, "file:{}", "more than 65,536 bytes"),
        (None, "env:GONE", "no such variable"),
    ],
)
async def test_a_secret_that_cannot_be_read_is_an_outage(
    server: KeyServer, text: str | None, reference: str, message: str
) -> None:
    """The error names the reference and the reason, and the row is retried."""
    server.file.unlink()
    if text is not None:
        server.file.write_text(text)
    name = reference.format(server.file)
    agent = server.agent(headers={"X-Key": f"${{secret:{name}}}"})
    with pytest.raises(AgentOutageError, match=message) as raised:
        await invoke(agent)
    assert f"${{secret:{name}}}" in str(raised.value)
    assert server.keys_received == []
    await agent.close()
    with pytest.raises(AgentUnavailableError):
        await invoke(agent)


async def test_one_key_of_a_json_secret(server: KeyServer) -> None:
    """The text of the key is used; a number keeps all its digits."""
    server.file.write_text(f'{{"token": "{VALID}", "pin": 12345678901234567890}}')
    agent = server.agent(
        headers={
            "X-Key": f"${{secret:file:{server.file}#token}}",
            "X-Pin": f"${{secret:file:{server.file}#pin}}",
        }
    )
    assert (await invoke(agent)).body == "in"
    assert server.pins_received == ["12345678901234567890"]
    await agent.close()


async def test_a_secret_that_no_header_can_carry_is_not_shown(server: KeyServer) -> None:
    """The error about its line break does not contain it."""
    server.file.write_text("two\nlines-of-s3cr3t")
    agent = server.agent()
    with pytest.raises(AgentOutageError, match="characters that no header can carry") as raised:
        await invoke(agent)
    assert "s3cr3t" not in str(raised.value)
    await agent.close()


async def test_errors_of_every_agent_are_redacted(server: KeyServer) -> None:
    """Also those of an agent that puts resolved options into its errors."""

    class Leaky:
        def __init__(self, options: ResolvedOptions) -> None:
            self._text = f"called with {options.values['header']}"

        async def invoke(self, invocation: Invocation) -> Reply:
            error = (AgentRejectedError if invocation.body else AgentUnavailableError)(self._text)
            error.stated_in = [{"error": self._text}]
            raise error

        async def close(self) -> None:
            pass

    options = resolve({"header": "${secret:env:KEY}"}, environ={}, where="target a")
    context = AgentContext(environ={"KEY": VALID})
    agent = AgentWithSecrets(lambda options, _context: Leaky(options), options, context)
    for body, error in ((1, AgentRejectedError), (0, AgentUnavailableError)):
        with pytest.raises(error, match=r"called with \$\{secret:env:KEY\}$") as caught:
            await agent.invoke(Invocation("1", body))
        assert caught.value.stated_in == [{"error": "called with ${secret:env:KEY}"}]
    await agent.close()
