"""The tables of costs as Markdown, for `make cost` and docs/deploy.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

from benchmarks.cost.model import KB, Job, Prices, rest_lines, run_lines, total

SECONDS = (2.0, 30.0)
SIZES = (KB, 2 * KB)


def run_table(job: Job, measured: Sequence[Mapping[str, Any]], prices: Prices) -> str:
    """The bill of one run, item by item."""
    lines = run_lines(job, measured, prices)
    rows = [(line.item, line.calculation, _usd(line.usd)) for line in lines]
    head = ("item", "calculation", "$")
    return _table(head, [*rows, ("**together**", "", f"**{_usd(total(lines))}**")])


def comparison(job: Job, measured: Sequence[Mapping[str, Any]], prices: Prices) -> str:
    """The bills of runs with short and long calls, small and larger outcomes, beside each other."""
    jobs = [replace(job, seconds=seconds, outcome_bytes=size) for seconds, size in product(SECONDS, SIZES)]
    bills = [run_lines(each, measured, prices) for each in jobs]
    head = ("item", *(f"{each.seconds:g} s, {each.outcome_bytes // KB} KB" for each in jobs))
    rows = [(items[0].item, *(_usd(line.usd) for line in items)) for items in zip(*bills, strict=True)]
    return _table(head, [*rows, ("**together**", *(f"**{_usd(total(bill))}**" for bill in bills))])


def rest_table(prices: Prices) -> str:
    """The bills of a month without a run, with each way of scaling."""
    bills = {scaling: rest_lines(scaling, prices) for scaling in ("scaler", "alarms")}
    items: dict[str, tuple[str, dict[str, float]]] = {}
    for scaling, bill in bills.items():
        for line in bill:
            items.setdefault(line.item, (line.calculation, {}))[1][scaling] = line.usd
    head = ("item", "calculation", '`"scaler"`', '`"alarms"`')
    rows = [
        (item, calculation, *(_usd(sums[scaling]) if scaling in sums else "-" for scaling in bills))
        for item, (calculation, sums) in items.items()
    ]
    return _table(
        head, [*rows, ("**together**", "", *(f"**{_usd(total(bill))}**" for bill in bills.values()))]
    )


def _usd(sum_: float) -> str:
    return f"{sum_:.2f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
