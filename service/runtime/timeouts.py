"""Time-outs on the clock of the ports, so that tests and the simulation control them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from service.domain.ports import Clock


@asynccontextmanager
async def timeout(clock: Clock, seconds: float) -> AsyncIterator[None]:
    """Like `asyncio.timeout`, but on `clock`: raise TimeoutError if the body takes longer than `seconds`."""
    is_over = False

    # The alarm may end in the same step of the event loop as the body.
    def ring(alarm: asyncio.Future[None]) -> None:
        if not is_over and not alarm.cancelled():
            limit.reschedule(0.0)  # a time in the past, so asyncio cancels the body now

    async with asyncio.timeout(None) as limit:
        alarm = asyncio.ensure_future(clock.sleep(seconds))
        alarm.add_done_callback(ring)
        try:
            yield
        finally:
            is_over = True
            alarm.cancel()
