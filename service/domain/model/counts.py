"""Counters of outcomes."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class Counts:
    """The counters of one round, summed over its counter slots.

    `reused` is the number of succeeded rows that took the reply of another row. `cost` is the price of the
    calls whose replies are in the results, `saved` that of the calls that `reused` rows have saved, both in
    units of `money`; calls of unknown price add nothing. `rejected`, `transient`,
    `rate_limit`, `unavailable` and `cancelled` are the failed rows of each class (`errors.FailureClass`); an
    earlier version counted `failed` only.
    """

    succeeded: int = 0
    failed: int = 0
    agent_ms: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    reused: int = 0
    rejected: int = 0
    transient: int = 0
    rate_limit: int = 0
    unavailable: int = 0
    cancelled: int = 0
    cost: int = 0
    saved: int = 0

    @property
    def done(self) -> int:
        """Rows that have an outcome."""
        return self.succeeded + self.failed

    @property
    def by_class(self) -> dict[str, int]:
        """The failed rows of each class that has any."""
        return {name: count for name in FAILURE_COUNTS if (count := getattr(self, name))}

    def __sub__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, name) - getattr(other, name) for name in COUNTER_FIELDS))

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, name) + getattr(other, name) for name in COUNTER_FIELDS))


COUNTER_FIELDS = tuple(field.name for field in fields(Counts))
"""The names of all counters."""

FAILURE_COUNTS = ("rejected", "transient", "rate_limit", "unavailable", "cancelled")
"""The counters of failed rows by class; each is named as its class."""


@dataclass(frozen=True, slots=True)
class Recount:
    """The counts of a round that were taken from its outcomes, because its counters were wrong."""

    round: int
    counts: Counts
