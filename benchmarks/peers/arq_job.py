"""Arq: a queue and results in Redis, one worker process with an event loop."""

from __future__ import annotations

import asyncio
import time
from typing import Any, ClassVar

import aiohttp
import job
from arq import create_pool
from arq.connections import RedisSettings

SETTINGS = RedisSettings.from_dsn(job.REDIS_URL or "redis://127.0.0.1")
POLL_S = 0.02


async def answered(context: dict[str, Any], row: job.Row) -> job.Row:
    """The row with its answer."""
    async with context["session"].post(job.AGENT_URL, json=row) as response:
        response.raise_for_status()
        reply = await response.json()
    return {**row, "answer": reply["answer"]}


async def open_session(context: dict[str, Any]) -> None:
    """Open the session of the worker."""
    context["session"] = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=job.CONCURRENCY))


async def close_session(context: dict[str, Any]) -> None:
    """Close it."""
    await context["session"].close()


class WorkerSettings:
    """Settings of `arq`."""

    functions: ClassVar = [answered]
    on_startup = open_session
    on_shutdown = close_session
    redis_settings = SETTINGS
    max_jobs = job.CONCURRENCY
    poll_delay = POLL_S
    log_results = False


async def results_of(redis: Any, rows: list[job.Row]) -> list[job.Row]:
    """Send the rows, a hundred at a time, and take the results in their order."""
    jobs = []
    for start in range(0, len(rows), 100):
        chunk = rows[start : start + 100]
        jobs += await asyncio.gather(*(redis.enqueue_job("answered", row) for row in chunk))
    return [await one.result(poll_delay=POLL_S) for one in jobs]


async def main() -> None:
    """Do the job."""
    redis = await create_pool(SETTINGS)
    await results_of(redis, job.WARM_UP)
    started = time.monotonic()
    job.write_rows(await results_of(redis, job.read_rows()))
    job.report(started)


if __name__ == "__main__":
    asyncio.run(main())
