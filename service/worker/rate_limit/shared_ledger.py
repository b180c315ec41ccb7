"""The ledger of one limit as one worker writes it: read, compare and swap, and what to make of lost answers.

The rule: whatever an answer that was lost may have done, the limit holds. A block that may have been
reserved is not used, a credit that may have been given is not given again, and a share that may have been
lowered counts as lowered from before it was sent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from service.domain.errors import ConflictError
from service.domain.ports import Clock, SharedRecord, Table
from service.mapping.definition import RateLimit
from service.runtime.metrics import Metrics
from service.worker.rate_limit.ledger import Ledger, LimitGrant, LimitRequest
from service.worker.rate_limit.pacing import NO_TOKENS, Tokens

KEPT_S = 86_400
"""How long the record stays after its last write; what it says is old after a minute."""

MAX_TRIES = 8
"""Writes in one exchange; others were faster each time."""

FIRST_LEAD_MS, LONGEST_LEAD_MS = 50, 500
"""A block begins when the answer of the table will be there: about twice what the last ones took."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What a worker wants: `LimitRequest` without what only the ledger's writer knows."""

    calls: int
    cost: Tokens
    in_use: int
    wants: int


@dataclass(frozen=True, slots=True)
class LocalGrant:
    """What it got for calls of this `cost`, having asked at `asked_at` (monotonic), `now_ms` to the fleet."""

    answer: LimitGrant
    cost: Tokens
    asked_at: float
    now_ms: int

    @property
    def start_at(self) -> float:
        """When the block begins, in monotonic seconds."""
        assert self.answer.block is not None
        return self.asked_at + (self.answer.block.start_ms - self.now_ms) / 1000


class SharedLedger:
    """One worker's access. `owner` is a name that nobody else ever has; a share lasts `lease_s`.

    Fleet's time is that of the clock that is furthest ahead, as far as its writes were seen: workers whose
    clocks differ would otherwise see each other's blocks in the past or too far in the future.
    """

    def __init__(
        self,
        table: Table,
        limit: RateLimit,
        *,
        owner: str,
        clock: Clock,
        metrics: Metrics,
        lease_s: float,
        renew_s: float,
    ) -> None:
        self._table = table
        self._limit = limit
        self._owner = owner
        self._clock = clock
        self._metrics = metrics
        self._lease_ms = round(lease_s * 1000)
        self._renew_ms = round(renew_s * 1000)
        self._key = f"limit/{limit.name}"
        self._seq = 0
        self._ahead_ms = 0
        self._lead_ms = FIRST_LEAD_MS
        self._owed = NO_TOKENS
        self._is_known = False

    def owe(self, tokens: Tokens) -> None:
        """Settle this with the next write: what calls cost beyond what was reserved for them."""
        self._owed += tokens

    async def exchange(self, wish: Callable[[], Demand], lower: Callable[[LimitGrant], None]) -> LocalGrant:
        """Ask for what is wished at the moment of asking. Raises RetryableError and AccessError.

        `lower` is called with every answer before it is written: nothing that it takes away may be used any
        more. ConflictError where others were faster all the time.
        """
        self._seq += 1
        record = await self._table.record(self._key)
        for _ in range(MAX_TRIES):
            asked_at, ledger, now_ms = self._clock.monotonic(), *self._understood(record)
            owed = self._owed
            wished = wish()
            ask = LimitRequest(
                self._owner,
                self._seq,
                now_ms,
                wished.calls,
                wished.cost,
                owed,
                wished.in_use,
                wished.wants,
                self._lease_ms,
                self._renew_ms,
                self._lead_ms,
            )
            answer = ledger.answer(ask, self._limit)
            lower(answer)
            if not answer.is_news:
                return LocalGrant(answer, wished.cost, asked_at, now_ms)
            stands = await self._swap(answer.ledger, record, owed)
            took_ms = (self._clock.monotonic() - asked_at) * 1000
            self._lead_ms = min(LONGEST_LEAD_MS, max(self._lead_ms // 2, round(2 * took_ms)))
            if stands is None:
                return LocalGrant(answer, wished.cost, asked_at, now_ms)
            record = stands
        raise ConflictError(f"the limit {self._limit.name} is asked for by too many at once")

    async def leave(self) -> None:
        """Give back what is held, and settle what is owed. There is no call under way any more."""
        if not self._is_known:
            return
        self._seq += 1
        record = await self._table.record(self._key)
        for _ in range(MAX_TRIES):
            ledger, now_ms = self._understood(record)
            left = ledger.without(self._owner, self._limit, self._owed, now_ms)
            stands = await self._swap(left, record, self._owed)
            if stands is None:
                return
            record = stands

    def _understood(self, record: SharedRecord) -> tuple[Ledger, int]:
        """The ledger, and the fleet's time."""
        own_ms = self._clock.now_ms()
        ledger = Ledger.read(record.text, own_ms, concurrent=self._limit.concurrent, lease_ms=self._lease_ms)
        self._ahead_ms = max(self._ahead_ms, ledger.at_ms - own_ms)
        return ledger, own_ms + self._ahead_ms

    async def _swap(self, ledger: Ledger, record: SharedRecord, owed: Tokens) -> SharedRecord | None:
        """Write it; None where it was written, even if others have written since, else what stands."""
        text = ledger.text(by=f"{self._owner}/{self._seq}")
        ttl = self._clock.now_ms() // 1000 + KEPT_S
        # As long as there is no answer, the credit may have been given
        self._owed = self._owed - owed + owed.without_credit()
        self._metrics.count("limit_writes")
        stands = await self._table.swap(self._key, text, version=record.version, ttl=ttl)
        self._is_known = True
        if stands.text == text or self._is_part_of(stands):
            self._owed -= owed.without_credit()
            return None
        self._metrics.count("limit_conflicts")
        self._owed += owed - owed.without_credit()
        return stands

    def _is_part_of(self, stands: SharedRecord) -> bool:
        """Whether the answer to a write that succeeded was lost, and somebody wrote after it."""
        ledger = Ledger.read(stands.text, self._clock.now_ms())
        return ledger.has_written(self._owner, self._seq)
