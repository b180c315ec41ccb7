"""The sample of a run as it is shown."""

import io

from rich.console import Console

from service.cli.running.sample import show_sample

REPORT = {
    "random": False,
    "rows": 3,
    "of": 500,
    "succeeded": 2,
    "failed": 1,
    "shown": [
        {"row": 1, "output": {"answer": "A\nB", "tags": ["x"]}, "error": None},
        {"row": 2, "output": {}, "error": "AgentRejectedError: [no]"},
        {"row": 3, "output": {"answer": "C"}, "error": None},
    ],
    "fields": {
        "answer": {"filled": 2, "share": 1.0, "distinct": 2},
        "tags": {"filled": 1, "share": 0.5, "distinct": 1},
    },
    "causes": [{"rows": 1, "type": "AgentRejectedError", "class": "rejected", "message": "[no]"}],
    "unmet": ["success is 66.66% (2 of 3), and >= 98% is asked for"],
    "calls": 3,
    "seconds": 1.5,
    "input_tokens": 1_200,
    "output_tokens": 30,
    "rest": {"rows": 497, "seconds": 150.0},
}


def printed(report):
    """The lines of the report on a wide terminal."""
    console = Console(file=io.StringIO(), width=120)
    show_sample(console, report)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_rows_fields_and_the_rest_are_shown():
    """Values stand on one line each; text of agents is no markup."""
    assert printed(REPORT) == [
        "SAMPLE  3 rows of 500: 2 succeeded, 1 failed",
        "row  answer                    tags",
        '  1  A B                       ["x"]',
        "  2  AgentRejectedError: [no]",
        "  3  C",
        "",
        "field   filled  share  distinct values",
        "answer       2   100%                2",
        "tags         1    50%                1",
        "1 failed: AgentRejectedError (rejected): [no]",
        "success is 66.66% (2 of 3), and >= 98% is asked for",
        "3 calls in 1.5 s, 1,200 input tokens and 30 output tokens",
        "the other 497 rows take 2.5 min at the pace of the sample",
    ]


def test_prices_are_shown_if_they_are_known():
    """For each row, and for all rows that wait."""
    priced = {
        "currency": "USD",
        "cost_per_row": "0.002",
        "rest": REPORT["rest"] | {"cost": {"low": "0.99", "high": "1.10"}},
    }
    *_, used, rest = printed(REPORT | priced)
    assert used.endswith("30 output tokens, 0.002 USD for each row")
    assert rest.endswith("at the pace of the sample, and cost 0.99 to 1.10 USD")
