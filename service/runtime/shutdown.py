"""Work that ends when the process is told to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine


async def until_stopped(stop: asyncio.Event, work: Coroutine[None, None, object]) -> None:
    """Run `work` until it ends or `stop` is set; then it is cancelled and waited for. Raises what it does."""
    working = asyncio.ensure_future(work)
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        working.cancel()
        stopping.cancel()
        await asyncio.wait({working, stopping})
    if not working.cancelled():
        working.result()
