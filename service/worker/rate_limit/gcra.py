"""The arithmetic of pacing: GCRA's emission intervals and theoretical arrival times. Pure.

GCRA, the generic cell rate algorithm (ITU-T I.371,
https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm), stores a single time stamp, the theoretical
arrival time (TAT): the earliest time at which the next call may start. Each call moves it forward by its
emission interval. Bursts are not allowed here: an idle minute does not let more calls into the next one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from service.mapping.definition import RateLimit

MINUTE_MS = 60_000
"""The time for which limits are given."""

SAFETY_SHARE = 0.97
"""Share of an allowed rate that is used. The rest is a margin for jitter.

At exactly 600 calls a minute a single late arrival puts 601 calls into some sliding minute. With 3 % less
(582 a minute) arrivals may shift by up to 1.8 s: network jitter, a busy process, clocks that differ a little.
"""

CREDIT_SHARE = 0.02
"""Largest credit, as a share of a minute's tokens: less than the margin of `SAFETY_SHARE`."""

MAX_AHEAD_MS = 600_000
"""A TAT further ahead than this is taken for this, so that a bad record cannot stop calls for long."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """Input and output tokens: of a call, a mean or a difference. May be fractions or negative."""

    input: float = 0.0
    output: float = 0.0

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(self.input + other.input, self.output + other.output)

    def __sub__(self, other: Tokens) -> Tokens:
        return Tokens(self.input - other.input, self.output - other.output)

    def without_credit(self) -> Tokens:
        """The debts only, as numbers above 0."""
        return Tokens(max(0.0, self.input), max(0.0, self.output))


NO_TOKENS = Tokens()


@dataclass(frozen=True, slots=True)
class ArrivalTimes:
    """The theoretical arrival times (TAT) of requests, input tokens and output tokens, in ms since 1970."""

    requests: float = 0.0
    input: float = 0.0
    output: float = 0.0


def emission_interval_ms(per_minute: int | None, cost: float) -> float:
    """The time between starts of calls of `cost` at which no minute costs more than `per_minute`.

    Exact if calls cost the same, as requests do. If costs differ, a minute may cost `SAFETY_SHARE` of the
    limit and one call more.
    """
    if per_minute is None or cost <= 0:
        return 0.0
    # Rounded down: the call that fits only in part would exceed the limit.
    calls_per_minute = math.floor(per_minute / cost)
    if calls_per_minute:
        return MINUTE_MS / SAFETY_SHARE / calls_per_minute
    # One call costs more than a minute allows.
    return MINUTE_MS / SAFETY_SHARE * cost / per_minute


def emission_intervals_ms(limit: RateLimit, cost: Tokens) -> tuple[float, float, float]:
    """The emission intervals of requests, input tokens and output tokens; 0 for what is not limited."""
    return (
        emission_interval_ms(limit.requests_per_minute, 1),
        emission_interval_ms(limit.input_tokens_per_minute, cost.input),
        emission_interval_ms(limit.output_tokens_per_minute, cost.output),
    )


def call_interval_ms(limit: RateLimit, cost: Tokens) -> float:
    """The time between starts of calls that keeps all limits: the longest of the emission intervals."""
    return max(emission_intervals_ms(limit, cost))


def earliest_start_ms(times: ArrivalTimes, now_ms: int, limit: RateLimit) -> float:
    """The time when the next call may start: `now_ms`, or the latest TAT of a quantity that is limited."""
    start_ms = float(now_ms)
    for tat, per_minute in (
        (times.requests, limit.requests_per_minute),
        (times.input, limit.input_tokens_per_minute),
        (times.output, limit.output_tokens_per_minute),
    ):
        # A newer mapping may have dropped a limit whose TAT is still in the record.
        if per_minute is not None:
            start_ms = max(start_ms, min(tat, now_ms + MAX_AHEAD_MS))
    return start_ms


def advance(times: ArrivalTimes, last_start_ms: float, limit: RateLimit, cost: Tokens) -> ArrivalTimes:
    """The TATs after calls of `cost` were reserved, the last of which starts at `last_start_ms`.

    Each TAT is its own emission interval after that start, whichever quantity sets the pace.
    """
    requests, input_, output = emission_intervals_ms(limit, cost)
    return ArrivalTimes(
        max(times.requests, last_start_ms + requests) if requests else times.requests,
        max(times.input, last_start_ms + input_) if input_ else times.input,
        max(times.output, last_start_ms + output) if output else times.output,
    )


def reconcile(
    tat: float, credit: float, excess: float, now_ms: int, per_minute: int | None
) -> tuple[float, float]:
    """The TAT and the credit after calls used `excess` tokens more than they were charged (less if negative).

    Credit pays for the excess first; the rest moves the TAT on. Tokens that were not used become credit. They
    never move the TAT back: the calls may have begun before some minute, and the refund would put more than
    the limit into it.
    """
    if per_minute is None:
        return tat, 0.0
    balance = credit - excess
    if balance >= 0:
        return tat, min(balance, CREDIT_SHARE * per_minute)
    return max(tat, now_ms) - balance * MINUTE_MS / SAFETY_SHARE / per_minute, 0.0
