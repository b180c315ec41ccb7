"""Sharing of one limit among the workers of a fleet, by max-min fairness. Pure.

A worker's request and its entry in the ledger say how many calls it has waiting and in flight. From those of
all workers follow the size of its next reservation and its part of the calls in flight.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from service.worker.rate_limit.gcra import NO_TOKENS, Tokens

BLOCK_MS = 1_000
"""Time that the reservations of all workers together cover. Each worker's block is its share of this."""

LEAST_BLOCK_MS = 100
"""Time that a reservation covers at least, if so many calls wait: a limit takes about ten writes a second,
however many workers share it."""

MAX_BLOCK = 1_000
"""Most calls in one reservation, whatever the limit."""

ACTIVE_MS = 2_500
"""A worker that reserved calls this recently is expected to want more."""

ROTATION_MS = 10_000
"""The remainder of a division goes to other workers after each such period."""

UNKNOWN_WORKER = "?"
"""Holds the calls that may be in flight while the ledger cannot be read."""


@dataclass(frozen=True, slots=True)
class WorkerShare:
    """A worker's entry: it may have `held` calls in flight until `expires_ms`, and wanted `wanted`.

    At `asked_ms`, the time of its last request, it reserved start times for `waiting` calls. `seq` numbers
    its writes, so that it recognises its own.
    """

    held: int = 0
    wanted: int = 0
    expires_ms: int = 0
    waiting: int = 0
    asked_ms: int = 0
    seq: int = 0

    def is_active(self, now_ms: int) -> bool:
        """True if the worker asked for start times a moment ago."""
        return self.asked_ms > now_ms - ACTIVE_MS

    def is_live(self, now_ms: int) -> bool:
        """True if calls of the worker may be in flight."""
        return self.expires_ms > now_ms


@dataclass(frozen=True, slots=True)
class LimitRequest:
    """A worker's request to the ledger at `now_ms`, its write number `seq`.

    - `waiting` calls that cost `cost` each need start times, not before `lead_ms` from now.
    - `correction` is what earlier calls used beyond what they were charged.
    - `in_flight` calls are in flight, and `wanted` are wanted. A share is held for `share_ttl_ms`; no
      call that begins under it lasts longer. It is renewed once it is more than `renew_ms` old.
    """

    worker: str
    seq: int
    now_ms: int
    waiting: int = 0
    cost: Tokens = NO_TOKENS
    correction: Tokens = NO_TOKENS
    in_flight: int = 0
    wanted: int = 0
    share_ttl_ms: int = 0
    renew_ms: int = 0
    lead_ms: int = 0


def block_size(request: LimitRequest, interval_ms: float, others: Mapping[str, WorkerShare]) -> int:
    """The number of calls in a reservation: the worker's share of `BLOCK_MS`, and at least one.

    If many workers share the limit, it is `LEAST_BLOCK_MS` of the limit, or the calls that wait if these are
    fewer. A worker alone gets all of it even if it asked for less: no other worker wants it, and it writes
    less often.
    """
    total = min(MAX_BLOCK, int(BLOCK_MS / interval_ms)) if interval_ms else MAX_BLOCK
    waiting = {
        name: share.waiting
        for name, share in others.items()
        if share.waiting and share.is_active(request.now_ms)
    }
    if not waiting:
        return max(1, total)
    waiting[request.worker] = request.waiting
    shares = max_min_shares(total, waiting, request.now_ms // ROTATION_MS)
    least = min(request.waiting, total * LEAST_BLOCK_MS // BLOCK_MS)
    return max(1, least, shares[request.worker])


def concurrency_share(
    request: LimitRequest, before: WorkerShare, others: Mapping[str, WorkerShare], concurrent: int | None
) -> tuple[int, int]:
    """The calls in flight that a worker holds, and its quota: it begins calls while fewer are in flight.

    The quota never exceeds what the others leave. A worker keeps what it holds, so that its next call needs
    no request, unless another one wants more than it holds: then it goes down to its fair share. Calls in
    flight beyond the quota stay held until they end.
    """
    if concurrent is None:
        return 0, 0
    live = {name: share for name, share in others.items() if share.is_live(request.now_ms)}
    free = max(0, concurrent - sum(share.held for share in live.values()))
    # The unknown worker cannot give back: calls may be in flight that no present worker knows of.
    wanted = {name: share.held if name == UNKNOWN_WORKER else share.wanted for name, share in live.items()}
    wanted[request.worker] = request.wanted
    target = max_min_shares(concurrent, wanted, request.now_ms // ROTATION_MS)[request.worker]
    is_contended = any(share.wanted > share.held for share in live.values())
    # A worker without calls keeps nothing, so that one that begins later need not wait.
    if request.wanted and not is_contended:
        target = max(target, before.held)
    quota = min(target, free)
    return max(quota, request.in_flight), quota


def max_min_shares(total: int, wanted: Mapping[str, int], rotation: int) -> dict[str, int]:
    """Divide `total` by max-min fairness: small wishes are met, the others get equal parts of the rest.

    The remainder of the division, one for each, goes to the workers whose turn it is in this `rotation`.
    """
    # Sorted, because every worker has to come to the same division.
    shares = dict.fromkeys(sorted(wanted), 0)
    left = total
    unmet = [name for name in shares if wanted[name] > 0]
    while unmet and left >= len(unmet):
        part = left // len(unmet)
        for name in unmet:
            given = min(part, wanted[name] - shares[name])
            shares[name] += given
            left -= given
        unmet = [name for name in unmet if shares[name] < wanted[name]]
    for index in range(left if unmet else 0):
        shares[unmet[(rotation + index) % len(unmet)]] += 1
    return shares
