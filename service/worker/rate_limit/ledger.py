"""The shared ledger of one rate limit: a small record that workers write, and who may do what when. Pure.

Every limited quantity (requests, input tokens, output tokens) has a timeline: the time up to which it is
spoken for. A worker reserves a block of calls, a stretch of these timelines that begins where they end, or
now: its calls begin one step after the other, and nobody else's begin in between. So the calls of all workers
together are paced like those of one, however many there are. A worker that dies leaves its stretch unused,
and time that passes is never saved up.

What calls really cost is settled later. What cost more moves the end of its timeline; what cost less is set
against what costs more, and never moves an end back: a call that began before a minute would make room in it.

The same record holds how many calls each worker may have under way (`concurrent`), and for how long.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from service.mapping.definition import RateLimit
from service.worker.rate_limit.pacing import (
    NO_TOKENS,
    WINDOW_MS,
    Tokens,
    max_min_shares,
    settled,
    spacings,
    step_ms,
)

VERSION = 1
"""Of the text; another is not understood."""

HORIZON_MS = 2_000
"""Nobody reserves what begins later than this: a newcomer gets in promptly, and a death wastes little."""

BLOCK_MS = 1_000
"""About what all workers together take in one turn: a block is its worker's share of this."""

MAX_BLOCK = 1_000
"""Calls in a block, whatever the limit."""

ACTIVE_MS = 2_500
"""How long a worker that asked for calls counts as one that wants more."""

TURN_MS = 10_000
"""What cannot be divided goes to another worker this often."""

MAX_SKEW_MS = 60_000
"""A ledger that was written this far in the future is not believed."""

MAX_AHEAD_MS = 600_000
"""Nothing is spoken for longer than this, whatever the ledger says."""

NOBODY = "?"
"""Stands for whoever holds something by a ledger that could not be read."""


@dataclass(frozen=True, slots=True)
class ArrivalTimes:
    """The times (ms since 1970) up to which requests, input and output tokens are spoken for."""

    requests: float = 0.0
    input: float = 0.0
    output: float = 0.0


@dataclass(frozen=True, slots=True)
class WorkerShare:
    """One worker: it may have `held` calls under way until `until_ms`, and wants `wants`.

    At `at_ms` it wanted to begin `calls` calls. `seq` numbers its writes, so that it recognises its own.
    """

    held: int = 0
    wants: int = 0
    until_ms: int = 0
    calls: int = 0
    at_ms: int = 0
    seq: int = 0


@dataclass(frozen=True, slots=True)
class Reservation:
    """Leave to begin `count` calls, at `start_ms`, `start_ms + step_ms`, and so on."""

    start_ms: float
    step_ms: float
    count: int


@dataclass(frozen=True, slots=True)
class LimitRequest:
    """What a worker wants at `now_ms`, as its `seq`th write.

    `calls` calls that cost `cost` each, none of which can begin before `lead_ms` from now; `correction` is
    what earlier ones cost beyond what they were charged. It has `in_use` calls under way and wants `wants`;
    none of its calls outlives its share if that is held `lease_ms` long. With a share that is more than
    `renew_ms` old it wants a new one.
    """

    worker: str
    seq: int
    now_ms: int
    calls: int = 0
    cost: Tokens = NO_TOKENS
    correction: Tokens = NO_TOKENS
    in_use: int = 0
    wants: int = 0
    lease_ms: int = 0
    renew_ms: int = 0
    lead_ms: int = 0


@dataclass(frozen=True, slots=True)
class LimitGrant:
    """The ledger as it is to be written (unless `is_news` is False), and what that gives its writer.

    `block` is None where no call may be reserved yet: `retry_ms` is how long to wait before asking again.
    `held` calls may be under way; new ones begin while fewer than `quota` are.
    """

    ledger: Ledger
    block: Reservation | None
    retry_ms: float
    held: int
    quota: int
    is_news: bool


