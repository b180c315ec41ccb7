"""Work that is cancelled when the process stops, and what a CancelledError means."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine


async def until_stopped(stop: asyncio.Event, work: Coroutine[None, None, object]) -> None:
    """Run `work` until it ends or `stop` is set; if `stop` comes first, cancel it and wait for its end.

    Re-raises the exception of `work`.
    """
    working = asyncio.ensure_future(work)
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        working.cancel()
        stopping.cancel()
        # `wait` raises nothing; the result of `work` is fetched below.
        await asyncio.wait({working, stopping})
    if not working.cancelled():
        working.result()


def is_cancelled() -> bool:
    """True if the running task was cancelled, rather than a part of it having raised CancelledError."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
