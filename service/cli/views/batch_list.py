"""The list of batches as `rowfleet list` prints it."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from service.batch.money_figures import spent_text
from service.cli.money_view import money_text
from service.cli.status import STATE_COLOURS, short_time
from service.domain.model import BatchView

_GAP = "  "
_NUMBERS = ("rows", "spent")
"""The columns that are flush right."""

_SPENT = 3
"""The column that is left out if no batch has a price."""

_MIN_SOURCE = 16
"""A source that would be shorter is left out."""


def show_batches(console: Console, batches: Sequence[tuple[BatchView, str]]) -> None:
    """Print `rowfleet list`: the latest batches with their sources, a line each. Ids and states are whole.

    On a narrow terminal the source is cut first, then left out, and then the time of the start.
    """
    if not batches:
        console.print("no batches yet; `rowfleet submit FILE --mapping NAME` starts one")
        return
    rows = [
        ("batch", "state", "rows", "spent", "started (UTC)", "source"),
        *(_batch_cells(view, source) for view, source in batches),
    ]
    if not any(row[_SPENT] for row in rows[1:]):
        rows = [row[:_SPENT] + row[_SPENT + 1 :] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    room = console.width - sum(width + len(_GAP) for width in widths[:-1])
    shown = len(widths)
    if console.is_terminal and room < widths[-1]:
        widths[-1] = room
        # The time of the start needs no gap behind it once the source is left out.
        shown -= (room < _MIN_SOURCE) + (room < -len(_GAP))
    for row, listed in zip(rows, [None, *batches], strict=True):
        style = "dim" if listed is None else ""
        cells = [
            Text(_fitted(row[i], widths[i], left=rows[0][i] not in _NUMBERS), style) for i in range(shown)
        ]
        if listed is not None:
            cells[1].stylize(STATE_COLOURS.get(listed[0].batch.state, ""))
        line = Text(_GAP).join(cells)
        line.rstrip()
        console.print(line, soft_wrap=True)


def _batch_cells(view: BatchView, source: str) -> tuple[str, ...]:
    batch, spent = view.batch, spent_text(view)
    held = f" ({', '.join(hold.reason for hold in batch.holds)})" if batch.holds else ""
    return (
        batch.batch_id,
        f"{batch.state}{held}",
        "" if batch.total is None else f"{batch.total:,}",
        "" if spent is None or batch.prices is None else money_text(spent, batch.prices["currency"]),
        short_time(batch.created_at),
        source,
    )


def _fitted(text: str, width: int, *, left: bool) -> str:
    """The text padded to the width; a longer one loses its begin, because a path tells most at its end."""
    if len(text) > width:
        return "…" + text[len(text) - width + 1 :]
    return text.ljust(width) if left else text.rjust(width)
