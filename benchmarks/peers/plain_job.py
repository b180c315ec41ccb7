"""The plain script: asyncio, aiohttp, a semaphore and `csv`. It loses everything if it ends."""

from __future__ import annotations

import asyncio
import time

import aiohttp
import job


async def main() -> None:
    """Do the job."""
    started = time.monotonic()
    limit = asyncio.Semaphore(job.CONCURRENCY)
    connector = aiohttp.TCPConnector(limit=job.CONCURRENCY)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def answered(row: job.Row) -> job.Row:
            async with limit, session.post(job.AGENT_URL, json=row) as response:
                response.raise_for_status()
                reply = await response.json()
            return {**row, "answer": reply["answer"]}

        rows = await asyncio.gather(*map(answered, job.read_rows()))
    job.write_rows(rows)
    job.report(started)


asyncio.run(main())
