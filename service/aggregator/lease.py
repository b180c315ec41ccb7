"""The aggregation lease: one aggregator at a time writes the results of a batch.

Two clocks run while results are written. The message's visibility keeps the *message* from being delivered
to another aggregator; it costs a delivery when it ends early. The lease on the batch item keeps the *files*
from being written by two at once, whichever messages there are: a trigger may exist twice. Neither is needed
for the results to be right, for every aggregator writes the same bytes under the same keys; a clock that is
wrong by more than the lease costs a second, identical write.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import structlog

from service.domain.errors import AccessError, LeaseLostError, RetryableError
from service.domain.model import Batch
from service.domain.ports import Clock, LeaseGrant, Table

log = structlog.get_logger(__name__)

RELEASE_TIMEOUT_S = 5.0
"""Giving back spares the next aggregator a wait; a process that is told to stop does not wait long for it."""


class BatchLease:
    """A lease of `duration_s` on one batch and round, as `owner`, a name that no other holder ever has."""

    def __init__(self, table: Table, batch: Batch, clock: Clock, *, owner: str, duration_s: float) -> None:
        self._table = table
        self._batch = batch
        self._clock = clock
        self._owner = owner
        self._duration_s = duration_s
        self._ends_at = 0.0
        self._is_lost = False

    async def take(self) -> LeaseGrant:
        """Take it, where nobody else has it."""
        return await self._ask(self._clock.now_ms())

    def check(self) -> None:
        """Raises LeaseLostError where it has ended, or is somebody else's."""
        if self._is_lost or self._clock.monotonic() >= self._ends_at:
            raise LeaseLostError(f"the aggregation lease of {self._batch.batch_id} ran out")

    async def confirm(self) -> None:
        """Extend it now: from here on nobody else writes for `duration_s`. Raises LeaseLostError."""
        answer = await self._ask(0)
        self._is_lost = self._is_lost or not answer.is_ours
        self.check()

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Extended three times in its duration while the body runs, and given back at the end."""
        keeper = asyncio.create_task(self._keep())
        try:
            yield
        finally:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)
            await self._release()

    async def _keep(self) -> None:
        while not self._is_lost:
            await self._clock.sleep(self._duration_s / 3)
            try:
                with suppress(LeaseLostError):
                    await self.confirm()
            except (RetryableError, AccessError) as error:
                log.warning("lease_not_extended", batch_id=self._batch.batch_id, reason=str(error))

    async def _ask(self, now_ms: int) -> LeaseGrant:
        """Take or extend it. By our own clock it runs from before the call, so that it never seems longer."""
        asked_at = self._clock.monotonic()
        until_ms = self._clock.now_ms() + round(self._duration_s * 1000)
        answer = await self._table.lease(
            self._batch.batch_id, round=self._batch.round, owner=self._owner, now_ms=now_ms, until_ms=until_ms
        )
        if answer.is_ours:
            self._ends_at = asked_at + self._duration_s
        return answer

    async def _release(self) -> None:
        """What is not given back ends by itself."""
        try:
            async with asyncio.timeout(RELEASE_TIMEOUT_S):
                await self._table.release(self._batch.batch_id, owner=self._owner)
        except (RetryableError, AccessError, TimeoutError) as error:
            log.warning("lease_not_released", batch_id=self._batch.batch_id, reason=str(error))
