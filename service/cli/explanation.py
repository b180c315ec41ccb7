"""What `rowfleet try` shows: the values as cells of output.csv, and where each came from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from service.csvio import output_cells
from service.domain.model import Json, Outcome, Status
from service.mapping import Explanation, FieldTrace

_LABEL_CHARS = 32


@dataclass(frozen=True, slots=True)
class Verdict:
    """What would become of a row with this reply, and why."""

    name: str
    explained: Explanation
    escape_formulas: bool

    @property
    def status(self) -> Status:
        """As in the column `_status`, were this the last attempt."""
        return Status.FAILED if self.explained.error else Status.SUCCESS

    @property
    def output_data(self) -> dict[str, Json]:
        """A row that failed has none."""
        return {} if self.explained.error else self.explained.values

    @property
    def error(self) -> str:
        """As in the column `_error`."""
        error = self.explained.error
        return f"{error.kind}: {error}" if error else ""

    def cells(self) -> dict[str, str]:
        """Every field, also of a row that failed, as text in output.csv."""
        values = self.explained.values
        outcome = Outcome(0, 0, self.status, {}, values, 0, "")
        cells = output_cells(outcome, (), tuple(values), escape_formulas=self.escape_formulas)
        return dict(zip(values, cells, strict=False))

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        explained = self.explained
        return {
            "status": str(self.status),
            "output_data": self.output_data,
            "error": self.error or None,
            "usage": {"input_tokens": explained.input_tokens, "output_tokens": explained.output_tokens},
            "explain": [
                {
                    "field": trace.name, "value": trace.value, "source": trace.method or None,
                    "path": trace.path or None,
                    "tried": [{"source": t.method, "path": t.path, "why": t.reason} for t in trace.failed],
                }
                for trace in explained.fields
            ],
        }  # fmt: skip


def show(console: Console, verdict: Verdict, *, explain: bool) -> None:
    """The verdict for people; off a terminal nothing is wrapped."""
    is_good = verdict.status is Status.SUCCESS
    head = Text(str(verdict.status), style="bold green" if is_good else "bold red")
    head.append(f"  {verdict.name}", style="not bold default")
    rows: list[tuple[Text, Text]] = []
    if verdict.error:
        rows.append((Text("error"), _printable(verdict.error, "red")))
    if is_good or explain:
        cells = verdict.cells()
        for trace in verdict.explained.fields:
            rows += _field(trace, cells[trace.name], explain=explain)
    usage = verdict.explained.input_tokens, verdict.explained.output_tokens
    if any(usage):
        rows.append((Text("tokens", "dim"), Text(f"{usage[0]:,} in, {usage[1]:,} out", "dim")))
    console.print(head, soft_wrap=True)
    if console.is_terminal:
        _print_grid(console, rows)
    else:
        _print_lines(console, rows)


def _field(trace: FieldTrace, cell: str, *, explain: bool) -> list[tuple[Text, Text]]:
    value = _printable(cell, "bold") if cell else Text("no value", "dim italic")
    rows = [(_printable(trace.name), value)]
    if explain:
        for attempt in trace.failed:
            text = _origin(attempt.method, attempt.path).append(f"\n{_visible(attempt.reason)}", "yellow")
            rows.append((Text("  tried", "dim"), text))
        if trace.method:
            rows.append((Text("  from", "dim"), _origin(trace.method, trace.path)))
    return rows


def _origin(source: str, path: str) -> Text:
    return Text(source, "cyan").append(f"  {_visible(path)}", "not bold default")


def _print_grid(console: Console, rows: list[tuple[Text, Text]]) -> None:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(max_width=_LABEL_CHARS, overflow="fold")
    grid.add_column(overflow="fold")
    for row in rows:
        grid.add_row(*row)
    console.print(grid)


def _print_lines(console: Console, rows: list[tuple[Text, Text]]) -> None:
    width = min(_LABEL_CHARS, max((len(label) for label, _ in rows), default=0))
    for label, text in rows:
        first, *more = text.plain.split("\n")
        console.print(Text(f"{label.plain:<{width}}  {first}".rstrip()), soft_wrap=True)
        for line in more:
            console.print(Text(f"{'':<{width}}  {line}".rstrip()), soft_wrap=True)


def _printable(text: str, style: str = "") -> Text:
    return Text(_visible(text), style)


def _visible(text: str) -> str:
    """Agents write anything: nothing of it may move the cursor or change the colours of a terminal."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)
