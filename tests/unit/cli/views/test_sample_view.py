"""The figures of a sample as people see them."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from service.app.estimates.sample_figures import RestOfRows, SampleFigures
from service.cli.views.sample_view import show_figures

FIGURES = SampleFigures(
    batch_id="up#e1", rows=20, succeeded=19, failed=1, calls=21,
    tokens={"input": 1_200, "output": 300}, currency="USD", spent="0.04", cost_per_row="0.002",
    seconds=12.0, rest=RestOfRows(480, 288.0, "0.90", "0.96"),
    causes=[{"rows": 1, "type": "AgentRejectedError", "class": "rejected", "message": "[no]"}],
)  # fmt: skip


@pytest.fixture
def console():
    return Console(file=io.StringIO(), width=40)


def lines(console, **changes):
    show_figures(console, replace(FIGURES, **changes))
    return [" ".join(line.split()) for line in console.file.getvalue().splitlines()]


def test_a_line_for_each_figure(console):
    """The sample, then the other rows; the causes of its failures are no markup."""
    assert lines(console) == [
        "sample 20 rows 19 succeeded, 1 failed",
        "calls 21 repeats and failures too",
        "input tokens 1,200 as the replies report them",
        "output tokens 300",
        "price 0.04 USD",
        "per row 0.002 USD",
        "time 12 s",
        "rest 480 rows",
        "price 0.90 to 0.96 USD",
        "time 4.8 min at the pace of the sample",
        "1 failed: AgentRejectedError (rejected): [no]",
    ]


def test_what_is_not_known_is_said_or_left_out(console):
    """No price is no zero; a file without other rows has neither a price nor a time for them."""
    unknown = {"spent": None, "cost_per_row": None, "seconds": None, "causes": ()}
    shown = lines(console, **unknown, rest=RestOfRows(480))
    assert shown[4:] == ["price no price", "rest 480 rows", "price no price"]
    assert lines(console, **unknown, rest=RestOfRows(0))[-1] == "rest 0 rows"
