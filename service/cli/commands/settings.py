"""The command `settings`."""

from __future__ import annotations

import typer

from service.app.settings import describe
from service.cli import render
from service.cli.console import out, print_json
from service.cli.options import JsonOption, read_settings

app = typer.Typer()


@app.command()
def settings(as_json: JsonOption = False) -> None:
    """Every setting: value, default, unit, and where it came from."""
    lines = describe(read_settings())
    if as_json:
        print_json(
            {
                line.name: {
                    "value": line.value, "default": line.default, "unit": line.unit or None,
                    "origin": line.origin, "description": line.description,
                }
                for line in lines
            }
        )  # fmt: skip
    else:
        render.show_settings(out, lines)