@dataclass(frozen=True, slots=True)
class Ledger:
    """The state of one limit. `at_ms` is the latest time that any writer knew.

    `credit` is what settled calls cost less than they were charged, as far as it is still of use.
    """

    at_ms: int = 0
    ends: ArrivalTimes = ArrivalTimes()
    credit: Tokens = NO_TOKENS
    shares: Mapping[str, WorkerShare] = field(default_factory=dict)

    @classmethod
    def read(cls, text: str, now_ms: int, *, concurrent: int | None = None, lease_ms: int = 0) -> Self:
        """The ledger in a text. One that is empty is new; one that is not understood has everything in use.

        So has one from the future. The next minute is spoken for then, and all `concurrent` calls are held
        for `lease_ms`, as if its workers had just taken them.
        """
        if not text:
            return cls(now_ms)
        try:
            ledger = cls._parse(text)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
            ledger = None
        if ledger is None or ledger.at_ms > now_ms + MAX_SKEW_MS:
            end = float(now_ms + WINDOW_MS)
            unknown = WorkerShare(held=concurrent or 0, until_ms=now_ms + lease_ms)
            return cls(now_ms, ArrivalTimes(end, end, end), shares={NOBODY: unknown})
        return ledger

    @classmethod
    def _parse(cls, text: str) -> Self | None:
        value = json.loads(text)
        if value["v"] != VERSION:
            return None
        requests_end, input_end, output_end = map(float, value["ends"])
        input_credit, output_credit = map(float, value["credit"])
        shares = {worker: WorkerShare(*map(int, share)) for worker, share in value["shares"].items()}
        numbers = (requests_end, input_end, output_end, input_credit, output_credit)
        is_sane = all(map(math.isfinite, numbers))
        is_sane = is_sane and all(share.held >= 0 for share in shares.values())
        if not is_sane:
            return None
        ends = ArrivalTimes(requests_end, input_end, output_end)
        return cls(int(value["at"]), ends, Tokens(input_credit, output_credit), shares)

    def text(self, *, by: str) -> str:
        """As it is stored; `by` names the writer and the writing, so that no two texts are the same."""
        shares = {
            worker: [share.held, share.wants, share.until_ms, share.calls, share.at_ms, share.seq]
            for worker, share in self.shares.items()
        }
        ends = [self.ends.requests, self.ends.input, self.ends.output]
        credit = [self.credit.input, self.credit.output]
        value = {
            "v": VERSION, "by": by, "at": self.at_ms, "ends": ends, "credit": credit, "shares": shares,
        }  # fmt: skip
        return json.dumps(value, separators=(",", ":"))

    def has_written(self, worker: str, seq: int) -> bool:
        """Whether the worker's write number `seq` is part of this, whoever wrote since."""
        return worker in self.shares and self.shares[worker].seq == seq

    def answer(self, ask: LimitRequest, limit: RateLimit) -> LimitGrant:
        """What `ask` gets: a block of calls if it wants one, and a share of the calls under way."""
        now = ask.now_ms
        others = {
            worker: share
            for worker, share in self.shares.items()
            if worker != ask.worker and (share.until_ms > now or share.at_ms > now - ACTIVE_MS)
        }
        ends, credit = self._settled(ask.correction, now, limit)
        block, retry_ms = None, 0.0
        if ask.calls:
            start, step = _begin(ends, now + ask.lead_ms, limit), step_ms(limit, ask.cost)
            if start - now > HORIZON_MS:
                retry_ms = start - now - HORIZON_MS
            else:
                block = Reservation(start, step, _fair_calls(ask, step, others))
                ends = _advanced(ends, block, ask.cost, limit)
        before = self.shares.get(ask.worker, WorkerShare())
        held, quota = _fair_holding(ask, before, others, limit.concurrent)
        mine = WorkerShare(held, ask.wants, now + ask.lease_ms, ask.calls if block else 0, now, ask.seq)
        is_news = (
            block is not None
            or NOBODY in self.shares  # or everybody would start anew each time
            or held != before.held
            or (ask.wants != before.wants and max(ask.wants, before.wants) > held)
            or (held > 0 and before.until_ms < now + ask.lease_ms - ask.renew_ms)
        )
        ledger = Ledger(max(self.at_ms, now), ends, credit, others | {ask.worker: mine})
        return LimitGrant(ledger, block, retry_ms, held, quota, is_news)

    def without(self, worker: str, limit: RateLimit, correction: Tokens, now_ms: int) -> Ledger:
        """As `worker` leaves it when it has no call under way any more."""
        ends, credit = self._settled(correction, now_ms, limit)
        shares = {name: share for name, share in self.shares.items() if name != worker}
        return Ledger(max(self.at_ms, now_ms), ends, credit, shares)

    def _settled(self, correction: Tokens, now_ms: int, limit: RateLimit) -> tuple[ArrivalTimes, Tokens]:
        """The ends and the credit with what calls cost beyond what they were charged."""
        ends, credit = self.ends, self.credit
        input_end, input_credit = settled(
            ends.input, credit.input, correction.input, now_ms, limit.input_tokens_per_minute
        )
        output_end, output_credit = settled(
            ends.output, credit.output, correction.output, now_ms, limit.output_tokens_per_minute
        )
        return ArrivalTimes(ends.requests, input_end, output_end), Tokens(input_credit, output_credit)


