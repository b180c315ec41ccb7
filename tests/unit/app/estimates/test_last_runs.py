"""Earlier runs of a mapping."""

from dataclasses import replace

from service.app.estimates.last_runs import MAX_RUNS, LastRuns, read_last_runs
from service.domain.model import Batch, BatchView, Counts, Location, Source, State

ENDED = Batch(
    "a", "1", State.SUCCEEDED, Source("b", "k"), Location("b", "k"),
    created_at="2026-11-30T10:00:00.000Z", finished_at="2026-11-30T10:00:20.000Z",
)  # fmt: skip
COUNTS = Counts(succeeded=12, reused=2, input_tokens=500, output_tokens=30)


class Batches:
    """The part of a table that has batches, all with the same counts."""

    def __init__(self, *batches, counts=COUNTS):
        self.batches, self.counts = batches, counts

    async def recent(self, limit):
        """The latest of them."""
        return self.batches[:limit]

    async def read(self, batch_id):
        """The same view for each."""
        return BatchView(ENDED, self.counts)


async def test_calls_are_successes_that_no_other_row_answered():
    """Reused rows made no call; tokens and time are those of the counters and the batch."""
    assert await read_last_runs(Batches(ENDED), "a") == LastRuns(1, 10, 10, 500, 30, 20.0, 10)


async def test_batches_that_tell_nothing():
    """Those of other mappings, those that have not ended, and those without a success."""
    running = replace(ENDED, state=State.RUNNING)
    assert await read_last_runs(Batches(running, replace(ENDED, tool_name="b")), "a") is None
    assert await read_last_runs(Batches(ENDED, counts=Counts(failed=3)), "a") is None


async def test_replies_that_report_no_tokens():
    """Their calls do not lower the average of the others."""
    found = await read_last_runs(Batches(ENDED, counts=Counts(succeeded=4)), "a")
    assert (found.calls, found.reported_calls) == (4, 0)
    assert found.tokens_of(found.output_tokens, 3) is None
    assert LastRuns(2, 14, 10, 500, 31, 20.0, 14).tokens_of(31, 2) == 7


async def test_only_the_latest():
    """A mapping that has run for long is judged by its latest runs."""
    found = await read_last_runs(Batches(*[ENDED] * (MAX_RUNS + 3)), "a")
    assert (found.batches, found.calls) == (MAX_RUNS, 10 * MAX_RUNS)


async def test_the_time_of_later_rounds_is_not_known():
    """Between two rounds a batch may lie for days."""
    found = await read_last_runs(Batches(replace(ENDED, round=2)), "a")
    assert (found.calls, found.seconds, found.timed_calls) == (10, 0.0, 0)
