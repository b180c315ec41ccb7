"""`reuse`: one call of the agent for all rows with the same input (request coalescing, "single flight").

A row reads the shared record of its request key (`request_record`):

    no record, or an expired lock  ->  it takes the lock, calls the agent, and publishes the reply
    a lock of another worker       ->  it polls for a while, then raises `AnswerPendingError`
    a reply                        ->  it takes the reply

Within a process one row, the leader, does so for all rows with its request key. The others wait for it and
take its reply without reading the table. No row is lost: if the table cannot be written, the agent is called
again.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import structlog

from service.batch.reuse_records import CachedReply, RequestKey, Uncacheable
from service.domain.errors import AnswerPendingError
from service.domain.model import Outcome, Status
from service.domain.ports import Clock, Table
from service.runtime.tasks import timeout
from service.worker.request_record import RequestRecord

T = TypeVar("T")
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ReuseLimits:
    """A row waits at most `patience_s` for the reply to another row.

    It polls the table with pauses that double from `first_pause_s`. A lock expires `lock_s` after its last
    renewal, and is renewed three times in that time.
    """

    patience_s: float = 10.0
    first_pause_s: float = 0.5
    lock_s: float = 60.0


Pending = asyncio.Future[CachedReply | None]
"""The leader's result: a reply for the other rows, or None if one of them has to lead next."""


class RequestCoalescer:
    """Shares replies between the rows of this worker and all others. `rng` makes the names of locks."""

    def __init__(
        self,
        table: Table,
        clock: Clock,
        *,
        worker: str,
        rng: random.Random,
        limits: ReuseLimits | None = None,
    ) -> None:
        self._table = table
        self._clock = clock
        self._worker = worker
        self._rng = rng
        self._limits = limits or ReuseLimits()
        self._pending: dict[str, Pending] = {}

    async def get_or_ask(
        self,
        request_key: RequestKey,
        ask: Callable[[], Awaitable[T]],
        *,
        patience_s: float,
        on_wait: Callable[[], None] = lambda: None,
    ) -> CachedReply | T:
        """The reply to another row with this request key, or the result of `ask`.

        `ask` is called at most once, and while it runs no other row of the fleet asks. Other rows reuse its
        result if that is a SUCCESS. `on_wait` is called when the row starts to wait for another row. Raises
        AnswerPendingError if another row is still asking after `patience_s`; RetryableError and AccessError
        if the table cannot be read or locked.
        """
        give_up_at = self._clock.monotonic() + min(patience_s, self._limits.patience_s)
        while (pending := self._pending.get(request_key.key)) is not None:
            on_wait()
            reply = await self._await_leader(pending, give_up_at)
            if reply is not None:
                return reply
        with self._leading(request_key) as pending:
            record = self._record(request_key)
            found = await self._find_or_lock(record, give_up_at, on_wait)
            if isinstance(found, CachedReply):
                pending.set_result(found)
                return found
            if found is None:
                return await self._ask_as_leader(record, ask, pending)
        # The reply is too large to share. Rows call the agent side by side, without a leader.
        return await ask()

    # -- waiting ---------------------------------------------------------------------------------------

    @contextmanager
    def _leading(self, request_key: RequestKey) -> Iterator[Pending]:
        """Make the caller the leader of this process for a request key, until the end of the body."""
        pending = self._pending[request_key.key] = asyncio.get_running_loop().create_future()
        try:
            yield pending
        finally:
            del self._pending[request_key.key]
            if not pending.done():
                pending.set_result(None)

    async def _await_leader(self, pending: Pending, give_up_at: float) -> CachedReply | None:
        try:
            async with timeout(self._clock, give_up_at - self._clock.monotonic()):
                # All waiting rows share the future: without `shield` the first to give up would cancel it.
                return await asyncio.shield(pending)
        except TimeoutError:
            raise AnswerPendingError("another row of this worker still asks for the same input") from None

    async def _find_or_lock(
        self, record: RequestRecord, give_up_at: float, on_wait: Callable[[], None]
    ) -> CachedReply | Uncacheable | None:
        """The stored reply or the mark that it is uncacheable; None if the row has the lock now."""
        pause_s = self._limits.first_pause_s
        while True:
            found = await record.read()
            if isinstance(found, CachedReply | Uncacheable):
                return found
            if found is None and await record.try_lock():
                return None
            left_s = give_up_at - self._clock.monotonic()
            if left_s <= 0:
                raise AnswerPendingError("another worker still asks for the same input")
            on_wait()
            await self._clock.sleep(min(pause_s, left_s))
            pause_s *= 2

    # -- asking ----------------------------------------------------------------------------------------

    async def _ask_as_leader(
        self, record: RequestRecord, ask: Callable[[], Awaitable[T]], pending: Pending
    ) -> T:
        """Ask while the lock is renewed. Share a SUCCESS; after any other end the next row may ask."""
        success: Outcome | None = None
        renewing = asyncio.create_task(record.keep_locked())
        try:
            result = await ask()
            if isinstance(result, Outcome) and result.status is Status.SUCCESS:
                success = result
        finally:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)
            if success is None:
                await record.release()
        if success is not None:
            await self._share(record, success, pending)
        return result

    async def _share(self, record: RequestRecord, success: Outcome, pending: Pending) -> None:
        """Give the reply to the waiting rows of this process, and publish it for all others."""
        reply = CachedReply.of(success, record.request_key, self._clock.now_ms())
        text = reply.text
        if text is None:
            log.info("answer_not_shared", key=record.request_key.key)
            await record.publish(Uncacheable(reply.until_ms).text)
        else:
            # Before the write, which may fail: the rows of this process do not need the table.
            pending.set_result(reply)
            await record.publish(text)

    def _record(self, request_key: RequestKey) -> RequestRecord:
        owner = f"{self._worker}/{self._rng.getrandbits(64):016x}"
        return RequestRecord(self._table, self._clock, request_key, owner=owner, lock_s=self._limits.lock_s)
