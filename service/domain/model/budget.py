"""Budgets: the most that the calls of a batch, or of a mapping in a day, may be, use and cost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum


class BudgetKind(StrEnum):
    """The quantities that a budget may limit; the values are the keys of `status --json`."""

    CALLS = "calls"
    TOKENS = "tokens"
    USD = "usd"


@dataclass(frozen=True, slots=True)
class Amounts:
    """Numbers of calls, of input and output tokens in all, and `usd` in units of a millionth of a cent."""

    calls: int = 0
    tokens: int = 0
    usd: int = 0

    def of(self, kind: BudgetKind) -> int:
        """The number of one kind."""
        amount: int = getattr(self, kind.value)
        return amount

    def __add__(self, other: Amounts) -> Amounts:
        return Amounts(self.calls + other.calls, self.tokens + other.tokens, self.usd + other.usd)

    def __sub__(self, other: Amounts) -> Amounts:
        return Amounts(self.calls - other.calls, self.tokens - other.tokens, self.usd - other.usd)

    def times(self, number: int) -> Amounts:
        """So many times these amounts."""
        return Amounts(self.calls * number, self.tokens * number, self.usd * number)

    def covers(self, other: Amounts) -> bool:
        """True if no number of `other` is larger."""
        return self.calls >= other.calls and self.tokens >= other.tokens and self.usd >= other.usd

    def at_most(self, other: Amounts) -> Amounts:
        """The smaller number of each kind."""
        return Amounts(min(self.calls, other.calls), min(self.tokens, other.tokens), min(self.usd, other.usd))

    def without_debt(self) -> Amounts:
        """These amounts with 0 in place of each number below it."""
        return Amounts(max(0, self.calls), max(0, self.tokens), max(0, self.usd))


NO_AMOUNTS = Amounts()


@dataclass(frozen=True, slots=True)
class Budget:
    """The largest number of each kind (as in `Amounts`); None where there is no limit."""

    calls: int | None = None
    tokens: int | None = None
    usd: int | None = None

    def __bool__(self) -> bool:
        """True if it limits anything."""
        # asked for each call
        return not (self.calls is None and self.tokens is None and self.usd is None)

    def of(self, kind: BudgetKind) -> int | None:
        """The limit of one kind."""
        limit: int | None = getattr(self, kind.value)
        return limit

    def limits(self) -> Iterator[tuple[BudgetKind, int]]:
        """The kinds that are limited, each with its limit."""
        for kind in BudgetKind:
            if (limit := self.of(kind)) is not None:
                yield kind, limit

    def exceeded_by(self, amounts: Amounts) -> BudgetKind | None:
        """The first kind of which `amounts` has more than the limit; None if all of them fit."""
        return next((kind for kind, limit in self.limits() if amounts.of(kind) > limit), None)

    def room(self, used: Amounts, each: Amounts) -> int | None:
        """The number of times that `each` fits beside what is used; None if that is not limited."""
        counts = [
            max(0, limit - used.of(kind)) // each.of(kind)
            for kind, limit in self.limits()
            if each.of(kind) > 0
        ]
        return min(counts, default=None)


NO_BUDGET = Budget()


@dataclass(frozen=True, slots=True)
class Shortage:
    """The reason why a budget lets no call begin: it has too little of `kind` beside what is `used`.

    Nothing is reserved that might come back. The next call needs `need`.
    """

    kind: BudgetKind
    used: Amounts
    need: Amounts

    @property
    def least(self) -> int:
        """The smallest limit under which the next call may begin."""
        return self.used.of(self.kind) + self.need.of(self.kind)


@dataclass(frozen=True, slots=True)
class BatchBudgets:
    """The budgets under which the calls of a batch are made.

    - `own`: that of the batch, over all of its rounds.
    - `day`: that of its mapping for each day in UTC, which all batches of the mapping share.
    - `before`: what the batch had used when it got its first budget: no ledger knows of it.
    """

    own: Budget = NO_BUDGET
    day: Budget = NO_BUDGET
    before: Amounts = NO_AMOUNTS

    def __bool__(self) -> bool:
        """True if there is any."""
        return bool(self.own) or bool(self.day)

    @property
    def left_for_ledger(self) -> Budget:
        """The batch's own budget, less what it had used before."""
        return Budget(
            **{kind.value: max(0, limit - self.before.of(kind)) for kind, limit in self.own.limits()}
        )


NO_BUDGETS = BatchBudgets()
