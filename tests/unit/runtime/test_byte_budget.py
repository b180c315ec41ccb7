"""The byte budget that large replies share."""

import asyncio

import pytest
from aiohttp import web

from service.agents import open_agent
from service.agents.options.context import AgentContext
from service.domain.ports import Invocation
from service.runtime.byte_budget import ByteBudget


async def run_tasks() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_reservations_never_exceed_the_limit() -> None:
    """They are granted in the order of arrival: a small one does not overtake a large one."""
    budget = ByteBudget(100)
    order: list[str] = []
    gates = {name: asyncio.Event() for name in "abcd"}

    async def take(name: str, size: int) -> None:
        async with budget.reserve(size):
            order.append(name)
            await gates[name].wait()

    tasks = [asyncio.create_task(take(*one)) for one in (("a", 60), ("b", 30), ("c", 80), ("d", 10))]
    await run_tasks()
    assert order == ["a", "b"]
    gates["a"].set()
    await run_tasks()
    assert order == ["a", "b"], "30 of 100 are reserved: 80 do not fit"
    gates["b"].set()
    await run_tasks()
    assert order == ["a", "b", "c", "d"]
    for gate in gates.values():
        gate.set()
    await asyncio.gather(*tasks)


async def test_a_larger_size_reserves_the_whole_limit() -> None:
    """It does not wait for ever."""
    budget = ByteBudget(10)
    for _ in range(2):
        async with budget.reserve(1_000):
            pass


async def test_a_cancelled_reservation_takes_nothing() -> None:
    """The whole limit can be reserved afterwards."""
    budget = ByteBudget(10)
    async with budget.reserve(10):
        waiting = asyncio.create_task(budget.reserve(5).__aenter__())
        await run_tasks()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    async with budget.reserve(10):
        pass


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_large_replies_wait_for_each_other(is_chunked: bool) -> None:
    """The budget limits the bodies that are read at a time, for any number of calls."""

    class RecordingBudget(ByteBudget):
        """Records the sizes reserved, and how many reservations were held at a time."""

        sizes: list[int] = []  # noqa: RUF012 -- of this one test
        at_once = most_at_once = 0

        def reserve(self, size):
            RecordingBudget.sizes.append(size)
            inner = super().reserve(size)

            class Counting:
                async def __aenter__(self):
                    await inner.__aenter__()
                    RecordingBudget.at_once += 1
                    RecordingBudget.most_at_once = max(RecordingBudget.most_at_once, RecordingBudget.at_once)

                async def __aexit__(self, *error):
                    RecordingBudget.at_once -= 1
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

    RecordingBudget.sizes = []
    app = web.Application()
    app.router.add_post("/", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.01)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    context = AgentContext(max_reply_bytes=400_000, reply_budget=RecordingBudget(900_000))
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    agent = open_agent("http", {"url": url}, name="a", environ={}, context=context)
    try:
        replies = await asyncio.gather(*(agent.invoke(Invocation(str(n), {})) for n in range(20)))
    finally:
        await agent.close()
        await runner.cleanup()
    assert [reply.body for reply in replies] == ["x" * 300_000] * 20
    assert RecordingBudget.sizes == [400_000 if is_chunked else 300_002] * 20
    assert 1 <= RecordingBudget.most_at_once <= 2
    assert RecordingBudget.at_once == 0
