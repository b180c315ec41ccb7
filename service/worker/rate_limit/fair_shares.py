"""Sharing of one limit among the workers of a fleet, by max-min fairness. Pure.

A worker's request and its entry in the ledger say how many calls it has waiting and in flight. From those of
all workers follow the size of its next reservation and its part of the calls in flight.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

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

LEASE_MS_PER_HOLDER = 300
"""A lease of calls in flight lasts this long for each worker that holds some, so that about ten leases a
second are renewed or change hands, however many workers there are."""

LEAST_WAITERS = 16
"""This many workers that hold nothing are in the record at least, and as many as hold something at most."""

UNKNOWN_WORKER = "?"
"""Holds the calls that may be in flight while the ledger cannot be read."""


class WorkerShare(NamedTuple):
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
    - `in_flight` calls are in flight, and `wanted` are wanted. Calls may begin for `lease_ms` at least, and
      have ended `margin_ms` after that.
    """

    worker: str
    seq: int
    now_ms: int
    waiting: int = 0
    cost: Tokens = NO_TOKENS
    correction: Tokens = NO_TOKENS
    in_flight: int = 0
    wanted: int = 0
    lease_ms: int = 0
    margin_ms: int = 0
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
    share = min(request.waiting, fair_level(total, waiting.values()).most)
    least = min(request.waiting, total * LEAST_BLOCK_MS // BLOCK_MS)
    return max(1, least, share)


@dataclass(frozen=True, slots=True)
class FairLevel:
    """Max-min fairness: smaller wishes are met, each other worker gets `level`, and some get one more.

    `most` is the largest part of a worker: `level`, or one more if there is a remainder.
    """

    level: int
    most: int


def fair_level(total: int, wishes: Iterable[int]) -> FairLevel:
    """Divide `total` among `wishes`. If all can be met, the level is the largest of them."""
    ascending = sorted(wishes)
    left = total
    for index, wish in enumerate(ascending):
        unmet = len(ascending) - index
        if wish * unmet > left:
            level, remainder = divmod(left, unmet)
            return FairLevel(level, level + (remainder > 0))
        left -= wish
    largest = max(ascending, default=0)
    return FairLevel(largest, largest)


class ConcurrencyDivision:
    """The division of `concurrent` calls in flight between one worker and those with a live share.

    A worker may take as much as is free, up to its fair share, and keeps it, so that its next call needs no
    request. If others want more than they hold, workers above the fair share go down to it as calls end.
    The remainder of the division stays with those who took it first.

    With more workers than calls, each holds one call at most and its lease is its turn: it is not renewed
    while others wait and nothing is free. Any of them may have the call then.
    """

    def __init__(self, request: LimitRequest, others: Mapping[str, WorkerShare], concurrent: int) -> None:
        self._request = request
        live = {name: share for name, share in others.items() if share.is_live(request.now_ms)}
        shares = list(live.values())
        self._free = max(0, concurrent - sum(share.held for share in shares))
        # The unknown worker cannot give back: calls may be in flight that no present worker knows of.
        wishes = [share.held if name == UNKNOWN_WORKER else share.wanted for name, share in live.items()]
        self._fair = fair_level(concurrent, [*wishes, request.wanted])
        self._is_contended = any(share.wanted > share.held for share in shares)
        self._is_other_short = any(share.held < min(share.wanted, self._fair.level) for share in shares)
        self._holders = 1 + sum(share.held > 0 for share in shares)
        self.waiters = sum(share.held == 0 for share in shares)
        self.workers = 1 + len(shares)

    def share(self, before: WorkerShare) -> tuple[WorkerShare, int]:
        """The worker's entry after `before`, and its quota: it begins calls while fewer are in flight.

        Calls in flight beyond the quota stay held until they end.
        """
        quota = min(self._target(before), self._free)
        held = max(quota, self._request.in_flight)
        expires_ms = self._request.now_ms + self.lease_ms + self._request.margin_ms
        if self._is_in_turn(before):
            # Calls in flight count until they have ended, whatever the clocks say.
            least_ms = self._request.now_ms + self._request.margin_ms if held else 0
            expires_ms = max(before.expires_ms, least_ms)
        return before._replace(held=held, wanted=self._request.wanted, expires_ms=expires_ms), quota

    @property
    def lease_ms(self) -> int:
        """The time for which calls may begin under a lease that is granted now."""
        return max(self._request.lease_ms, self._holders * LEASE_MS_PER_HOLDER)

    def must_write(self, before: WorkerShare, share: WorkerShare) -> bool:
        """True if others have to know of the new `share`, or if it has to be renewed."""
        if share.held != before.held:
            return True
        if share.held and before.expires_ms < share.expires_ms - self.lease_ms // 3:
            return True
        # Others give calls back only to a worker that wants more than it holds. Wishes beyond the fair share
        # change nothing for them.
        most = max(1, self._fair.most)
        is_wish_changed = min(share.wanted, most) != min(before.wanted, most)
        is_known = before.held or before.wanted
        has_room = is_known or self.waiters < max(LEAST_WAITERS, self._holders)
        return is_wish_changed and max(share.wanted, before.wanted) > share.held and bool(has_room)

    def _target(self, before: WorkerShare) -> int:
        wanted = self._request.wanted
        if self._is_in_turn(before) and self._request.now_ms >= before.expires_ms - self._request.margin_ms:
            return 0
        target = min(wanted, self._fair.level if self._is_other_short else self._fair.most)
        # A worker without calls keeps nothing, so that one that begins later need not wait.
        if wanted and not self._is_contended:
            return max(target, before.held)
        return target

    def _is_in_turn(self, before: WorkerShare) -> bool:
        """True if the worker has one of too few calls, for which others wait."""
        is_scarce = self._is_contended and self._fair.level == 0
        return is_scarce and before.held > 0 and self._free <= before.held
