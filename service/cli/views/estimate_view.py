"""Estimates as `estimate` shows them to people."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from service.app.estimates.estimate import LEAST_BYTES_PER_TOKEN, MOST_BYTES_PER_TOKEN, Estimate, Range
from service.domain.money import optional_text

_SECONDS_OF_A_MINUTE, _SECONDS_OF_AN_HOUR = 60, 3_600


def show_estimate(console: Console, estimate: Estimate) -> None:
    """Print an estimate: a line for each figure, with the origin of the figure beside it."""
    show_lines(console, _lines(estimate))


def show_lines(console: Console, lines: Sequence[tuple[str, str, str]]) -> None:
    """Print lines of a name, a value and a note, in columns."""
    names, values = (max(len(line[column]) for line in lines) for column in (0, 1))
    for name, value, note in lines:
        line = Text.assemble((name.ljust(names), "bold"), "  ", value.ljust(values), "  ", (note, "dim"))
        line.rstrip()
        console.print(line, highlight=False, soft_wrap=True)


def _lines(estimate: Estimate) -> list[tuple[str, str, str]]:
    tally = estimate.tally
    lost = f"{tally.unsendable:,} would fail without a call" if tally.unsendable else ""
    bytes_per_token = f"{MOST_BYTES_PER_TOKEN} to {LEAST_BYTES_PER_TOKEN} bytes of what is sent for each"
    return [
        ("rows", f"{tally.rows:,}", lost),
        ("distinct inputs", f"{tally.distinct:,}", ""),
        ("calls", f"{tally.calls:,}", _reuse_note(estimate)),
        ("input tokens", _counts(estimate.input_tokens), bytes_per_token),
        ("output tokens", *_output(estimate)),
        *_price(estimate),
        ("time", *_time(estimate)),
    ]


def _reuse_note(estimate: Estimate) -> str:
    if estimate.reuse:
        return "at most: identical inputs share a call"
    tally = estimate.tally
    return f"`reuse: batch` would make it {tally.distinct:,}" if tally.distinct < tally.calls else ""


def _output(estimate: Estimate) -> tuple[str, str]:
    high = estimate.output_tokens.high
    if high is None:
        return "unknown", "no max_tokens in the mapping, no tokens in its last runs"
    if estimate.output_source == "max_tokens":
        return f"at most {high:,}", f"max_tokens {estimate.max_tokens:,} for each call"
    return f"{high:,}", f"as in its last {_runs(estimate)}"


def _price(estimate: Estimate) -> list[tuple[str, str, str]]:
    if estimate.price is None:
        return [("price", "no price", estimate.no_price)]
    is_open = estimate.price.high is None
    lines = [("price", _money(estimate, estimate.price), "without output tokens" if is_open else "")]
    if (per_row := estimate.price_per_row) is not None:
        lines.append(("per row", _money(estimate, per_row), ""))
    return lines


def _money(estimate: Estimate, price: Range) -> str:
    low, high = optional_text(price.low), optional_text(price.high)
    if high is None:
        return f"at least {low} {estimate.currency}"
    return f"{high if low in (None, high) else f'{low} to {high}'} {estimate.currency}"


def _time(estimate: Estimate) -> tuple[str, str]:
    seconds = estimate.seconds
    if seconds is None:
        return "unknown", "the store here has no finished run of the mapping"
    if seconds < _SECONDS_OF_A_MINUTE:
        text = f"about {seconds:.0f} s"
    elif seconds < _SECONDS_OF_AN_HOUR:
        text = f"about {seconds / _SECONDS_OF_A_MINUTE:.0f} min"
    else:
        text = f"about {seconds / _SECONDS_OF_AN_HOUR:.1f} h"
    return text, f"as in its last {_runs(estimate)}"


def _runs(estimate: Estimate) -> str:
    number = estimate.last_runs.batches if estimate.last_runs else 0
    return "run" if number == 1 else f"{number} runs"


def _counts(counts: Range) -> str:
    low, high = counts.low or 0, counts.high or 0
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
