"""The shared ledger of one rate limit: a GCRA state that all workers advance. Pure.

For requests, input tokens and output tokens the ledger stores the theoretical arrival time (TAT, see
`gcra`), the time when the next call may start. A worker reserves a block of start times, one interval
apart, by moving the TAT past them. No other worker's start times lie between them, so the calls of all
workers together are paced like those of one. Unused time is lost: there is no burst, and a crashed worker's
block stays unused.

If calls use more tokens than estimated, the TAT moves on. If they use less, the difference is kept as credit
against later excess. It is never refunded: a refund could put more than the limit into one minute.

The same record divides the calls in flight (`concurrent`) among the workers, for a limited time (see
`fair_shares`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from service.mapping.definition import RateLimit
from service.worker.rate_limit.fair_shares import (
    UNKNOWN_WORKER,
    ConcurrencyDivision,
    LimitRequest,
    WorkerShare,
    block_size,
)
from service.worker.rate_limit.gcra import (
    NO_TOKENS,
    ArrivalTimes,
    Tokens,
    advance,
    call_interval_ms,
    earliest_start_ms,
    reconcile,
)

HORIZON_MS = 2_000
"""Longest reservation ahead of now. Short: a new worker gets its share soon, and a crash wastes little."""


@dataclass(frozen=True, slots=True)
class Reservation:
    """The right to begin `count` calls, at `start_ms`, `start_ms + interval_ms` and so on (ms since 1970)."""

    start_ms: float
    interval_ms: float
    count: int

    @property
    def last_start_ms(self) -> float:
        """The start of the last call."""
        return self.start_ms + (self.count - 1) * self.interval_ms


@dataclass(frozen=True, slots=True)
class LimitGrant:
    """The answer to a request, and `ledger`, the new state. It holds once that is written.

    `reservation` is None if none was wanted, or if none can be had yet: then the worker asks again after
    `retry_ms`. It may have `held` calls in flight and begins new ones while fewer than `quota` are, for
    `lease_ms` from now, or until its present lease ends if that is None. `workers` want calls in flight or
    hold some, `waiters` of the others hold none.
    `must_write` is False if nothing changed that others need to know.
    """

    ledger: Ledger
    reservation: Reservation | None
    retry_ms: float
    held: int
    quota: int
    must_write: bool
    lease_ms: int | None = None
    workers: int = 1
    waiters: int = 0


@dataclass(frozen=True, slots=True)
class Ledger:
    """The state of one limit.

    `updated_ms` is the latest time that a writer knew. `credit` are tokens that calls were charged and did
    not use, as far as they still count. `shares` has the entry of each worker by its name.
    """

    updated_ms: int = 0
    arrival_times: ArrivalTimes = field(default_factory=ArrivalTimes)
    credit: Tokens = NO_TOKENS
    shares: Mapping[str, WorkerShare] = field(default_factory=dict)

    def has_written(self, worker: str, seq: int) -> bool:
        """True if this state includes the worker's write number `seq`, even if others have written since."""
        return worker in self.shares and self.shares[worker].seq == seq

    def grant(self, request: LimitRequest, limit: RateLimit) -> LimitGrant:
        """Grant a reservation, if one is wanted, and a share of the calls in flight."""
        now_ms = request.now_ms
        ledger = self._reconciled(request.correction, now_ms, limit)
        # Entries of workers that have left or crashed drop out of the record here.
        others = {
            name: share
            for name, share in self.shares.items()
            if name != request.worker and (share.is_live(now_ms) or share.is_active(now_ms))
        }
        times = ledger.arrival_times
        reservation, retry_ms = _reserve(times, request, limit, others)
        if reservation is not None:
            times = advance(times, reservation.last_start_ms, limit, request.cost)
        before = self.shares.get(request.worker, WorkerShare())
        share = WorkerShare(waiting=request.waiting if reservation else 0, asked_ms=now_ms, seq=request.seq)
        # Until an unreadable record is replaced, each reader would begin its minute of waiting anew.
        must_write = reservation is not None or UNKNOWN_WORKER in self.shares
        grant = LimitGrant(ledger, reservation, retry_ms, 0, 0, must_write)
        if limit.concurrent is not None:
            share, grant = _divide(grant, request, before, share, others, limit.concurrent)
        ledger = replace(ledger, arrival_times=times, shares=others | {request.worker: share})
        return replace(grant, ledger=ledger)

    def without(self, worker: str, limit: RateLimit, correction: Tokens, now_ms: int) -> Ledger:
        """The state after `worker` has left, with no call in flight, and `correction` was reconciled."""
        shares = {name: share for name, share in self.shares.items() if name != worker}
        return replace(self._reconciled(correction, now_ms, limit), shares=shares)

    def _reconciled(self, correction: Tokens, now_ms: int, limit: RateLimit) -> Ledger:
        """The state after the tokens used beyond those charged were reconciled."""
        times, credit = self.arrival_times, self.credit
        input_tat, input_credit = reconcile(
            times.input, credit.input, correction.input, now_ms, limit.input_tokens_per_minute
        )
        output_tat, output_credit = reconcile(
            times.output, credit.output, correction.output, now_ms, limit.output_tokens_per_minute
        )
        return Ledger(
            updated_ms=max(self.updated_ms, now_ms),
            arrival_times=ArrivalTimes(times.requests, input_tat, output_tat),
            credit=Tokens(input_credit, output_credit),
            shares=self.shares,
        )


def _reserve(
    times: ArrivalTimes, request: LimitRequest, limit: RateLimit, others: Mapping[str, WorkerShare]
) -> tuple[Reservation | None, float]:
    """The reservation for the calls that wait, or None and the ms until it can be made (0 if none waits)."""
    if not request.waiting:
        return None, 0.0
    # A start before the table has answered could not be used.
    start_ms = earliest_start_ms(times, request.now_ms + request.lead_ms, limit)
    ahead_ms = start_ms - request.now_ms
    if ahead_ms > HORIZON_MS:
        return None, ahead_ms - HORIZON_MS
    interval_ms = call_interval_ms(limit, request.cost)
    return Reservation(start_ms, interval_ms, block_size(request, interval_ms, others)), 0.0


def _divide(
    grant: LimitGrant,
    request: LimitRequest,
    before: WorkerShare,
    share: WorkerShare,
    others: Mapping[str, WorkerShare],
    concurrent: int,
) -> tuple[WorkerShare, LimitGrant]:
    """Add the calls in flight to a worker's new entry and to its grant."""
    division = ConcurrencyDivision(request, others, concurrent)
    in_flight, quota = division.share(before)
    share = share._replace(held=in_flight.held, wanted=in_flight.wanted, expires_ms=in_flight.expires_ms)
    is_renewed = share.expires_ms != before.expires_ms
    grant = replace(
        grant,
        held=share.held,
        quota=quota,
        must_write=grant.must_write or division.must_write(before, share),
        lease_ms=division.lease_ms if is_renewed else None,
        workers=division.workers,
        waiters=division.waiters,
    )
    return share, grant
