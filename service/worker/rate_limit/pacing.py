"""The arithmetic of rate limits: how far apart calls begin, and how workers share what there is. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from service.mapping.definition import RateLimit

WINDOW_MS = 60_000
"""Limits are per minute."""

SAFETY_SHARE = 0.97
"""How much of an allowed rate is used.

What leaves evenly does not arrive evenly. Where 600 a minute begin exactly 100 ms apart, one that arrives
late and the 600th after it that does not are 601 in some sliding minute. With 3 % in hand a minute holds 582,
and arrivals may be 1.8 s off: the jitter of the network, a busy process, clocks that differ a little.
"""


CREDIT_SHARE = 0.02
"""How much of a minute's tokens may be set against later excess: with `SAFETY_SHARE` less than all."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens of a call, a mean or a difference; so they may be fractions or negative."""

    input: float = 0.0
    output: float = 0.0

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(self.input + other.input, self.output + other.output)

    def __sub__(self, other: Tokens) -> Tokens:
        return Tokens(self.input - other.input, self.output - other.output)

    def without_credit(self) -> Tokens:
        """What may be settled twice without harm."""
        return Tokens(max(0.0, self.input), max(0.0, self.output))


NO_TOKENS = Tokens()


def emission_interval_ms(per_minute: int | None, cost: float) -> float:
    """How far apart calls of this cost begin, so that those of no minute cost more than `per_minute`.

    That is exact for calls of equal cost, such as requests. Where they differ, a minute costs at most
    `SAFETY_SHARE` of the limit and one call.
    """
    if per_minute is None or cost <= 0:
        return 0.0
    fitting = math.floor(per_minute / cost)
    return WINDOW_MS / SAFETY_SHARE / fitting if fitting else WINDOW_MS / SAFETY_SHARE * cost / per_minute


def spacings(limit: RateLimit, cost: Tokens) -> tuple[float, float, float]:
    """How far apart calls begin as far as requests, input tokens and output tokens go."""
    return (
        emission_interval_ms(limit.requests_per_minute, 1),
        emission_interval_ms(limit.input_tokens_per_minute, cost.input),
        emission_interval_ms(limit.output_tokens_per_minute, cost.output),
    )


def step_ms(limit: RateLimit, cost: Tokens) -> float:
    """How far apart calls begin where all limits are kept."""
    return max(spacings(limit, cost))


def settled(
    end: float, credit: float, excess: float, now_ms: int, per_minute: int | None
) -> tuple[float, float]:
    """Where a timeline ends, and the credit left, once `excess` tokens more were spent than charged.

    What was spent less becomes credit. It moves no end back: if the call began before some minute, that would
    make room for more than the limit in it.
    """
    if per_minute is None:
        return end, 0.0
    left = credit - excess
    if left >= 0:
        return end, min(left, CREDIT_SHARE * per_minute)
    return max(end, now_ms) - left * WINDOW_MS / SAFETY_SHARE / per_minute, 0.0


def max_min_shares(total: int, wants: Mapping[str, int], turn: int) -> dict[str, int]:
    """Divide `total`: nobody gets more than it wants, and who gets less gets no less than anybody else.

    What cannot be divided goes to those whose `turn` it is.
    """
    shares = dict.fromkeys(sorted(wants), 0)
    left = total
    hungry = [name for name in shares if wants[name] > 0]
    while hungry and left >= len(hungry):
        part = left // len(hungry)
        for name in hungry:
            given = min(part, wants[name] - shares[name])
            shares[name] += given
            left -= given
        hungry = [name for name in hungry if shares[name] < wants[name]]
    for index in range(left if hungry else 0):
        shares[hungry[(turn + index) % len(hungry)]] += 1
    return shares