def _begin(ends: ArrivalTimes, now_ms: int, limit: RateLimit) -> float:
    """When all that is limited is free. A limit that a newer mapping dropped holds nobody up."""
    begin = float(now_ms)
    for end, per_minute in (
        (ends.requests, limit.requests_per_minute),
        (ends.input, limit.input_tokens_per_minute),
        (ends.output, limit.output_tokens_per_minute),
    ):
        if per_minute is not None:
            begin = max(begin, min(end, now_ms + MAX_AHEAD_MS))
    return begin


def _advanced(ends: ArrivalTimes, block: Reservation, cost: Tokens, limit: RateLimit) -> ArrivalTimes:
    """Each timeline ends its own spacing after the block's last call, whichever of them sets the pace."""
    last = block.start_ms + (block.count - 1) * block.step_ms
    old = (ends.requests, ends.input, ends.output)
    return ArrivalTimes(
        *(
            max(end, last + spacing) if spacing else end
            for end, spacing in zip(old, spacings(limit, cost), strict=True)
        )
    )


def _fair_calls(ask: LimitRequest, step: float, others: Mapping[str, WorkerShare]) -> int:
    """How many calls a block has: the worker's share of what begins within `BLOCK_MS`, and at least one.

    Who is alone gets all of it, asked for or not: unused it is nobody's loss, and spares writes.
    """
    room = MAX_BLOCK if not step else min(MAX_BLOCK, int(BLOCK_MS / step))
    active = {
        name: share.calls
        for name, share in others.items()
        if share.calls and share.at_ms > ask.now_ms - ACTIVE_MS
    }
    if not active:
        return max(1, room)
    shares = max_min_shares(room, active | {ask.worker: ask.calls}, ask.now_ms // TURN_MS)
    return max(1, shares[ask.worker])


def _fair_holding(
    ask: LimitRequest, before: WorkerShare, others: Mapping[str, WorkerShare], concurrent: int | None
) -> tuple[int, int]:
    """How many calls the worker holds, and up to how many it may begin new ones.

    Never more than is free. Where others want more than they have, it keeps its fair share and what is under
    way; otherwise it keeps what it has, so that the next call needs no asking.
    """
    if concurrent is None:
        return 0, 0
    live = {name: share for name, share in others.items() if share.until_ms > ask.now_ms}
    free = max(0, concurrent - sum(share.held for share in live.values()))
    wants = {name: max(share.held if name == NOBODY else 0, share.wants) for name, share in live.items()}
    target = max_min_shares(concurrent, wants | {ask.worker: ask.wants}, ask.now_ms // TURN_MS)[ask.worker]
    if not any(share.wants > share.held for share in live.values()) and ask.wants:
        target = max(target, before.held)
    quota = min(target, free)
    return max(quota, ask.in_use), quota
