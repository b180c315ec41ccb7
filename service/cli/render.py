"""Progress, tables and results as commands show them to people, printed with rich to a given console."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, Task, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from service.app.settings import SettingLine
from service.app.status import FailureGroup
from service.app.submit import Reading
from service.batch.money_figures import spent_text
from service.cli.money_view import cost_text, money_text
from service.cli.status import STATE_COLOURS, budget_text, operation_text
from service.domain.model import Batch, BatchView, State

LINE_EVERY_S, SAME_EVERY_S = 5.0, 60.0
"""Interval between progress lines when the output is not a terminal, and between lines that are the same."""

RATE_WINDOW_S = 10.0

_MIN_READINGS = 2
"""Readings that a rate needs."""

_MAX_IN_UNIT = 90
"""Longest time shown in seconds, or in minutes; longer times are shown in the next unit."""

_GAP = "  "


class Rate:
    """Rows per second over the last `RATE_WINDOW_S`."""

    def __init__(self) -> None:
        self._points: deque[tuple[float, int]] = deque()

    def record(self, now: float, done: int) -> None:
        """Add a reading: `done` rows at the time `now`."""
        self._points.append((now, done))
        while len(self._points) > _MIN_READINGS and now - self._points[0][0] > RATE_WINDOW_S:
            self._points.popleft()

    @property
    def per_s(self) -> float:
        """The rate, 0 until there are readings at two times."""
        (start, first), (end, last) = self._points[0], self._points[-1]
        return (last - first) / (end - start) if end > start else 0.0


class ProgressReport:
    """Shows the progress of a batch: a bar on a terminal, otherwise a line every few seconds."""

    def __init__(
        self,
        console: Console,
        bar: Progress | None,
        now: Callable[[], float] = time.monotonic,
        estimate: int | None = None,
    ) -> None:
        self._console = console
        self._now = now
        self._bar = bar
        self._estimate = estimate
        self._task = bar.add_task("starting", total=estimate, failed=0, rate="", left="") if bar else None
        self._rate = Rate()
        self._last_line, self._last_text = now(), ""
        self._outage = ""

    def update(self, reading: Reading) -> None:
        """Show the latest reading. An outage is printed when it changes, an operation when it is made."""
        view, outage = reading.view, reading.outage
        if view is None:
            return
        for operation in reading.operations:
            self._console.print(
                operation_text(operation.as_json()),
                style="yellow",
                highlight=False,
                markup=False,
                soft_wrap=True,
            )
        # an ended batch has no outage any more, but its target may still be down
        if outage != self._outage and not view.batch.state.is_final:
            self._outage = outage
            self._print_trouble(view.batch.state, outage)
        now = self._now()
        self._rate.record(now, view.all_counts.done)
        rate = self._rate.per_s
        total = self._total(view)
        left = _time_left(total, view.all_counts.done, rate)
        spent = spent_text(view)
        if spent is not None and view.batch.prices is not None:
            left = f"{money_text(spent, view.batch.prices['currency'])}{', ' if left else ''}{left}"
        if outage:
            left = "results wait" if view.batch.state is State.AGGREGATING else "target down"
        if self._bar is not None and self._task is not None:
            self._bar.update(
                self._task,
                description=str(view.batch.state).lower().replace("_", " "),
                total=total,
                completed=view.all_counts.done,
                failed=view.all_counts.failed,
                rate=f"{rate:,.0f} rows/s" if rate else "",
                left=left,
            )
        elif now - self._last_line >= LINE_EVERY_S:
            self._print_line(view, rate, left, now)

    def _total(self, view: BatchView) -> int | None:
        """The rows of the batch: as counted by the splitter, or as estimated while that is not refuted."""
        batch = view.batch
        if batch.total is not None or self._estimate is None:
            return batch.total
        return self._estimate if batch.checkpoint.rows <= self._estimate else None

    def _print_trouble(self, state: State, outage: str) -> None:
        if state is State.AGGREGATING:
            text = outage or "results are written"
        else:
            text = f"target down: {outage}" if outage else "target back"
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _print_line(self, view: BatchView, rate: float, left: str, now: float) -> None:
        counts, total = view.all_counts, self._total(view)
        # before the seal the total is at least the number of rows sent
        of = f"{total:,}" if total is not None else f"{view.batch.checkpoint.rows:,}+"
        text = (
            f"{view.batch.state}: {counts.done:,} of {of} rows, {counts.failed:,} failed, "
            f"{rate:,.0f} rows/s{', ' + left if left else ''}"
        )
        if text != self._last_text or now - self._last_line >= SAME_EVERY_S:
            self._last_line, self._last_text = now, text
            self._console.print(text, highlight=False, soft_wrap=True)


@contextmanager
def progress(
    console: Console, *, quiet: bool = False, estimate: int | None = None
) -> Iterator[ProgressReport]:
    """Report progress on `console`, which is stderr: results belong to stdout.

    `estimate`: the number of rows until the splitter has counted them, None if nobody knows.
    """
    if quiet or not console.is_terminal:
        yield ProgressReport(Console(quiet=True) if quiet else console, None, estimate=estimate)
        return
    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.description:<11}"),
        BarColumn(),
        _RowsColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
        console=console,
        transient=True,
    )
    with bar:
        yield ProgressReport(console, bar, estimate=estimate)


class _RowsColumn(TextColumn):
    """`1,234/5,000 rows, 3 failed`."""

    def __init__(self) -> None:
        super().__init__("")

    def render(self, task: Task) -> Text:
        total = f"/{task.total:,.0f}" if task.total is not None else ""
        text = Text(f"{task.completed:,.0f}{total} rows")
        if task.fields["failed"]:
            text.append(f", {task.fields['failed']:,} failed", style="yellow")
        return text


def show_finished(
    console: Console, status: Mapping[str, Any], files: Mapping[str, Path | str], pace: str = ""
) -> None:
    """Print the end of a run that has results: state, counts, rate with its `pace`, and files."""
    state = State(status["state"])
    console.print(Text(str(state), style=f"bold {STATE_COLOURS.get(state, '')}".strip()), end="  ")
    console.print(escape(status["batch_id"]), highlight=False)
    seconds = (status["due"] or 0) / status["rate_per_s"] if status["rate_per_s"] else 0
    reused = f"{status['reused']:,} reused, " if status["reused"] else ""
    console.print(
        f"{status['total']:,} rows: {status['succeeded']:,} succeeded, {status['failed']:,} failed, "
        f"{reused}in {seconds:,.1f} s ({status['rate_per_s'] or 0:,.0f} rows/s)"
        + (f", {pace}" if pace else ""),
        highlight=False,
        soft_wrap=True,
    )
    if cost := cost_text(status["cost"]):
        console.print(f"{status['calls']:,} calls: {cost}", highlight=False, soft_wrap=True)
    if budget := status["budget"]:
        console.print(f"budget: {budget_text(budget)}", highlight=False, soft_wrap=True)
    if reason := status["cancel_reason"]:
        console.print(Text(f"cancelled: {reason}", "yellow"), soft_wrap=True)
    if unread := status["unread_from"]:
        console.print(f"not read: row {unread:,} and all after it", style="yellow", highlight=False)
    width = max((len(name) for name in files), default=0)
    for name, path in files.items():
        console.print(f"  {name:<{width}}  {escape(str(path))}", highlight=False, soft_wrap=True)


def show_notes(console: Console, batch: Batch) -> None:
    """Print what is remarkable about the source: renamed columns, skipped records."""
    lines = list(batch.notes)
    if blanks := batch.checkpoint.blanks:
        lines.append(f"{blanks:,} blank record{'s' if blanks > 1 else ''} skipped (csv.blank_records)")
    for line in lines:
        console.print(line, style="yellow", highlight=False, markup=False, soft_wrap=True)


def show_failures(console: Console, groups: Sequence[FailureGroup]) -> None:
    """Print `rowfleet errors`: causes, the most frequent first."""
    if not groups:
        console.print("no failed rows")
        return
    rows = [_failure_cells(group) for group in groups]
    if not console.is_terminal:
        _print_whole(console, [_FAILURE_COLUMNS, *rows])
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in _FAILURE_COLUMNS:
        is_short = name in ("class", "error")
        table.add_column(
            name, justify="right" if name == "rows" else "left", no_wrap=is_short, overflow="fold"
        )
    for row in rows:
        table.add_row(*map(escape, row))
    console.print(table)


_FAILURE_COLUMNS = ("rows", "class", "error", "message", "such as row")


def _failure_cells(group: FailureGroup) -> tuple[str, ...]:
    message = " ".join(group.message.split())
    return f"{group.count:,}", group.failure_class, group.type, message, ", ".join(map(str, group.rows))


def _print_whole(console: Console, rows: Sequence[Sequence[str]]) -> None:
    """Print a table for files and pipes: one line for each row, however long. The first column is numbers."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.ljust(width) if i else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        console.print(Text(_GAP.join(cells).rstrip()), soft_wrap=True)


