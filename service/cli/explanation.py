"""The output of `rowfleet try`: the values as cells of output.csv, and the origin of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from service.csvio import OutputRows
from service.domain.model import Json, Outcome, Status
from service.mapping import Explanation, FieldTrace

_LABEL_CHARS = 32


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome that a row with this reply would have, and the origin of its values."""

    name: str
    explanation: Explanation
    escape_formulas: bool

    @property
    def status(self) -> Status:
        """The value of the column `_status` if this were the last attempt."""
        return Status.FAILED if self.explanation.error else Status.SUCCESS

    @property
    def output_data(self) -> dict[str, Json]:
        """The extracted values; none if the row would fail."""
        return {} if self.explanation.error else self.explanation.values

    @property
    def error(self) -> str:
        """The value of the column `_error`."""
        error = self.explanation.error
        return f"{error.kind}: {error}" if error else ""

    def cells(self) -> dict[str, str]:
        """Every field as text in output.csv, even if the row would fail."""
        values = self.explanation.values
        outcome = Outcome(
            number=0,
            round=0,
            status=self.status,
            input_data={},
            output_data=values,
            execution_time_ms=0,
            timestamp="",
        )
        cells = OutputRows((), tuple(values), escape_formulas=self.escape_formulas).cells(outcome)
        # the cells of `_status` and the other columns of every output follow those of the fields
        return dict(zip(values, cells, strict=False))

    def as_json(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        explanation = self.explanation
        return {
            "status": str(self.status),
            "output_data": self.output_data,
            "error": self.error or None,
            "usage": {"input_tokens": explanation.input_tokens, "output_tokens": explanation.output_tokens},
            "explain": [
                {
                    "field": trace.name, "value": trace.value, "source": trace.method or None,
                    "path": trace.path or None,
                    "tried": [{"source": t.method, "path": t.path, "why": t.reason} for t in trace.failed],
                }
                for trace in explanation.fields
            ],
        }  # fmt: skip


def show_verdict(console: Console, verdict: Verdict, *, explain: bool) -> None:
    """Print the verdict for people; lines are wrapped on a terminal only."""
    is_good = verdict.status is Status.SUCCESS
    head = Text(str(verdict.status), style="bold green" if is_good else "bold red")
    head.append(f"  {verdict.name}", style="not bold default")
    rows: list[tuple[Text, Text]] = []
    if verdict.error:
        rows.append((Text("error"), _printable(verdict.error, "red")))
    if is_good or explain:
        cells = verdict.cells()
        for trace in verdict.explanation.fields:
            rows += _field_rows(trace, cells[trace.name], explain=explain)
    input_tokens, output_tokens = verdict.explanation.input_tokens, verdict.explanation.output_tokens
    if input_tokens or output_tokens:
        text = Text(f"{input_tokens:,} in, {output_tokens:,} out", "dim")
        rows.append((Text("tokens", "dim"), text))
    console.print(head, soft_wrap=True)
    # off a terminal each value must stay on its line, for grep and diff
    if console.is_terminal:
        _print_grid(console, rows)
    else:
        _print_lines(console, rows)


def _field_rows(trace: FieldTrace, cell: str, *, explain: bool) -> list[tuple[Text, Text]]:
    value = _printable(cell, "bold") if cell else Text("no value", "dim italic")
    rows = [(_printable(trace.name), value)]
    if explain:
        for attempt in trace.failed:
            text = _origin(attempt.method, attempt.path).append(f"\n{visible(attempt.reason)}", "yellow")
            rows.append((Text("  tried", "dim"), text))
        if trace.method:
            rows.append((Text("  from", "dim"), _origin(trace.method, trace.path)))
    return rows


def _origin(source: str, path: str) -> Text:
    return Text(source, "cyan").append(f"  {visible(path)}", "not bold default")


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
    return Text(visible(text), style)


def visible(text: str) -> str:
    """Escape control characters, with which an agent's text could move the cursor or change colours."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)
