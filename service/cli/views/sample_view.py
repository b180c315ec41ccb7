"""The figures of a sample as `estimate` shows them to people."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from service.app.estimates.sample_figures import RestOfRows, SampleFigures
from service.cli.status import duration_text
from service.cli.views.estimate_view import show_lines


def show_figures(console: Console, figures: SampleFigures) -> None:
    """Print the figures of a sample, a line for each, and the causes of its failed rows."""
    show_lines(console, _lines(figures))
    for cause in figures.causes:
        text = f"{cause['rows']:,} failed: {cause['type']} ({cause['class']}): {cause['message']}"
        console.print(Text(text, "yellow"), soft_wrap=True)


def _lines(figures: SampleFigures) -> list[tuple[str, str, str]]:
    tokens = figures.tokens
    price, per_row = figures.spent, figures.cost_per_row
    lines = [
        ("sample", f"{figures.rows:,} rows", f"{figures.succeeded:,} succeeded, {figures.failed:,} failed"),
        ("calls", f"{figures.calls:,}", "repeats and failures too"),
        ("input tokens", f"{tokens['input']:,}", "as the replies report them"),
        ("output tokens", f"{tokens['output']:,}", ""),
        ("price", "no price" if price is None else f"{price} {figures.currency}", ""),
    ]
    if per_row is not None:
        lines.append(("per row", f"{per_row} {figures.currency}", ""))
    if figures.seconds is not None:
        lines.append(("time", duration_text(figures.seconds), ""))
    return lines if figures.rest is None else [*lines, *_rest(figures.rest, figures.currency)]


def _rest(rest: RestOfRows, currency: str | None) -> list[tuple[str, str, str]]:
    lines = [("rest", f"{rest.rows:,} rows", "")]
    if not rest.rows:
        return lines
    if rest.low is None or rest.high is None:
        lines.append(("  price", "no price", ""))
    else:
        price = rest.low if rest.low == rest.high else f"{rest.low} to {rest.high}"
        lines.append(("  price", f"{price} {currency}", ""))
    if rest.seconds is not None:
        lines.append(("  time", duration_text(rest.seconds), "at the pace of the sample"))
    return lines
