"""The shared record of a request key: first an in-flight lock, then the reply (`batch/reuse_records`).

Workers change the record by compare-and-swap. The lock is renewed while its row is at work, so it needs no
bound on how long a call takes, and it expires soon after its process has crashed. If a process cannot renew
its lock in time, or if clocks differ by that much, the agent is called twice. Nothing else happens.
"""

from __future__ import annotations

import structlog

from service.batch.reuse_records import (
    RELEASED,
    CachedReply,
    InFlight,
    RequestKey,
    ReuseRecord,
    parse_record,
)
from service.domain.errors import AccessError, RetryableError
from service.domain.ports import Clock, SharedRecord, Table
from service.runtime.port_retries import retry_for

log = structlog.get_logger(__name__)

TABLE_TIMEOUT_S = 10.0
"""Bound on a read or write of the record with its retries."""

PUBLISH_ATTEMPTS = 3
"""Writes of a reply before it is given up, if other workers change the record each time."""

_retry_table = retry_for(TABLE_TIMEOUT_S, first_s=0.05, longest_s=2.0)


class RequestRecord:
    """The record of `request_key`, as one row sees and changes it.

    `owner` is the name of the row's lock; no other lock has the same name. A lock expires `lock_s` after its
    last renewal.
    """

    def __init__(
        self, table: Table, clock: Clock, request_key: RequestKey, *, owner: str, lock_s: float
    ) -> None:
        self._table = table
        self._clock = clock
        self._owner = owner
        self._lock_s = lock_s
        self._version = 0
        self.request_key = request_key

    async def read(self) -> ReuseRecord | None:
        """The record, or None if there is none in force. Raises RetryableError and AccessError."""
        record = await _retry_table(self._table.record, self.request_key.key)
        self._version = record.version
        return parse_record(record.text, self._clock.now_ms())

    async def try_lock(self) -> bool:
        """Write the lock, unless the record has changed since `read`. Return True if the row has the lock.

        Raises RetryableError and AccessError.
        """
        text = self._lock_text()
        stored = await _retry_table(self._swap, text)
        self._version = stored.version
        # A write whose response was lost has changed the version. Its repetition then finds its own text.
        return stored.text == text

    async def keep_locked(self) -> None:
        """Renew the lock until cancelled, or until another worker has taken it over."""
        while True:
            await self._clock.sleep(self._lock_s / 3)
            try:
                stored = await self._swap(self._lock_text())
            except (RetryableError, AccessError) as error:
                log.warning("claim_not_renewed", key=self.request_key.key, reason=str(error))
                continue
            if not self._is_ours(stored):
                log.warning("claim_lost", key=self.request_key.key)
                return
            self._version = stored.version

    async def publish(self, text: str) -> None:
        """Write a reply, over any lock: other rows wait for it. An error is only logged."""
        now_ms = self._clock.now_ms()
        try:
            for _ in range(PUBLISH_ATTEMPTS):
                stored = await _retry_table(self._swap, text)
                # If two rows called the agent, the reply of the first one stays.
                if stored.text == text or isinstance(parse_record(stored.text, now_ms), CachedReply):
                    return
                self._version = stored.version
        except (RetryableError, AccessError) as error:
            log.warning("answer_not_kept", key=self.request_key.key, reason=str(error))

    async def release(self) -> None:
        """Give up the lock. There is one attempt: a lock that is not released expires."""
        try:
            stored = await self._swap(RELEASED)
            if stored.text != RELEASED and self._is_ours(stored):
                # A renewal that was cancelled has been written after all.
                self._version = stored.version
                await self._swap(RELEASED)
        except (RetryableError, AccessError) as error:
            log.warning("claim_not_released", key=self.request_key.key, reason=str(error))

    async def _swap(self, text: str) -> SharedRecord:
        key, ttl = self.request_key.key, self.request_key.ttl(self._clock.now_ms())
        return await self._table.swap(key, text, version=self._version, ttl=ttl)

    def _lock_text(self) -> str:
        until_ms = self._clock.now_ms() + round(self._lock_s * 1000)
        return InFlight(self._owner, self.request_key.row, until_ms).text

    def _is_ours(self, stored: SharedRecord) -> bool:
        record = parse_record(stored.text, 0)  # at 0 ms, because our lock may have expired
        return isinstance(record, InFlight) and record.owner == self._owner
