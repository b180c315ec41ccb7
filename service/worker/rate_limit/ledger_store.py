"""The store of the shared ledger, as one worker reads and writes it by compare-and-swap.

If the answer of a write is lost, the write may or may not have been applied. The limit holds in both cases:

- a reservation that may have been made is not used,
- a credit that may have been spent is not spent again,
- a share that may have been lowered counts as lowered from before the write.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from service.domain.errors import ConflictError
from service.domain.ports import Clock, SharedRecord, Table
from service.mapping.definition import RateLimit
from service.runtime.metrics import Metrics
from service.worker.rate_limit.fair_shares import LimitRequest
from service.worker.rate_limit.gcra import NO_TOKENS, Tokens
from service.worker.rate_limit.ledger import Ledger, LimitGrant
from service.worker.rate_limit.ledger_text import read_ledger, write_ledger

RECORD_TTL_S = 86_400
"""The record is kept this long after the last write. Its contents are out of date after a minute."""

MAX_ATTEMPTS = 8
"""Writes of a worker that leaves. Each fails only if another worker wrote first."""

FIRST_LEAD_MS, LONGEST_LEAD_MS = 50, 500
"""A reservation begins this much later than its request, about when the table's answer arrives."""


@dataclass(frozen=True, slots=True)
class Demand:
    """The part of a `LimitRequest` that the process decides; `LedgerStore` adds the rest."""

    waiting: int
    cost: Tokens
    in_flight: int
    wanted: int


@dataclass(frozen=True, slots=True)
class LocalGrant:
    """A grant for calls of `cost`, asked for at `asked_at` by the process's monotonic clock (in seconds).

    `now_ms` is the same instant by the fleet's clock.
    """

    grant: LimitGrant
    cost: Tokens
    asked_at: float
    now_ms: int

    @property
    def start_at(self) -> float:
        """The start of the reservation in monotonic seconds."""
        assert self.grant.reservation is not None
        return self.asked_at + (self.grant.reservation.start_ms - self.now_ms) / 1000


class LedgerStore:
    """The ledger as one worker reads and writes it.

    `owner` is a name that no other LedgerStore ever has. Calls may begin for `lease_s` at least after a grant
    of calls in flight, and have ended `margin_s` after that.

    Workers use the latest timestamp found in the record as the fleet's clock. Otherwise a worker whose clock
    is behind would see the reservations of others too far in the future, and make its own in the past.
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
        margin_s: float,
    ) -> None:
        self._table = table
        self._limit = limit
        self._owner = owner
        self._clock = clock
        self._metrics = metrics
        self._lease_ms = round(lease_s * 1000)
        self._margin_ms = round(margin_s * 1000)
        self._key = f"limit/{limit.name}"
        self._seq = 0
        self._ahead_ms = 0
        self._lead_ms = FIRST_LEAD_MS
        self._owed = NO_TOKENS
        self._may_have_written = False

    def owe(self, tokens: Tokens) -> None:
        """Reconcile with the next write: tokens that calls used beyond those charged (negative: credit)."""
        self._owed += tokens

    async def exchange(
        self, demand: Callable[[], Demand], before_write: Callable[[LimitGrant], None]
    ) -> LocalGrant:
        """Ask the ledger for what `demand` returns at the moment of asking.

        `before_write` is called with every grant before it is written: the caller must stop using at once
        what the grant takes away. Raises ConflictError if another worker wrote first: a repetition at once
        would meet the writes of others again. Raises RetryableError and AccessError as the table does.
        """
        self._seq += 1
        record = await self._table.record(self._key)
        asked_at = self._clock.monotonic()
        ledger, now_ms = self._read(record)
        owed, wish = self._owed, demand()
        grant = ledger.grant(self._request(wish, owed, now_ms), self._limit)
        before_write(grant)
        if grant.must_write:
            newer = await self._swap(grant.ledger, record, owed)
            # The lead grows at once and shrinks slowly: a start that was missed is lost.
            took_ms = (self._clock.monotonic() - asked_at) * 1000
            self._lead_ms = min(LONGEST_LEAD_MS, max(self._lead_ms // 2, round(2 * took_ms)))
            if newer is not None:
                raise ConflictError(f"another worker wrote the record of the limit {self._limit.name} first")
        return LocalGrant(grant, wish.cost, asked_at, now_ms)

    async def leave(self) -> None:
        """Give back the worker's share and reconcile what is owed. No call may be in flight any more."""
        if not self._may_have_written:
            return
        self._seq += 1
        record = await self._table.record(self._key)
        for _ in range(MAX_ATTEMPTS):
            ledger, now_ms = self._read(record)
            rest = ledger.without(self._owner, self._limit, self._owed, now_ms)
            newer = await self._swap(rest, record, self._owed)
            if newer is None:
                return
            record = newer

    def _request(self, wish: Demand, owed: Tokens, now_ms: int) -> LimitRequest:
        return LimitRequest(
            worker=self._owner,
            seq=self._seq,
            now_ms=now_ms,
            waiting=wish.waiting,
            cost=wish.cost,
            correction=owed,
            in_flight=wish.in_flight,
            wanted=wish.wanted,
            lease_ms=self._lease_ms,
            margin_ms=self._margin_ms,
            lead_ms=self._lead_ms,
        )

    def _read(self, record: SharedRecord) -> tuple[Ledger, int]:
        """The ledger in `record`, and the time by the fleet's clock."""
        own_ms = self._clock.now_ms()
        ledger = read_ledger(
            record.text,
            own_ms,
            concurrent=self._limit.concurrent,
            share_ttl_ms=self._lease_ms + self._margin_ms,
        )
        # The fleet's clock never goes back.
        self._ahead_ms = max(self._ahead_ms, ledger.updated_ms - own_ms)
        return ledger, own_ms + self._ahead_ms

    async def _swap(self, ledger: Ledger, record: SharedRecord, owed: Tokens) -> SharedRecord | None:
        """Write `ledger` over `record`. Return None if that succeeded, else the record that stands now."""
        text = write_ledger(ledger, by=f"{self._owner}/{self._seq}")
        ttl = self._clock.now_ms() // 1000 + RECORD_TTL_S
        # If no answer comes, the write may have been applied: its credit must not be given twice. A debt may
        # be paid twice, which only makes the fleet slower.
        self._owed = self._owed - owed + owed.without_credit()
        self._metrics.count("limit_writes")
        # Before the write, whose answer may be lost.
        self._may_have_written = True
        current = await self._table.swap(self._key, text, version=record.version, ttl=ttl)
        if current.text == text or self._includes_our_write(current):
            self._owed -= owed.without_credit()
            return None
        self._metrics.count("limit_conflicts")
        self._owed += owed - owed.without_credit()
        return current

    def _includes_our_write(self, current: SharedRecord) -> bool:
        """True if our write was applied, its answer was lost, and another worker has written after it."""
        ledger = read_ledger(current.text, self._clock.now_ms())
        return ledger.has_written(self._owner, self._seq)
