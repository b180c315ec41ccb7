"""Checks on the calls that the agent has recorded: none where none may begin, none twice without a cause."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tests.chaos.agent import Call
from tests.chaos.operations.sightings import Quiet, Sightings
from tests.chaos.plan import Act

NOTICE_S = 10.0
"""Time in which every worker notices an operation."""

LAG_S = 2.0
"""Time that a call may take from a busy worker to a busy agent."""

BUSY = 503


@dataclass(frozen=True, slots=True)
class Absence:
    """An act against a process: the time in which it did not run, or in which it may have ended."""

    process: int
    what: str
    since: float
    until: float


def late_calls(
    calls: Iterable[Call], quiets: Iterable[Quiet], absences: Iterable[Absence], *, lag_s: float = LAG_S
) -> list[str]:
    """Calls that began although their batch was paused or cancelled, in words.

    A call takes `lag_s` seconds to the agent at most. A process that is frozen between its last look at the
    batch and the call has that much more time.
    """
    by_batch: dict[str, list[Call]] = defaultdict(list)
    for call in calls:
        by_batch[call.batch_id].append(call)
    frozen: dict[int, list[Absence]] = defaultdict(list)
    for absence in absences:
        if absence.what == Act.STOP:
            frozen[absence.process].append(absence)
    problems = []
    for quiet in quiets:
        for call in by_batch[quiet.batch_id]:
            if not quiet.since < call.began < quiet.until:
                continue
            away_s = sum(
                max(0.0, min(call.began, absence.until) - max(quiet.since, absence.since))
                for absence in frozen[call.process]
            )
            late_s = call.began - quiet.since - away_s - NOTICE_S - lag_s
            if late_s > 0:
                problems.append(
                    f"{call.row} was called by process {call.process} {call.began - quiet.since:.1f} s after "
                    f"its batch was seen {quiet.why}; the process was frozen for {away_s:.1f} s of it"
                )
    return problems


@dataclass(frozen=True, slots=True)
class Repeat:
    """A row that was called again in the same round, and what came between the two calls."""

    first: Call
    second: Call
    causes: tuple[str, ...]


def repeats(calls: Sequence[Call], sightings: Sightings, absences: Sequence[Absence]) -> Iterator[Repeat]:
    """All repeated calls, except those after an answer that asks for it."""
    by_row: dict[tuple[str, int, int], list[Call]] = defaultdict(list)
    for call in calls:
        by_row[call.row].append(call)
    for of_row in by_row.values():
        for first, second in pairwise(of_row):
            if first.status == BUSY:
                continue
            causes = [
                absence.what
                for absence in absences
                if absence.process == first.process
                and first.began - LAG_S <= absence.until
                and absence.since <= second.began
            ]
            changes = sightings.changes(first.batch_id)
            if any(first.began - LAG_S <= at <= second.began + LAG_S for at in changes):
                causes.append("operated on")
            yield Repeat(first, second, tuple(causes))
