"""Estimates as people see them."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from service.app.estimates.call_tally import CallTally, FileTally
from service.app.estimates.estimate import Estimate, Range
from service.app.estimates.last_runs import LastRuns
from service.cli.views.estimate_view import show_estimate

RUNS = LastRuns(2, 10, 10, 5_000, 300, 20.0, 10)
ESTIMATE = Estimate(
    mapping="a", tally=FileTally(1_000, 2, 800, {("m", ""): CallTally(998, 4_000, 10)}), reuse=False,
    max_tokens=20, last_runs=None, input_tokens=Range(8_000, 20_000), output_tokens=Range(None, 19_960),
    price=Range(10**8, 2 * 10**8), currency="EUR", no_price="", seconds=None,
)  # fmt: skip


def lines(console, **changes):
    show_estimate(console, replace(ESTIMATE, **changes))
    return [" ".join(line.split()) for line in console.file.getvalue().splitlines()]


@pytest.fixture
def console():
    return Console(file=io.StringIO(), width=40)


def test_a_line_for_each_figure(console):
    """With its origin beside it; no line is wrapped."""
    assert lines(console) == [
        "rows 1,000 2 would fail without a call",
        "distinct inputs 800",
        "calls 998 `reuse: batch` would make it 800",
        "input tokens 8,000 to 20,000 5 to 2 bytes of what is sent for each",
        "output tokens at most 19,960 max_tokens 20 for each call",
        "price 1.00 to 2.00 EUR",
        "per row 0.001 to 0.002 EUR",
        "time unknown the store here has no finished run of the mapping",
    ]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"price": None, "no_price": "the reason"}, "price no price the reason"),
        ({"price": Range(10**8, None)}, "price at least 1.00 EUR without output tokens"),
        ({"price": Range(10**8, 10**8)}, "price 1.00 EUR"),
        ({"reuse": True}, "calls 998 at most: identical inputs share a call"),
        ({"seconds": 59.0, "last_runs": RUNS}, "time about 59 s as in its last 2 runs"),
        ({"seconds": 600.0, "last_runs": replace(RUNS, batches=1)}, "time about 10 min as in its last run"),
        ({"seconds": 5_400.0, "last_runs": RUNS}, "time about 1.5 h as in its last 2 runs"),
        (
            {"output_tokens": Range(300, 300), "last_runs": RUNS},
            "output tokens 300 as in its last 2 runs",
        ),
        (
            {"output_tokens": Range(None, None), "max_tokens": None},
            "output tokens unknown no max_tokens in the mapping, no tokens in its last runs",
        ),
    ],
)
def test_figures(console, changes, line):
    """What is not known is said, with the reason."""
    assert line in lines(console, **changes)
