"""The money of a batch as `status --json` has it."""

from dataclasses import replace

from service.batch.money_figures import cost_json, spent_text, tokens_json
from service.domain.model import Batch, BatchView, Counts, Location, Source, Spending, State

CENT = 10**6
BATCH = Batch(
    tool_name="demo",
    execution_id="e1",
    state=State.RUNNING,
    source=Source("b", "k.csv"),
    output=Location("b", "p/"),
    total=100,
    prices={"currency": "EUR", "input": CENT, "output": CENT},
)


def test_all_figures_of_a_run_under_way():
    """The rest costs as much as a row so far, or as all calls so far for one that succeeded."""
    counts = Counts(succeeded=8, failed=2, cost=8 * CENT)
    view = BatchView(BATCH, counts, Spending(calls=16, input_tokens=30, output_tokens=6, cost=16 * CENT))
    assert cost_json(view) == {
        "currency": "EUR",
        "estimate": {"low": "0.88", "high": "1.96"},
        "spent": "0.16",
        "in_results": "0.08",
        "to_finish": {"low": "0.72", "high": "1.80"},
        "saved": "0.00",
        "unpriced_calls": 0,
        "uncertain_calls": 0,
    }
    assert tokens_json(view) == {
        "input": 30, "cached_input": 0, "cache_write": 0, "output": 6, "reasoning": 0,
    }  # fmt: skip


def test_a_price_that_is_not_known_is_null_and_never_zero():
    """A batch without prices, and one with a call of unknown price, have no amounts."""
    for view, currency in [
        (BatchView(replace(BATCH, prices=None), Counts(succeeded=1), Spending(calls=1)), None),
        (BatchView(BATCH, Counts(succeeded=2, cost=CENT), Spending(calls=2, cost=CENT, unpriced=1)), "EUR"),
    ]:
        cost = cost_json(view)
        assert cost["currency"] == currency
        names = ("estimate", "spent", "in_results", "to_finish", "saved")
        assert [cost[name] for name in names] == [None] * 5
        assert spent_text(view) is None


def test_nothing_is_estimated_before_the_first_outcome():
    """Nor while the number of rows is not known."""
    assert cost_json(BatchView(BATCH, Counts(), Spending(calls=3, cost=3)))["to_finish"] is None
    unsealed = replace(BATCH, total=None)
    assert (
        cost_json(BatchView(unsealed, Counts(succeeded=1, cost=1), Spending(1, cost=1)))["estimate"] is None
    )


def test_nothing_is_left_of_a_batch_that_has_ended():
    """Its estimate is what it has cost."""
    ended = replace(BATCH, state=State.CANCELLED)
    cost = cost_json(BatchView(ended, Counts(succeeded=1, cost=CENT), Spending(1, cost=2 * CENT)))
    assert (cost["to_finish"], cost["estimate"]) == (
        {"low": "0.00", "high": "0.00"}, {"low": "0.02", "high": "0.02"},
    )  # fmt: skip


def test_reused_rows_cost_nothing_to_finish():
    """Rows that took another's reply lower the low end: the rest may be like them."""
    counts = Counts(succeeded=10, reused=5, cost=5 * CENT, saved=5 * CENT)
    cost = cost_json(BatchView(BATCH, counts, Spending(calls=5, cost=5 * CENT)))
    assert (cost["saved"], cost["to_finish"]) == ("0.05", {"low": "0.45", "high": "0.90"})
