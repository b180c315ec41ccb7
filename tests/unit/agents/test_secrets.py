"""Secrets: read once, read again when they are old or refused, and shown nowhere."""

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

SECOND = "second-s3cr3t"


@dataclass
class Door:
    """A server that lets in who has the key, and a file that holds one; `now` is everybody's time."""

    file: Path
    url: str = ""
    key: str = SECOND
    asked: list[str] = field(default_factory=list)
    now: float = 1_000.0
    hold: asyncio.Event = field(default_factory=asyncio.Event)
    full: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: int = 0

    def agent(self, **options: object) -> Agent:
        """An agent whose key is in the file."""
        options = {"url": self.url, "headers": {"X-Key": f"${{secret:file:{self.file}}}"}} | options
        around = AgentContext(secret_ttl_s=60, now=lambda: self.now)
        return open_agent("http", options, name="a", environ={"KEY": SECOND}, context=around)

    async def handle(self, request: web.Request) -> web.Response:
        """401 for a wrong key; on /echo the key is repeated, on /held everybody waits first."""
        given = request.headers.get("X-Key", "")
        self.asked.append(given)
        if request.path == "/held" and given != SECOND:
            self.waiting += 1
            if self.waiting == 20:
                self.full.set()
            await self.hold.wait()
        if request.path == "/echo":
            return web.json_response({given: ["a", f"you said {given}!"]}, headers={"X-You": "x" + SECOND})
        if request.path == "/complain":
            return web.Response(status=422, text=f"what is {given}?")
        return web.Response(status=200 if given == self.key else 401, text='"in"')


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    made = Door(tmp_path / "key")
    made.file.write_text(SECOND + "\n")
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", made.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.01)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    yield made
    made.hold.set()
    await runner.cleanup()


async def ask(agent: Agent) -> Reply:
    return await agent.invoke(Invocation("1", {}))


async def test_a_secret_is_read_once_until_it_is_old(door: Door) -> None:
    """Sixty seconds long the file may change unnoticed; then it is read again, and the new value is used."""
    agent = door.agent()
    assert (await ask(agent)).body == "in"
    door.file.write_text("old-now-wrong")
    door.now += 59
    assert (await ask(agent)).body == "in"
    door.now += 1
    with pytest.raises(AgentCredentialsError):
        await ask(agent)
    assert door.asked == [SECOND, SECOND, "old-now-wrong"]
    await agent.close()


async def test_a_refused_secret_is_read_again_and_the_row_asked_for_again(door: Door) -> None:
    """After a rotation no row is lost, and no attempt is spent: the same call succeeds."""
    door.file.write_text("rotated-away")
    agent = door.agent()
    with pytest.raises(AgentCredentialsError):
        await ask(agent)
    door.file.write_text(SECOND)
    door.now += 10
    assert (await ask(agent)).body == "in"
    assert door.asked == ["rotated-away", "rotated-away", SECOND]
    await agent.close()


async def test_many_refusals_read_a_secret_once(door: Door) -> None:
    """Twenty rows are refused at the same time; all succeed with what one reading found."""
    door.file.write_text("rotated-away")
    agent = door.agent(url=door.url + "held")
    calls = [asyncio.create_task(ask(agent)) for _ in range(20)]
    await door.full.wait()
    door.file.write_text(SECOND)
    door.now += 10
    door.hold.set()
    replies = await asyncio.gather(*calls, return_exceptions=True)
    assert [getattr(reply, "body", reply) for reply in replies] == ["in"] * 20
    assert door.asked == ["rotated-away"] * 20 + [SECOND] * 20
    await agent.close()


async def test_a_secret_that_stays_wrong_is_not_read_for_every_row(door: Door) -> None:
    """A refusal reads it again at most every ten seconds, whatever the number of rows."""
    door.file.write_text("wrong-and-stays")
    agent = door.agent()
    for _ in range(3):
        with pytest.raises(AgentCredentialsError):
            await ask(agent)
    door.file.write_text(SECOND)
    with pytest.raises(AgentCredentialsError):
        await ask(agent)
    door.now += 10
    assert (await ask(agent)).body == "in"
    await agent.close()


