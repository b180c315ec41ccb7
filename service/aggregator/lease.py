"""The aggregation lease: one aggregator at a time writes the results of a batch.

An aggregator holds two rights. The visibility of its message keeps SQS from delivering the *message* to
another aggregator. The lease on the batch item keeps two aggregators from writing the *files* at the same
time, since there may be two messages for one batch. The results are right without either, as every aggregator
writes the same bytes under the same keys: a clock that is wrong by more than the lease costs a second,
identical write.
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
"""Longest wait for the release. It saves the next aggregator a wait, but must not delay a shutdown."""


class AggregationLease:
    """A lease of `duration_s` on one batch and round. `owner` is a name that no other holder ever has."""

    def __init__(self, table: Table, batch: Batch, clock: Clock, *, owner: str, duration_s: float) -> None:
        self._table = table
        self._batch = batch
        self._clock = clock
        self._owner = owner
        self._duration_s = duration_s
        self._ends_at = 0.0
        self._is_lost = False

    async def acquire(self) -> LeaseGrant:
        """Take the lease unless another aggregator holds it."""
        return await self._extend(self._clock.now_ms())

    def check(self) -> None:
        """Raise LeaseLostError if the lease has ended or another aggregator has taken it."""
        if self._is_lost or self._clock.monotonic() >= self._ends_at:
            raise LeaseLostError(f"the aggregation lease of {self._batch.batch_id} ran out")

    async def renew(self) -> None:
        """Extend the lease: no other aggregator writes for `duration_s` from now. Raises LeaseLostError."""
        grant = await self._extend(0)
        self._is_lost = self._is_lost or not grant.is_ours
        self.check()

    @asynccontextmanager
    async def renewed(self) -> AsyncIterator[None]:
        """Renew the lease while the body runs, three times in its duration, and release it at the end."""
        renewal = asyncio.create_task(self._renew_forever())
        try:
            yield
        finally:
            renewal.cancel()
            await asyncio.gather(renewal, return_exceptions=True)
            await self._release()

    async def _renew_forever(self) -> None:
        while not self._is_lost:
            await self._clock.sleep(self._duration_s / 3)
            try:
                with suppress(LeaseLostError):
                    await self.renew()
            except (RetryableError, AccessError) as error:
                log.warning("lease_not_extended", batch_id=self._batch.batch_id, reason=str(error))

    async def _extend(self, now_ms: int) -> LeaseGrant:
        """Take the lease if it is free at `now_ms`, or extend our own."""
        # Counted from before the call: by our own clock the lease never seems longer than it is.
        asked_at = self._clock.monotonic()
        until_ms = self._clock.now_ms() + round(self._duration_s * 1000)
        grant = await self._table.lease(self._batch, owner=self._owner, now_ms=now_ms, until_ms=until_ms)
        if grant.is_ours:
            self._ends_at = asked_at + self._duration_s
        return grant

    async def _release(self) -> None:
        """Release the lease; one that cannot be released ends by itself."""
        try:
            async with asyncio.timeout(RELEASE_TIMEOUT_S):
                await self._table.release(self._batch.batch_id, owner=self._owner)
        except (RetryableError, AccessError, TimeoutError) as error:
            log.warning("lease_not_released", batch_id=self._batch.batch_id, reason=str(error))
