"""Calls as `plan` and `errors --row` show them to people: like a request on the wire, the body last."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from service.cli.explanation import visible
from service.domain import exact_json
from service.domain.model import Json

TERMINAL_LINES = 40
"""Lines of a body or a reply that are shown on a terminal; all of them off one."""

TERMINAL_CHARS = 4_000

_BODIES = ("body", "stdin", "argument")
"""Members of calls that hold the input as it is sent. Those of services hold it among their parameters."""


def show_call(console: Console, call: dict[str, Json]) -> None:
    """Print a call (`CallDescriber.describe`): one line for each of its members, then the body."""
    rest = dict(call)
    body = next((rest.pop(name) for name in _BODIES if name in rest), rest.pop("parameters", None))
    invoke = str(rest.pop("invoke"))
    if invoke == "http":
        _line(console, f"{rest.pop('method')} {rest.pop('url')}", "bold")
        for name, value in dict(rest.pop("headers")).items():
            _line(console, f"{name}: {value}")
    else:
        _line(console, invoke, "bold")
    for name, value in rest.items():
        if isinstance(value, dict):
            for key, item in value.items():
                _line(console, f"{name}.{key}: {item}")
        elif value is not None:
            _line(console, f"{name}: {value if isinstance(value, str) else exact_json.indented(value)}")
    if body is not None:
        console.print()
        show_value(console, body)


def show_value(console: Console, value: Any) -> None:
    """Print JSON and a text as it is; cut on a terminal, with a note of how much there is."""
    text = visible(value if isinstance(value, str) else exact_json.indented(value))
    lines = text.split("\n")
    if not console.is_terminal or (len(lines) <= TERMINAL_LINES and len(text) <= TERMINAL_CHARS):
        _line(console, text)
        return
    _line(console, "\n".join(lines[:TERMINAL_LINES])[:TERMINAL_CHARS])
    note = f"… {len(text):,} characters in {len(lines):,} lines: | less, or --json, shows all"
    _line(console, note, "dim")


def _line(console: Console, text: str, style: str = "") -> None:
    # never wrapped: what is shown can be copied
    console.print(Text(visible(text), style), soft_wrap=True)
