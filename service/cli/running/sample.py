"""The sample of a run on a terminal: its rows, what they cost, and the question whether to go on."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from service.app.laptop.pipeline import Stop
from service.batch.role_ports import Ports
from service.cli.status import duration_text, rest_text
from service.domain.errors import SourceError
from service.domain.model import Batch, Hold, HoldReason, parse_url

MOST_BYTES = 4 * 2**20
SHOWN_FIELDS = 6
"""Output fields whose values are shown beside each row; all have a line of their own."""

_YES, _NO = ("y", "yes"), ("n", "no")


def waits_only_for_approval(batch: Batch) -> bool:
    """True if a batch is held for the approval of its sample, and for nothing else."""
    return bool(batch.holds) and all(hold.reason == HoldReason.APPROVAL for hold in batch.holds)


def can_ask(console: Console) -> bool:
    """True if somebody is there who can answer."""
    return console.is_terminal and sys.stdin.isatty()


async def read_report(ports: Ports, hold: Hold) -> dict[str, Any] | None:
    """The report that the hold names, None if it was not written. Raises RetryableError and AccessError."""
    url = hold.detail.get("report")
    if not url:
        return None
    try:
        found = await ports.objects.head(*parse_url(str(url)))
        report: dict[str, Any] = json.loads(await ports.objects.read(found, 0, min(found.size, MOST_BYTES)))
    except (SourceError, ValueError):
        return None
    return report


def show_sample(console: Console, report: Mapping[str, Any]) -> None:
    """Print the report on a sample: rows, fields, causes of failures, tokens, and the rows that wait."""
    kind = "random rows" if report["random"] else "rows"
    succeeded, failed = report["succeeded"], report["failed"]
    console.print(
        Text.assemble(
            ("SAMPLE", "bold"),
            f"  {report['rows']:,} {kind} of {report['of']:,}: {succeeded:,} succeeded, {failed:,} failed",
        )
    )
    console.print(_rows(report))
    console.print()
    console.print(_fields(report))
    for cause in report["causes"]:
        text = f"{cause['rows']:,} failed: {cause['type']} ({cause['class']}): {cause['message']}"
        console.print(Text(text, "yellow"))
    for problem in report["unmet"]:
        console.print(Text(problem, "yellow"))
    console.print(Text(_used(report)))
    console.print(Text(rest_text(report), "bold"))


async def ask(console: Console, waiting: int, stop: Stop) -> bool | None:
    """The answer of the user: True for yes, False for no; None if the input ends or the user interrupts."""
    while not stop.asked.is_set():
        console.print(f"Run the other {waiting:,} rows? [y/n] ", end="", markup=False, highlight=False)
        line = await _line(stop)
        if line is None or not line:
            console.print()
            return None
        word = line.strip().lower()
        if word in _YES:
            return True
        if word in _NO:
            return False
    return None


async def _line(stop: Stop) -> str | None:
    """A line of the terminal, "" at its end; None if the user interrupts."""
    loop = asyncio.get_running_loop()
    is_there = asyncio.Event()
    # Not in a thread, which an interrupt could not end.
    loop.add_reader(sys.stdin.fileno(), is_there.set)
    waiting = [asyncio.ensure_future(event.wait()) for event in (is_there, stop.asked)]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        loop.remove_reader(sys.stdin.fileno())
        for each in waiting:
            each.cancel()
    return sys.stdin.readline() if is_there.is_set() else None


def _rows(report: Mapping[str, Any]) -> Table:
    names = list(report["fields"])[:SHOWN_FIELDS]
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("row", justify="right")
    for name in names:
        table.add_column(name, no_wrap=True, overflow="ellipsis")
    for row in report["shown"]:
        if row["error"]:
            values = [Text(row["error"], "red"), *[Text("")] * (len(names) - 1)]
        else:
            values = [Text(_cell(row["output"].get(name))) for name in names]
        table.add_row(f"{row['row']:,}", *values)
    return table


def _fields(report: Mapping[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("field", no_wrap=True)
    for name in ("filled", "share", "distinct values"):
        table.add_column(name, justify="right")
    for name, field in report["fields"].items():
        style = "" if field["share"] == 1 else "yellow"
        share = Text(f"{field['share']:.0%}", style)
        table.add_row(Text(name), f"{field['filled']:,}", share, f"{field['distinct']:,}")
    return table


def _used(report: Mapping[str, Any]) -> str:
    tokens = f"{report['input_tokens']:,} input tokens and {report['output_tokens']:,} output tokens"
    text = f"{report['calls']:,} calls in {duration_text(report['seconds'])}, {tokens}"
    if report.get("cost_per_row") is not None:
        return f"{text}, {report['cost_per_row']} {report['currency']} for each row"
    return text


def _cell(value: Any) -> str:
    """A value on one line."""
    text = value if isinstance(value, str) else "" if value is None else json.dumps(value, ensure_ascii=False)
    return " ".join(text.split())
