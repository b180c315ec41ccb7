"""The figures of a sample, by its report, its hold, or the counters of its batch."""

from dataclasses import replace

from service.app.estimates.sample_figures import RestOfRows, figures_of
from service.domain.model import BatchView, Counts, Hold, HoldReason, Spending, State
from tests.unit.batch.test_money_figures import BATCH, CENT

SAMPLE = {
    "cost_per_row": "0.02",
    "rest": {"rows": 8, "seconds": 12.0, "cost": {"low": "0.08", "high": "0.16"}},
}
HELD = replace(
    BATCH, state=State.PAUSED, holds=(Hold(HoldReason.APPROVAL, "rowfleet", "", {"sample": SAMPLE}),)
)
COUNTS, SPENT = (
    Counts(succeeded=2, cost=2 * CENT),
    Spending(4, input_tokens=30, output_tokens=6, cost=4 * CENT),
)


def test_a_held_sample_has_the_figures_of_its_hold() -> None:
    """Tokens and price are those of all calls; the report adds the time of the sample and the causes."""
    figures = figures_of(BatchView(HELD, COUNTS, SPENT), None)
    assert (figures.rows, figures.calls, figures.spent) == (2, 4, "0.04")
    assert (figures.tokens["input"], figures.tokens["output"]) == (30, 6)
    assert figures.rest == RestOfRows(8, 12.0, "0.08", "0.16")
    assert (figures.cost_per_row, figures.seconds) == ("0.02", None)
    reported = figures_of(BatchView(HELD, COUNTS, SPENT), SAMPLE | {"seconds": 3.0, "causes": [{"rows": 1}]})
    assert (reported.seconds, reported.causes) == (3.0, [{"rows": 1}])
    assert reported.as_json()["rest"] == {"rows": 8, "seconds": 12.0, "low": "0.08", "high": "0.16"}


def test_a_price_that_is_not_known_is_null() -> None:
    """Not 0, neither for a row nor for the other rows."""
    batch = replace(HELD, prices=None, holds=())
    found = figures_of(BatchView(replace(batch, total=10), COUNTS, SPENT), None).as_json()
    assert (found["spent"], found["cost_per_row"]) == (None, None)
    assert found["rest"] == {"rows": 8, "seconds": None, "low": None, "high": None}


def test_a_file_without_other_rows_has_nothing_left() -> None:
    """It has ended with its sample: its time is that of the batch."""
    ended = replace(
        BATCH,
        state=State.SUCCEEDED,
        created_at="2026-11-01T00:00:00.000Z",
        finished_at="2026-11-01T00:00:02.500Z",
    )
    figures = figures_of(BatchView(ended, COUNTS, SPENT), None)
    assert (figures.seconds, figures.cost_per_row) == (2.5, "0.02")
    assert figures.rest is not None
    assert (figures.rest.rows, figures.rest.seconds) == (0, 0.0)


def test_a_sample_whose_file_was_not_counted_has_no_rest() -> None:
    """The number of the other rows is not known yet."""
    assert figures_of(BatchView(replace(BATCH, total=None), COUNTS, SPENT), None).rest is None
