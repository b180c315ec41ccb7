"""The lease of a batch: one process at a time splits it, recovers its lost rows, or writes its results.

A splitter or aggregator holds two rights. The visibility of its message keeps SQS from delivering the
*message* to another process. The lease on the batch item keeps two processes from working on the *batch* at
the same time, since there may be two messages for one batch. Checkpoint and seal are conditional on the
lease. Results are right without it, as every aggregator writes the same bytes under the same keys.

The owner of the lease is the sender of the batch's rows. A worker looks up the outcome of a row whose message
names another sender than the batch does, because a later sender may have sent the row again.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import structlog

from service.domain.errors import AccessError, LeaseLostError, RetryableError
from service.domain.model import Batch, State
from service.domain.ports import MAX_DELAY_S, Clock, LeaseGrant, Table

log = structlog.get_logger(__name__)

RELEASE_TIMEOUT_S = 5.0
"""Longest wait for the release. It saves the next holder a wait, but must not delay a shutdown."""


class BatchLease:
    """A lease of `duration_s` on one batch in one state and round.

    `owner` is a name that no other holder ever has; neither has any that begins with it.
    """

    def __init__(
        self, table: Table, batch: Batch, clock: Clock, *, state: State, owner: str, duration_s: float
    ) -> None:
        self.owner = owner
        self._name = owner
        self._former = ""
        self._renames = 0
        # Excludes renewals under the former name while the lease passes to the next one.
        self._extending = asyncio.Lock()
        self._table = table
        self._batch = batch
        self._clock = clock
        self._state = state
        self._duration_s = duration_s
        self._ends_at = 0.0
        self._is_lost = False
        self._is_given_up = False

    async def acquire(self) -> LeaseGrant:
        """Take the lease unless another process holds it."""
        return await self._extend(self._clock.now_ms())

    def check(self) -> None:
        """Raise LeaseLostError if the lease has ended or another process has taken it."""
        if self._is_lost or self._clock.monotonic() >= self._ends_at:
            raise LeaseLostError(f"the lease of batch {self._batch.batch_id} ran out")

    async def renew(self) -> None:
        """Extend the lease: no other process takes it for `duration_s` from now. Raises LeaseLostError."""
        grant = await self._extend(0)
        self._is_lost = self._is_lost or not grant.is_ours
        self.check()

    async def rename(self) -> None:
        """Go on under another owner's name, and so as another sender. Raises what `renew` raises.

        Once it returns, workers look up the rows that were sent under the former name. A call that failed is
        to be repeated before the lease is used otherwise.
        """
        async with self._extending:
            # After a failed call the table may have either name.
            if not self._former:
                self._renames += 1
                self._former, self.owner = self.owner, f"{self._name}.{self._renames}"
        await self.renew()
        self._former = ""

    def given_up(self) -> None:
        """Note that the batch was written without its lease: there is nothing left to renew or release."""
        self._is_lost = self._is_given_up = True

    @asynccontextmanager
    async def renewed(self) -> AsyncIterator[None]:
        """Renew the lease while the body runs, three times in its duration, and release it at the end."""
        renewal = asyncio.create_task(self._renew_forever())
        try:
            yield
        finally:
            renewal.cancel()
            await asyncio.gather(renewal, return_exceptions=True)
            if not self._is_given_up:
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
        async with self._extending:
            # Counted from before the call: by our own clock the lease never seems longer than it is.
            asked_at = self._clock.monotonic()
            until_ms = self._clock.now_ms() + round(self._duration_s * 1000)
            grant = await self._table.lease(
                self._batch, state=self._state, owner=self.owner, now_ms=now_ms, until_ms=until_ms,
                former=self._former,
            )  # fmt: skip
            if grant.is_ours:
                self._ends_at = asked_at + self._duration_s
            return grant

    async def _release(self) -> None:
        """Release the lease; one that cannot be released ends by itself."""
        try:
            async with asyncio.timeout(RELEASE_TIMEOUT_S):
                await self._table.release(self._batch.batch_id, owner=self.owner)
        except (RetryableError, AccessError, TimeoutError) as error:
            log.warning("lease_not_released", batch_id=self._batch.batch_id, reason=str(error))


def delay_until_free(grant: LeaseGrant, clock: Clock) -> int:
    """Seconds until the lease that was refused ends, rounded up; SQS's longest delay at most."""
    left_s = math.ceil((grant.until_ms - clock.now_ms()) / 1000)
    return min(MAX_DELAY_S, max(0, left_s) + 1)