async def test_a_store_that_is_away_stops_nothing(door: Door) -> None:
    """The last value serves until there is another."""
    agent = door.agent()
    await ask(agent)
    door.file.unlink()
    door.now += 60
    assert (await ask(agent)).body == "in"
    door.file.write_text("wrong-at-last")
    door.now += 29
    assert (await ask(agent)).body == "in"
    door.now += 1
    with pytest.raises(AgentCredentialsError):
        await ask(agent)
    await agent.close()


@pytest.mark.parametrize("path", ["echo", "complain", "nothing"])
async def test_what_the_agent_repeats_holds_no_secret(door: Door, path: str) -> None:
    """Replies, their keys and headers, and errors have the reference in its place."""
    door.key = "another"
    agent = door.agent(url=door.url + path, headers={"X-Key": "${secret:env:KEY}"})
    try:
        reply = await ask(agent)
        shown = f"{reply.body} {reply.headers}"
        assert reply.body == {"${secret:env:KEY}": ["a", "you said ${secret:env:KEY}!"]}
        assert reply.headers["x-you"] == "x${secret:env:KEY}"
    except (AgentRejectedError, AgentCredentialsError) as error:
        shown = f"{error!r} {error.__cause__}"
    assert SECOND not in shown
    assert SECOND not in repr(agent)
    await agent.close()


@pytest.mark.parametrize(
    ("text", "reference", "says"),
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
async def test_a_secret_that_cannot_be_had_is_an_outage(
    door: Door, text: str | None, reference: str, says: str
) -> None:
    """It names the reference and what is wrong with it, and the row may be tried again."""
    door.file.unlink()
    if text is not None:
        door.file.write_text(text)
    name = reference.format(door.file)
    agent = door.agent(headers={"X-Key": f"${{secret:{name}}}"})
    with pytest.raises(AgentOutageError, match=says) as raised:
        await ask(agent)
    assert f"${{secret:{name}}}" in str(raised.value)
    assert door.asked == []
    await agent.close()
    with pytest.raises(AgentUnavailableError):
        await ask(agent)


async def test_one_key_of_a_secret_that_is_json(door: Door) -> None:
    """Numbers as they are written."""
    door.file.write_text(f'{{"token": "{SECOND}", "pin": 12345678901234567890}}')
    agent = door.agent(
        headers={"X-Key": f"${{secret:file:{door.file}#token}}", "X-Pin": f"${{secret:file:{door.file}#pin}}"}
    )
    assert (await ask(agent)).body == "in"
    await agent.close()


async def test_a_secret_that_makes_no_header_is_not_shown(door: Door) -> None:
    """A line break in it is said without it."""
    door.file.write_text("two\nlines-of-s3cr3t")
    agent = door.agent()
    with pytest.raises(AgentOutageError, match="characters that no header can carry") as raised:
        await ask(agent)
    assert "s3cr3t" not in str(raised.value)
    await agent.close()


async def test_an_agent_that_says_too_much_is_not_quoted(door: Door) -> None:
    """Whatever way an agent is invoked, and whatever it forgets: its errors are cleaned on their way out."""

    class Leaky:
        def __init__(self, options: ResolvedOptions) -> None:
            self._text = f"called with {options.values['header']}"

        async def invoke(self, invocation: Invocation) -> Reply:
            raise AgentRejectedError(self._text) if invocation.body else AgentUnavailableError(self._text)

        async def close(self) -> None:
            pass

    options = resolve({"header": "${secret:env:KEY}"}, environ={}, where="target a")
    around = AgentContext(environ={"KEY": SECOND})
    agent = AgentWithSecrets(lambda options, _around: Leaky(options), options, around)
    for body, error in ((1, AgentRejectedError), (0, AgentUnavailableError)):
        with pytest.raises(error, match=r"called with \$\{secret:env:KEY\}$"):
            await agent.invoke(Invocation("1", body))
    await agent.close()
