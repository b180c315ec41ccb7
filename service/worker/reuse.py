"""Asking once for many rows: whoever finds no answer claims the question, asks, and writes down the answer.

    nothing, or a claim that ended   ->  claimed by one worker (compare and swap)  ->  it asks
    claimed by somebody else         ->  looked at again a few times, then `AnswerPendingError`
    answered                         ->  that is the answer

In a process one row at a time looks and asks for all that have its question; the others wait for it, and
take its answer without a call. A claim is renewed as long as its row is at work, so it needs no bound on how
long that is, and ends soon after its process has died. It costs a second invocation, and nothing else, where
a process cannot renew for that long, or clocks differ by as much.

Nothing here can lose a row: what the table does not take is asked again.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import structlog

from service.batch.reuse_records import RELEASED, CachedReply, InFlight, RequestKey, Uncacheable, parse_record
from service.domain.errors import AccessError, AnswerPendingError, RetryableError
from service.domain.model import Outcome, Status
from service.domain.ports import Clock, SharedRecord, Table
from service.runtime.retrying import retry_for
from service.runtime.timeouts import timeout

T = TypeVar("T")
log = structlog.get_logger(__name__)

TABLE_TIMEOUT_S = 10.0
"""A call of the table is repeated for this long."""

PUBLISH_TRIES = 3
"""Others that change the record in between are met at most so often."""


@dataclass(frozen=True, slots=True)
class ReuseLimits:
    """A row waits `patience_s` for another one's answer, and looks at the table at pauses that double.

    A claim ends `claim_s` after it was last renewed, which happens three times in that.
    """

    patience_s: float = 10.0
    first_pause_s: float = 0.5
    claim_s: float = 60.0


@dataclass(slots=True)
class _Held:
    """A claim of ours: who we are, and the record that says so."""

    owner: str
    version: int


Asking = asyncio.Future[CachedReply | None]
"""Ends when the row that looks and asks for the others is done; with None, the next one tries."""


class RequestCoalescer:
    """The answers that the rows of one worker share with everybody's. `rng` makes the names of claims."""

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
        self._asking: dict[str, Asking] = {}
        self._retry = retry_for(TABLE_TIMEOUT_S, first_s=0.05, longest_s=2.0)

    async def get_or_ask(
        self,
        question: RequestKey,
        ask: Callable[[], Awaitable[Outcome | T]],
        *,
        patience_s: float,
        on_wait: Callable[[], None] = lambda: None,
    ) -> CachedReply | Outcome | T:
        """The answer that there is, or what `ask` makes of the row: its success answers the others.

        `ask` is called at most once, and by nobody else meanwhile. `on_wait` is called when the row begins to
        wait for another one. Raises AnswerPendingError where somebody
        else has not finished within `patience_s`; RetryableError and AccessError as the table does.
        """
        give_up_at = self._clock.monotonic() + min(patience_s, self._limits.patience_s)
        while (asking := self._asking.get(question.key)) is not None:
            on_wait()
            answer = await self._waited(asking, give_up_at)
            if answer is not None:
                return answer
        with self._asked_here(question.key) as asking:
            found = await self._looked(question, give_up_at, on_wait)
            if isinstance(found, CachedReply):
                asking.set_result(found)
                return found
            if isinstance(found, _Held):
                return await self._led(question, found, ask, asking)
        return await ask()

    # -- waiting ---------------------------------------------------------------------------------------

    @contextmanager
    def _asked_here(self, key: str) -> Iterator[Asking]:
        asking = self._asking[key] = asyncio.get_running_loop().create_future()
        try:
            yield asking
        finally:
            del self._asking[key]
            if not asking.done():
                asking.set_result(None)

    async def _waited(self, asking: Asking, give_up_at: float) -> CachedReply | None:
        try:
            async with timeout(self._clock, give_up_at - self._clock.monotonic()):
                return await asyncio.shield(asking)
        except TimeoutError:
            raise AnswerPendingError("another row of this worker still asks for the same input") from None

    async def _looked(
        self, question: RequestKey, give_up_at: float, on_wait: Callable[[], None]
    ) -> CachedReply | _Held | Uncacheable:
        """What there is: an answer, one that is not shared, or else a claim of ours."""
        pause_s = self._limits.first_pause_s
        while True:
            record = await self._retry(self._table.record, question.key)
            found = parse_record(record.text, self._clock.now_ms())
            if isinstance(found, CachedReply | Uncacheable):
                return found
            if found is None and (held := await self._claimed(question, record)) is not None:
                return held
            left_s = give_up_at - self._clock.monotonic()
            if left_s <= 0:
                raise AnswerPendingError("another worker still asks for the same input")
            on_wait()
            await self._clock.sleep(min(pause_s, left_s))
            pause_s *= 2

    # -- asking ----------------------------------------------------------------------------------------

    async def _led(
        self,
        question: RequestKey,
        held: _Held,
        ask: Callable[[], Awaitable[Outcome | T]],
        asking: Asking,
    ) -> Outcome | T:
        """Ask under our claim, and share a success; after everything else the next row may try."""
        success: Outcome | None = None
        keeper = asyncio.create_task(self._keep(question, held))
        try:
            ended = await ask()
            if isinstance(ended, Outcome) and ended.status is Status.SUCCESS:
                success = ended
        finally:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)
            if success is None:
                await self._release(question, held)
        if success is not None:
            await self._publish(question, held, success, asking)
        return ended

    async def _claimed(self, question: RequestKey, record: SharedRecord) -> _Held | None:
        owner = f"{self._worker}/{self._rng.getrandbits(64):016x}"
        text = self._claim(question, owner)
        stands = await self._retry(self._swap, question, text, record.version)
        return _Held(owner, stands.version) if stands.text == text else None

    async def _keep(self, question: RequestKey, held: _Held) -> None:
        """Renew the claim until cancelled, or until it is somebody else's."""
        while True:
            await self._clock.sleep(self._limits.claim_s / 3)
            try:
                stands = await self._swap(question, self._claim(question, held.owner), held.version)
            except (RetryableError, AccessError) as error:
                log.warning("claim_not_renewed", key=question.key, reason=str(error))
                continue
            if not self._is_ours(stands, held):
                log.warning("claim_lost", key=question.key)
                return
            held.version = stands.version

    async def _publish(self, question: RequestKey, held: _Held, outcome: Outcome, asking: Asking) -> None:
        """Write the answer down, over whatever claim stands: it is what everybody waits for."""
        now_ms = self._clock.now_ms()
        answer = CachedReply.of(outcome, question, now_ms)
        text = answer.text
        if text is None:
            log.info("answer_not_shared", key=question.key)
            text = Uncacheable(answer.until_ms).text
        else:
            asking.set_result(answer)
        try:
            for _ in range(PUBLISH_TRIES):
                stands = await self._retry(self._swap, question, text, held.version)
                if stands.text == text or isinstance(parse_record(stands.text, now_ms), CachedReply):
                    return
                held.version = stands.version
        except (RetryableError, AccessError) as error:
            log.warning("answer_not_kept", key=question.key, reason=str(error))

    async def _release(self, question: RequestKey, held: _Held) -> None:
        """Give the claim up. One attempt: what is not given up ends by itself."""
        try:
            stands = await self._swap(question, RELEASED, held.version)
            if stands.text != RELEASED and self._is_ours(stands, held):  # a renewal that was cut off arrived
                await self._swap(question, RELEASED, stands.version)
        except (RetryableError, AccessError) as error:
            log.warning("claim_not_released", key=question.key, reason=str(error))

    # -- the record ------------------------------------------------------------------------------------

    async def _swap(self, question: RequestKey, text: str, version: int) -> SharedRecord:
        ttl = question.ttl(self._clock.now_ms())
        return await self._table.swap(question.key, text, version=version, ttl=ttl)

    def _claim(self, question: RequestKey, owner: str) -> str:
        until_ms = self._clock.now_ms() + round(self._limits.claim_s * 1000)
        return InFlight(owner, question.row, until_ms).text

    def _is_ours(self, stands: SharedRecord, held: _Held) -> bool:
        found = parse_record(stands.text, 0)  # ended or not
        return isinstance(found, InFlight) and found.owner == held.owner
