"""What `make demo` prints: processes, moments of the run, what lies where, and the first results."""

from __future__ import annotations

import csv
import json
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from service.domain.model import BatchView

COLUMNS = {"time": 7, "ingest": 7, "rows": 6, "aggregate": 10, "succeeded": 11, "failed": 7}
"""The columns of a moment and their widths. The state follows, of any width."""

MOMENTS = 10
"""So many lines, about, show how the rows end."""

SHOWN = {
    "input_City": "city", "output_airport": "nearest airport", "output_iata": "IATA",
    "output_distance_km": "km", "output_direction": "direction", "output_time_zone": "time zone",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Moment:
    """The messages in each queue, and the batch as its table has it; None before it is opened."""

    queues: tuple[int, ...]
    view: BatchView | None

    @property
    def state(self) -> str:
        """The state of the batch, "" before it is opened."""
        return "" if self.view is None else str(self.view.batch.state)

    @property
    def done(self) -> tuple[int, int]:
        """The rows that have succeeded and failed."""
        return (0, 0) if self.view is None else (self.view.all_counts.succeeded, self.view.all_counts.failed)


class Display:
    """Prints the demo, on a terminal or into a file."""

    def __init__(self) -> None:
        self.console = Console(width=None if sys.stdout.isatty() else 110, highlight=False, soft_wrap=True)
        self._begun = 0.0
        self._last: Moment | None = None

    def title(self, text: str, rest: str = "") -> None:
        """Begin a part."""
        self.console.print(f"\n[bold]{escape(text)}[/]{escape(rest)}")

    def line(self, name: str, text: str, width: int = 12) -> None:
        """Print a named fact."""
        self.console.print(f"  [cyan]{escape(name):<{width}}[/]{escape(text)}")

    def command(self, *words: str) -> None:
        """Print a command that a user would type."""
        self.console.print(f"  [dim]$[/] {escape(' '.join(words))}")

    def moments(self, rows: int) -> None:
        """Begin the lines of a run of about so many rows."""
        self.title("Messages in the queues, outcomes in the table", ", until the result is written:")
        self._rows, self._begun = rows, time.monotonic()
        self.console.print(f"  [dim]{_line(COLUMNS)}  state of the batch[/]")

    def moment(self, moment: Moment) -> None:
        """Print a moment if the batch has another state, or a tenth of its rows have ended since the last."""
        last = self._last
        is_near = last is not None and sum(moment.done) - sum(last.done) < self._rows / MOMENTS
        if last is not None and moment.state == last.state and is_near:
            return
        self._last = moment
        numbers = (f"{number:,}" for number in (*moment.queues, *moment.done))
        self.console.print(
            f"  {_line((f'{time.monotonic() - self._begun:.1f} s', *numbers))}  {moment.state}"
        )

    def objects(self, bucket: str, sizes: Mapping[str, int]) -> None:
        """List the objects of a bucket; those under `work/` as one line."""
        kept = {key: size for key, size in sizes.items() if not key.startswith("work/")}
        for key, size in kept.items():
            self.console.print(f"  {f'{size:,}':>9} bytes  s3://{escape(f'{bucket}/{key}')}")
        if work := [size for key, size in sizes.items() if key not in kept]:
            self.console.print(
                f"  {f'{sum(work):,}':>9} bytes  s3://{bucket}/work/… ({len(work)}, which expire)"
            )

    def results(self, output: Path, rows: int) -> None:
        """Print the first rows of the result, its failures, and the manifest's figures."""
        table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2))
        for title in SHOWN.values():
            table.add_column(title, justify="right" if title == "km" else "left", no_wrap=True)
        for row in _first_rows(output, rows):
            table.add_row(*(escape(row[name]) for name in SHOWN))
        self.console.print(table)
        manifest = json.loads(output.with_name(f"{output.stem}.manifest.json").read_text("utf-8"))
        tokens = manifest["input_tokens"] + manifest["output_tokens"]
        self.console.print(
            f"{manifest['total']:,} rows, of which {manifest['failed']:,} failed; "
            f"agent time {manifest['agent_ms'] / 1000:,.0f} s, {tokens:,} tokens",
            style="dim",
        )


def _line(texts: Iterable[str]) -> str:
    return "".join(f"{text:>{width}}" for text, width in zip(texts, COLUMNS.values(), strict=True))


def _first_rows(path: Path, count: int) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return [row for row, _ in zip(csv.DictReader(file), range(count), strict=False)]
