"""Counts of a batch taken from its outcomes, where its counters are wrong."""

from structlog.testing import capture_logs

from service.batch.completion import correct_counts, counts_of_outcomes
from service.domain.model import Commit, Counts


async def test_every_outcome_is_counted_once(lab):
    """Page by page and partition by partition, with all amounts."""
    batch = await lab.batch(7, partitions=3)
    outcomes = tuple(lab.outcome(n, failed="no" if n == 4 else "", input_tokens=n) for n in range(1, 8))
    await lab.table.commit(Commit(batch.batch_id, 1, 3, 0, outcomes, next(lab.tokens), batch.ttl))
    counted = (await lab.view()).counts
    assert counted == Counts(6, 1, 35, 28)
    for page_rows in (1, 2, 100):
        assert await counts_of_outcomes(lab.table, batch, page_rows) == counted


async def test_a_correction_is_logged_as_an_error(lab):
    """With both counts: counters cannot differ by rowfleet itself."""
    batch = await lab.batch(2)
    with capture_logs() as logs:
        await correct_counts(lab.table, batch, rows=Counts(2), counters=Counts(1))
    assert (await lab.view()).counts == Counts(2)
    (line,) = logs
    assert (line["event"], line["log_level"]) == ("counters_differ_from_rows", "error")
