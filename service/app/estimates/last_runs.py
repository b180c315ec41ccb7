"""Earlier runs of a mapping, as the counters of their batches have them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from service.domain.model import Batch, ms_of
from service.domain.ports import Table

LATEST_BATCHES = 500
MAX_RUNS = 5
"""An estimate looks at so many runs of the mapping, among so many batches of the store."""


@dataclass(frozen=True, slots=True)
class LastRuns:
    """Earlier runs of a mapping: `batches` of them with `calls` that succeeded.

    The tokens are those of `reported_calls`: the calls of the runs whose replies report any.
    `seconds` is the time from the start to the end of the runs of one round, pauses included, for
    `timed_calls`.
    """

    batches: int
    calls: int
    reported_calls: int
    input_tokens: int
    output_tokens: int
    seconds: float
    timed_calls: int

    def tokens_of(self, tokens: int, calls: int) -> int | None:
        """As many of `tokens` as `calls` calls have on average, rounded up; None if no reply reports any."""
        return ceil_div(tokens * calls, self.reported_calls) if tokens else None

    def as_json(self) -> dict[str, Any]:
        """The key `last_runs` of `estimate --json`: tokens are per call, rounded up."""
        return {
            "batches": self.batches,
            "calls": self.calls,
            "input_tokens_per_call": self.tokens_of(self.input_tokens, 1),
            "output_tokens_per_call": self.tokens_of(self.output_tokens, 1),
            "seconds": round(self.seconds, 3),
        }


async def read_last_runs(table: Table, mapping: str) -> LastRuns | None:
    """The latest finished runs of a mapping, whatever its text was; None if no call of them succeeded."""
    batches = [batch for batch in await table.recent(LATEST_BATCHES) if _has_run(batch, mapping)]
    found = LastRuns(0, 0, 0, 0, 0, 0.0, 0)
    for batch in batches[:MAX_RUNS]:
        if (view := await table.read(batch.batch_id)) is None:
            continue
        counts = view.all_counts
        calls = counts.succeeded - counts.reused
        if calls <= 0:
            continue
        is_reported = counts.input_tokens or counts.output_tokens
        is_timed = batch.round == 1
        seconds = (ms_of(batch.finished_at) - ms_of(batch.created_at)) / 1000 if is_timed else 0.0
        found = LastRuns(
            found.batches + 1,
            found.calls + calls,
            found.reported_calls + (calls if is_reported else 0),
            found.input_tokens + counts.input_tokens,
            found.output_tokens + counts.output_tokens,
            found.seconds + seconds,
            found.timed_calls + (calls if is_timed else 0),
        )
    return found if found.batches else None


def _has_run(batch: Batch, mapping: str) -> bool:
    return bool(
        batch.tool_name == mapping and batch.state.is_final and batch.created_at and batch.finished_at
    )


def ceil_div(count: int, parts: int) -> int:
    """The quotient, rounded up."""
    return -(-count // parts)
