"""Spending: the calls that were made for a batch, and what they cost."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class Spending:
    """Calls of an agent, repeats and failures too, with their tokens and their cost in units of `money`.

    `cached_input` and `cache_write` are parts of the input tokens, `reasoning` of the output tokens. `cost`
    is the sum over the calls whose cost is known; `unpriced` is the number of the others. `uncertain` calls
    have ended without saying what they used, and are counted with what they were expected to use.
    """

    calls: int = 0
    input_tokens: int = 0
    cached_input: int = 0
    cache_write: int = 0
    output_tokens: int = 0
    reasoning: int = 0
    cost: int = 0
    unpriced: int = 0
    uncertain: int = 0

    def __add__(self, other: Spending) -> Spending:
        return Spending(*(getattr(self, name) + getattr(other, name) for name in SPENDING_FIELDS))

    @property
    def tokens(self) -> int:
        """Input and output tokens."""
        return self.input_tokens + self.output_tokens


SPENDING_FIELDS = tuple(field.name for field in fields(Spending))
"""The names of all parts of a spending."""

NOTHING_SPENT = Spending()
