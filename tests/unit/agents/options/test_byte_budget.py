"""Large replies share a budget."""

import asyncio

import pytest
from aiohttp import web

from service.agents import open_agent
from service.agents.options.byte_budget import ByteBudget
from service.agents.options.context import AgentContext
from service.domain.ports import Invocation


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_no_more_is_taken_than_there_is() -> None:
    """Who comes first gets its bytes first, and a small one behind a large one waits its turn."""
    budget = ByteBudget(100)
    order: list[str] = []
    gates = {name: asyncio.Event() for name in "abcd"}

    async def take(name: str, size: int) -> None:
        async with budget.reserve(size):
            order.append(name)
            await gates[name].wait()

    tasks = [asyncio.create_task(take(*one)) for one in (("a", 60), ("b", 30), ("c", 80), ("d", 10))]
    await settled()
    assert order == ["a", "b"]
    gates["a"].set()
    await settled()
    assert order == ["a", "b"], "30 of 100 are taken: 80 do not fit"
    gates["b"].set()
    await settled()
    assert order == ["a", "b", "c", "d"]
    for gate in gates.values():
        gate.set()
    await asyncio.gather(*tasks)


async def test_more_than_the_limit_is_taken_as_the_limit() -> None:
    """It goes alone, and does not hang."""
    budget = ByteBudget(10)
    for _ in range(2):
        async with budget.reserve(1_000):
            pass


async def test_who_gives_up_waiting_takes_nothing() -> None:
    """A cancelled reader leaves the budget as it was."""
    budget = ByteBudget(10)
    async with budget.reserve(10):
        waiting = asyncio.create_task(budget.reserve(5).__aenter__())
        await settled()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    async with budget.reserve(10):
        pass


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_large_replies_wait_for_each_other(is_chunked: bool) -> None:
    """However many calls are in flight, no more bodies are read at a time than the budget holds."""

    class Watched(ByteBudget):
        """Remembers how much was asked for, and how many had it at a time."""

        asked: list[int] = []  # noqa: RUF012 -- of this one test
        at_once = most_at_once = 0

        def reserve(self, size):
            Watched.asked.append(size)
            inner = super().reserve(size)

            class Counting:
                async def __aenter__(self):
                    await inner.__aenter__()
                    Watched.at_once += 1
                    Watched.most_at_once = max(Watched.most_at_once, Watched.at_once)

                async def __aexit__(self, *error):
                    Watched.at_once -= 1
                    await inner.__aexit__(*error)

            return Counting()

    async def handle(_request: web.Request) -> web.StreamResponse:
        body = b'"' + b"x" * 300_000 + b'"'
        if not is_chunked:
            return web.Response(body=body)
        response = web.StreamResponse()
        await response.prepare(_request)
        await response.write(body)
        return response

    Watched.asked = []
    app = web.Application()
    app.router.add_post("/", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.01)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    context = AgentContext(max_reply_bytes=400_000, reply_budget=Watched(900_000))
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    agent = open_agent("http", {"url": url}, name="a", environ={}, context=context)
    try:
        replies = await asyncio.gather(*(agent.invoke(Invocation(str(n), {})) for n in range(20)))
    finally:
        await agent.close()
        await runner.cleanup()
    assert [reply.body for reply in replies] == ["x" * 300_000] * 20
    assert Watched.asked == [400_000 if is_chunked else 300_002] * 20
    assert 1 <= Watched.most_at_once <= 2
    assert Watched.at_once == 0
