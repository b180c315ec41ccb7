"""Taskiq: a stream with acknowledgements and results in Redis, one worker process with an event loop."""

from __future__ import annotations

import asyncio
import itertools
import time

import aiohttp
import job
from taskiq import TaskiqEvents, TaskiqState
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

# Without a time-out of the socket: a worker waits longer for a message than the client library would.
broker = RedisStreamBroker(job.REDIS_URL, socket_timeout=None).with_result_backend(
    RedisAsyncResultBackend(job.REDIS_URL, result_ex_time=3_600)
)


@broker.on_event(TaskiqEvents.WORKER_STARTUP)
async def open_session(state: TaskiqState) -> None:
    """Open the session of the worker."""
    state.session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=job.CONCURRENCY))


@broker.on_event(TaskiqEvents.WORKER_SHUTDOWN)
async def close_session(state: TaskiqState) -> None:
    """Close it."""
    await state.session.close()


@broker.task(task_name="answered")
async def answered(row: job.Row) -> job.Row:
    """The row with its answer."""
    async with broker.state.session.post(job.AGENT_URL, json=row) as response:
        response.raise_for_status()
        reply = await response.json()
    return {**row, "answer": reply["answer"]}


async def results_of(rows: list[job.Row]) -> list[job.Row]:
    """Send the rows, a hundred at a time, and take the results in their order."""
    tasks = []
    for start in range(0, len(rows), 100):
        chunk = itertools.islice(rows, start, start + 100)
        tasks += await asyncio.gather(*map(answered.kiq, chunk))
    return [(await task.wait_result(check_interval=0.02)).return_value for task in tasks]


async def main() -> None:
    """Do the job."""
    await broker.startup()
    await results_of(job.WARM_UP)
    started = time.monotonic()
    job.write_rows(await results_of(job.read_rows()))
    job.report(started)
    await broker.shutdown()


if __name__ == "__main__":
    asyncio.run(main())
