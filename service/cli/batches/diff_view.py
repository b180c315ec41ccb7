"""The differences that a mapping would make, as `remap` prints them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from service.cli.explanation import visible

_KINDS = {"filled": "empty before", "emptied": "empty now", "changed": "changed"}


def show_diff(console: Console, facts: Mapping[str, Any]) -> None:
    """Print the facts of `remap --diff --json` for people: a line for each kind of change, and examples."""
    for line in _lines(facts):
        console.print(line, soft_wrap=True)


def _lines(facts: Mapping[str, Any]) -> Iterator[Text]:
    before, after = facts["mapping_before"], facts["mapping"]
    versions = f"mapping {after}" if before == after else f"mapping {before} -> {after}"
    yield Text(f"{versions}: {_rows(facts['rows'])} compared, {facts['same']:,} the same", "bold")
    if facts["kept"]:
        yield Text(f"{_rows(facts['kept'])} would keep values that are better")
    if missing := facts["missing"]["rows"]:
        examples = facts["missing"]["examples"]
        shown = ", ".join([*map(str, examples), *["…"] * (missing > len(examples))])
        yield Text(f"{_rows(missing)} without a kept reply: {shown}", "yellow")
    status = facts["status"]
    yield from _flips("would succeed and failed before", status["succeeded"], "green")
    yield from _flips("would fail and succeeded before", status["failed"], "red")
    otherwise = status["failed_otherwise"]
    if otherwise["rows"]:
        yield Text(f"{_rows(otherwise['rows'])} would fail for another reason", "yellow")
        for example in otherwise["examples"]:
            yield _example(example["row"], example["before"], example["after"])
    for name, changes in facts["fields"].items():
        counts = [
            f"{words} {changes[kind]['rows']:,}" for kind, words in _KINDS.items() if changes[kind]["rows"]
        ]
        yield Text(visible(name), "bold").append(f"  {', '.join(counts)}", "not bold")
        for kind in _KINDS:
            for example in changes[kind]["examples"]:
                yield _example(example["row"], example["before"], example["after"])


def _flips(words: str, changes: Mapping[str, Any], style: str) -> Iterator[Text]:
    if changes["rows"]:
        yield Text(f"{_rows(changes['rows'])} {words}", style)
        for example in changes["examples"]:
            yield Text(f"  row {example['row']}: {_one_line(example['error'])}")


def _example(row: int, before: str | None, after: str | None) -> Text:
    return Text(f"  row {row}: {_shown(before)} -> {_shown(after)}")


def _shown(value: str | None) -> str:
    return "(empty)" if value is None else _one_line(value)


def _one_line(text: str) -> str:
    return " ".join(visible(text).split())


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"
