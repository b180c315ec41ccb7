"""The first outcomes of a round in this process: no call begins while they may show that all rows will fail.

A fast agent fails hundreds of rows before the first outcomes are committed and judged. So once as many of
them as are judged have failed for the same cause, further rows are turned away until their commit. Doubt
needs an outcome that waits for its commit, so it ends with the commits, whatever becomes of them.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Self

from service.domain.errors import RoundInDoubtError
from service.domain.model import Batch, BatchView, OnExceeded, Outcome
from service.domain.tolerance import JUDGED_CLASSES, judged_failures

REQUEUE_S = 1.0
"""Mean delay of a row that is turned away: a commit and the judgement take less."""

MAX_ROUNDS = 1_000
"""Rounds that are remembered; the oldest one is forgotten first."""


@dataclass(slots=True)
class _Beginning:
    """The outcomes of a round so far. `is_over`: they have been judged, or have no common cause."""

    failed: int = 0
    waiting: int = 0
    cause: tuple[str, str, str] | None = None
    is_over: bool = False

    def add(self, outcome: Outcome) -> None:
        error = outcome.error
        if error is None:
            self.is_over = True
        elif error.failure_class in JUDGED_CLASSES:
            self.is_over |= self.cause not in (None, error.cause)
            self.cause = error.cause
            self.failed += 1


class PendingOutcome:
    """An outcome that is committed by the body of this context; `committed` takes the batch as read then."""

    __slots__ = ("_beginning", "_first")

    def __init__(self, beginning: _Beginning, first: int) -> None:
        self._beginning = beginning
        self._first = first

    def __enter__(self) -> Self:
        self._beginning.waiting += 1
        return self

    def __exit__(self, *_: object) -> None:
        self._beginning.waiting -= 1

    def committed(self, view: BatchView | None) -> None:
        """The outcome was committed and the batch judged with it."""
        if view is not None and (view.counts.succeeded or judged_failures(view.counts) >= self._first):
            self._beginning.is_over = True


class FirstOutcomes:
    """The beginnings of rounds."""

    def __init__(self) -> None:
        self._rounds: OrderedDict[tuple[str, int], _Beginning] = OrderedDict()

    def check(self, batch: Batch) -> None:
        """Raise RoundInDoubtError if no call of the batch may begin now."""
        beginning = self._rounds.get((batch.identity, batch.round))
        if beginning is None or beginning.is_over or not beginning.waiting or not _is_judged(batch):
            return
        if beginning.failed >= batch.tolerate.first:
            raise RoundInDoubtError(
                f"the first {beginning.failed} rows failed for one cause", retry_after_s=REQUEUE_S
            )

    def pending(self, batch: Batch, outcome: Outcome) -> PendingOutcome:
        """Count an outcome, which waits while the body of the context commits it."""
        beginning = self._rounds.setdefault((batch.identity, batch.round), _Beginning())
        if len(self._rounds) > MAX_ROUNDS:
            self._rounds.popitem(last=False)
        beginning.add(outcome)
        return PendingOutcome(beginning, batch.tolerate.first)


def _is_judged(batch: Batch) -> bool:
    """True if the first outcomes of the round can stop it."""
    tolerate = batch.tolerate
    is_forgiven = batch.judged_round == batch.round
    return bool(tolerate.first) and tolerate.on_exceeded is not OnExceeded.FINISH and not is_forgiven