def show_dead_letters(console: Console, letters: Sequence[Mapping[str, Any]]) -> None:
    """Print `rowfleet dead-letters list`: four lines for each, since ids and reasons are long."""
    if not letters:
        console.print("no dead letters")
    for letter in letters:
        console.print(
            Text.assemble((letter["id"], "bold"), f"  {letter['queue']}  {letter['batch_id'] or 'no batch'}"),
            soft_wrap=True,
        )
        if letter["first_received"]:
            console.print(Text(f"  first received {letter['first_received']}", "dim"), soft_wrap=True)
        console.print(Text(f"  {letter['reason']}"), soft_wrap=True)
        console.print(Text(f"  {letter['body']}", "dim"), soft_wrap=True)


def show_dead_letter_count(console: Console, counts: Mapping[str, int] | None) -> None:
    """Print how many dead letters there are, below a status or a list; nothing if there are none."""
    if counts is None:
        console.print("dead letters could not be counted", style="dim", highlight=False)
    elif number := sum(counts.values()):
        where = ", ".join(f"{kind} {count:,}" for kind, count in counts.items() if count)
        console.print(
            f"about {number:,} dead letter{'s' if number > 1 else ''} ({where}): rowfleet dead-letters list",
            style="yellow", highlight=False, soft_wrap=True,
        )  # fmt: skip


def show_settings(console: Console, lines: Sequence[SettingLine]) -> None:
    """Print `rowfleet settings`: every setting with its description, by section; changed ones stand out."""
    section = ""
    for line in lines:
        words = line.name.split("__")
        if words[:-1] != section.split("__")[:-1]:
            console.print()
        section = line.name
        changed = line.origin != "default"
        text = Text(f"{line.name}={line.value}", style="bold" if changed else "")
        text.append(f" {line.unit}" if line.unit else "", style="dim")
        if changed:
            text.append(f"  ({line.origin}; default {line.default or 'empty'})", style="yellow")
        console.print(text, soft_wrap=True)
        console.print(Text(f"    {line.description}", style="dim"), soft_wrap=True)


def _time_left(total: int | None, done: int, rate: float) -> str:
    if total is None or rate <= 0 or done >= total:
        return ""
    seconds = (total - done) / rate
    if seconds < _MAX_IN_UNIT:
        return f"{seconds:.0f} s left"
    minutes = seconds / 60
    return f"{minutes:.0f} min left" if minutes < _MAX_IN_UNIT else f"{minutes / 60:.1f} h left"
