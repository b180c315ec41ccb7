"""The status of a batch as commands show it to people: values, holds, and the operations on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from service.cli.console import EXIT_BATCH_FAILED, EXIT_FAILED_ROWS, EXIT_HELD, EXIT_OK
from service.cli.money_view import cost_text
from service.domain.budgets.options import option_of
from service.domain.errors import FailureClass
from service.domain.model import BatchView, BudgetKind, HoldReason, RowError, State
from service.domain.tolerance import DEFAULT_TOLERANCE, tolerance_text

_INDENT = 2

_SHORT_S, _LONG_S = 10, 100
"""Seconds below which tenths are told, and seconds or minutes from which the next unit is told."""

STATE_COLOURS = {
    State.PAUSED: "yellow",
    State.SUCCEEDED: "green",
    State.COMPLETED_WITH_ERRORS: "yellow",
    State.FAILED: "red",
    State.CANCELLED: "red",
}
_USUAL = (
    ("reused", 0),
    ("calls", 0),
    ("blank_records", 0),
    ("undelivered", 0),
    ("round", 1),
    ("in_progress", 0),
    ("eta_s", 0),
    ("tolerate", tolerance_text(DEFAULT_TOLERANCE)),
)
"""Values that say nothing."""
_STYLES = {"error": "red", "trouble": "yellow", "exceeded": "yellow"}

PASSING = (FailureClass.TRANSIENT, FailureClass.RATE_LIMIT, FailureClass.UNAVAILABLE)
"""Classes of failures whose causes pass, so that the same call may succeed later."""

_DONE_WORDS = {
    "pause": "paused", "resume": "resumed", "cancel": "cancelled", "set": "changed", "hold": "held",
    "budget": "told of its budget",
    "finish": "finished again", "redrive": "redriven", "sample": "stopped at its sample",
    "approve": "approved", "reject": "rejected",
}  # fmt: skip


def show_status(console: Console, status: Mapping[str, Any], todo: Sequence[tuple[str, str]] = ()) -> None:
    """Print `rowfleet status`: values that are known and in use, operations, holds, and commands (`todo`)."""
    lines = [
        (name, _value_text(name, value)) for name, value in status.items() if _is_shown(name, value, status)
    ]
    # the reason of a hold that lasts is shown with the hold
    holds_last = {"hold"} if status["holds"] else set[str]()
    lines += [
        ("operation", Text(operation_text(made, with_reason=made["op"] not in holds_last)))
        for made in status["operations"]
    ]
    holds = (line for reason, hold in status["holds"].items() for line in hold_lines(reason, hold))
    lines += [("hold", Text(line, "yellow")) for line in holds]
    _show_values(console, lines)
    show_remedies(console, todo)


def _value_text(name: str, value: Any) -> Text:
    if name == "dialect":
        value = ", ".join(f"{key} {_plain(part)}" for key, part in value.items() if part is not False)
    if name == "cost":
        value = cost_text(value)
    if name == "tokens":
        value = f"{value['input']:,} in, {value['output']:,} out"
    if name == "sample":
        value = _sample_text(value)
    if name == "budget":
        return Text(budget_text(value))
    style = STATE_COLOURS.get(State(value), "") if name == "state" else _STYLES.get(name, "")
    return Text(f"{value:,}" if isinstance(value, int) else str(value), style)


def _sample_text(sample: Mapping[str, Any]) -> str:
    """The sample of `status --json` in words."""
    text = f"{sample['rows']:,} {'random' if sample['random'] else 'first'} rows"
    if sample["approved_by"]:
        return f"{text}, approved by {sample['approved_by']} at {short_time(sample['approved_at'])} UTC"
    return text


def _plain(value: Any) -> str:
    """A part of the dialect in words."""
    return "yes" if value is True else {"\t": "tab", " ": "space"}.get(value, str(value))


def _show_values(console: Console, lines: Sequence[tuple[str, Text]]) -> None:
    """Print names and values; a name is not repeated. Values are folded on a terminal only."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    width, last = max(len(name) for name, _ in lines), ""
    for name, value in lines:
        shown = Text("" if name == last else name, style="dim")
        last = name
        if console.is_terminal:
            grid.add_row(shown, value)
        else:
            shown.pad_right(width + 2 - len(shown))
            console.print(shown + value, soft_wrap=True)
    if console.is_terminal:
        console.print(grid)


def _is_shown(name: str, value: Any, status: Mapping[str, Any]) -> bool:
    """True for a value that says something: a default or a repetition does not."""
    if name in ("holds", "operations") or value is None:
        return False
    if name in ("cost", "tokens") and not any(value.values()):
        return False
    if (name, value) in _USUAL:
        return False
    return name != "due" or value != status["total"]


def hold_lines(reason: str, hold: Mapping[str, Any]) -> Iterator[str]:
    """A hold of `status --json` in words: who, since when, why, with examples."""
    detail = hold["detail"]
    yield f"held by {hold['by']} since {short_time(hold['at'])} UTC ({reason})"
    if text := detail.get("reason"):
        yield text
    error = detail.get("error")
    if error and error["message"] not in detail["reason"]:
        yield f"most often {error['type']} ({error['class']}): {error['message']}"
    if rows := detail.get("rows"):
        yield "such as row" + ("s " if len(rows) > 1 else " ") + ", ".join(str(row) for row in rows)
    if keys := detail.get("reply_keys"):
        yield "the reply has: " + ", ".join(keys)
    if sample := detail.get("sample"):
        yield rest_text(sample)
    if report := detail.get("report") or detail.get("not_written"):
        yield f"report: {report}"
    if detail.get("now"):
        yield "calls under way were cut"
    if until := hold.get("until"):
        yield _end_text(reason, short_time(until))


def holds_here(holds: Mapping[str, Any]) -> dict[str, Any]:
    """The holds of a batch of this machine: no process is left that ends them, and no file is in a bucket."""
    shown = {}
    for reason, hold in holds.items():
        detail = {name: value for name, value in hold["detail"].items() if name not in ("report", "output")}
        shown[reason] = hold | {"until": None, "detail": detail}
    return shown


def _end_text(reason: str, until: str) -> str:
    if reason == HoldReason.APPROVAL:
        return f"if nobody approves it, the other rows fail at {until} UTC"
    return f"cancelled at {until} UTC unless it goes on"


def remedies(batch_id: str, holds: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Commands that go on with a held batch or end it, each with its effect."""
    found = []
    if HoldReason.APPROVAL in holds:
        waiting = holds[HoldReason.APPROVAL]["detail"]["sample"]["rest"]["rows"]
        found += [
            (f"rowfleet approve {batch_id}", f"run the other {waiting:,} rows"),
            (
                f"rowfleet approve {batch_id} --mapping-now",
                "run its failed rows by the mapping as it is now, and ask again",
            ),
            (f"rowfleet reject {batch_id}", "end it, and keep the results of the sample"),
        ]
        if set(holds) == {HoldReason.APPROVAL}:
            return found
    if HoldReason.FAILURES in holds:
        found += [
            (f"rowfleet errors {batch_id}", "why rows failed"),
            (
                f"rowfleet resume {batch_id} --mapping-now",
                "go on with the mapping as it is now",
            ),
            (f"rowfleet resume {batch_id}", "go on as it is; only later failures count"),
            (f"rowfleet set {batch_id} --tolerate any=500", "tolerate more, before the resume"),
        ]
    elif HoldReason.BUDGET in holds:
        found.append(_budget_remedy(batch_id, holds[HoldReason.BUDGET]["detail"]))
    elif set(holds) == {HoldReason.TARGET}:
        effect = "go on now; otherwise it does once a trial shows that the target serves"
        found.append((f"rowfleet resume {batch_id}", effect))
    elif set(holds) - {HoldReason.APPROVAL}:
        found.append((f"rowfleet resume {batch_id}", "go on"))
    return [*found, (f"rowfleet cancel {batch_id}", "end it, and write the results of what is done")]


def _budget_remedy(batch_id: str, detail: Mapping[str, Any]) -> tuple[str, str]:
    """The command that goes on with a batch whose budget is used up, and its effect."""
    if detail["budget"] == "day":
        return (
            f"rowfleet resume {batch_id} --mapping-now",
            "go on before, by a higher budget in the mapping",
        )
    option = option_of(BudgetKind(detail["kind"]))
    return f"rowfleet resume {batch_id} {option} N", f"go on with a higher budget, from {detail['least']} on"


def budget_text(budget: Mapping[str, Any]) -> str:
    """`budget` of `status --json` in one line: `120 of 300 calls (2 reserved), today 1.20 of 5.00 USD`."""
    own = [text for kind in BudgetKind if (text := _use_text(kind, budget[kind.value]))]
    day = budget["day"] or {}
    today = [text for kind in BudgetKind if (text := _use_text(kind, day.get(kind.value)))]
    return ", ".join(own + (["today " + ", ".join(today)] if today else []))


def _use_text(kind: BudgetKind, use: Mapping[str, Any] | None) -> str:
    if use is None:
        return ""
    noun = "USD" if kind is BudgetKind.USD else kind.value
    spent, cap, reserved = (_number_text(use[name]) for name in ("spent", "cap", "reserved"))
    is_reserved = use["reserved"] not in (None, 0, "0.00")
    return f"{spent} of {cap} {noun}" + (f" ({reserved} reserved)" if is_reserved else "")


def _number_text(value: int | str | None) -> str:
    return "?" if value is None else f"{value:,}" if isinstance(value, int) else value


def redrive_remedies(view: BatchView, failures: Sequence[RowError]) -> list[tuple[str, str]]:
    """Commands that run rows of an ended batch again, each with its effect.

    `failures` are the errors of some failed rows: rejected rows that all have one cause point at the mapping.
    """
    batch, counts = view.batch, view.all_counts
    if not counts.failed and not batch.unread_from:
        return []
    command, found = f"rowfleet redrive {batch.batch_id}", list[tuple[str, str]]()
    if counts.failed > counts.cancelled:
        found.append((f"rowfleet errors {batch.batch_id}", "why rows failed"))
    if passing := [name for name in PASSING if getattr(counts, name)]:
        rows = sum(getattr(counts, name) for name in passing)
        effect = f"run the {rows:,} rows again whose cause may have passed"
        found.append((f"{command} --class {','.join(passing)}", effect))
    causes = {error.cause for error in failures if error.failure_class == FailureClass.REJECTED}
    if counts.rejected and len(causes) == 1:
        classes = "" if counts.rejected == counts.failed else f" --class {FailureClass.REJECTED}"
        effect = f"run the {counts.rejected:,} rejected rows by the mapping as it is now"
        found.append((f"{command}{classes} --mapping-now", effect))
    if counts.cancelled or batch.unread_from:
        unread = ", and read on" if batch.unread_from else ""
        found.append((f"{command} --unread", f"run the {counts.cancelled:,} cancelled rows{unread}"))
    return found


def run_remedies(mapping: str, holds: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Remedies for a held `rowfleet run`, whose pipeline has ended with it."""
    if HoldReason.APPROVAL in holds:
        return [("rowfleet run …", "run the file without --emulator: its sample can be approved there")]
    if HoldReason.FAILURES not in holds:
        return [("rowfleet run …", "run the file again, once the target serves")]
    return [
        (
            f"rowfleet try {mapping} REPLY.json --explain",
            "test the mapping on a reply, then run the file again",
        ),
        ("rowfleet run … --limit 20", "run a few rows first"),
        ("rowfleet run … --tolerate first=0", "run all rows, whatever the first ones say"),
    ]


def show_held(console: Console, status: Mapping[str, Any], todo: Sequence[tuple[str, str]]) -> None:
    """Print a batch that is held: counts, holds, and commands with their effects."""
    console.print(
        Text.assemble((str(status["state"]), "bold yellow"), f"  {status['batch_id']}"), soft_wrap=True
    )
    done = status["succeeded"] + status["failed"]
    of = f" of {status['total']:,}" if status["total"] is not None else ""
    console.print(f"{done:,}{of} rows done: {status['succeeded']:,} succeeded, {status['failed']:,} failed")
    if budget := status["budget"]:
        console.print(f"budget: {budget_text(budget)}", highlight=False, soft_wrap=True)
    for reason, hold in status["holds"].items():
        first, *rest = hold_lines(reason, hold)
        _print(console, Text(first, style="yellow"), 0)
        for line in rest:
            _print(console, Text(line), _INDENT)
    show_remedies(console, todo)


def show_remedies(console: Console, todo: Sequence[tuple[str, str]]) -> None:
    """Print commands with their effects. A command stays whole, so that it can be copied."""
    if not todo:
        return
    indent, width = " " * _INDENT, max(len(command) for command, _ in todo)
    longest = width + max(len(effect) for _, effect in todo) + 2 * _INDENT + len("# ")
    for command, effect in todo:
        if console.is_terminal and longest > console.width:
            lines = [Text(f"{indent}# {effect}", "dim"), Text(f"{indent}{command}")]
        else:
            lines = [Text.assemble(f"{indent}{command:<{width}}", (f"{indent}# {effect}", "dim"))]
        for line in lines:
            console.print(line, soft_wrap=True)


def operation_text(made: Mapping[str, Any], *, with_reason: bool = True) -> str:
    """An operation of `status --json` in words: when, what, by whom, how, and why."""
    args = dict(made["args"])
    reason = args.pop("reason", "") if with_reason else ""
    args.pop("reason", None)
    given = " ".join(_option_text(name, value) for name, value in args.items())
    text = f"{short_time(made['at'])} UTC {_DONE_WORDS.get(made['op'], made['op'])} by {made['by']}"
    return text + (f" ({given})" if given else "") + (f": {reason}" if reason else "")


def _option_text(name: str, value: Any) -> str:
    """An argument as the option of the command that gives it."""
    option = f"--{name.replace('_', '-')}"
    if value is True:
        return option
    if value is None:
        value = 0  # a null sets an argument back
    return f"{option} {','.join(map(str, value)) if isinstance(value, list) else value}"


def rest_text(sample: Mapping[str, Any]) -> str:
    """The time and the price of the rows that wait for approval, by a report or a hold."""
    rest = sample["rest"]
    text = f"the other {rest['rows']:,} rows take {duration_text(rest['seconds'])} at the pace of the sample"
    if cost := rest.get("cost"):
        price = cost["low"] if cost["low"] == cost["high"] else f"{cost['low']} to {cost['high']}"
        text += f", and cost {price} {sample['currency']}"
    return text


def duration_text(seconds: float) -> str:
    """A duration in one unit: `0.4 s`, `12 s`, `3.5 min`, `7.2 h`."""
    if seconds < _LONG_S:
        return f"{seconds:,.{0 if seconds >= _SHORT_S else 1}f} s"
    minutes = seconds / 60
    return f"{minutes:,.1f} min" if minutes < _LONG_S else f"{minutes / 60:,.1f} h"


def short_time(at: str) -> str:
    """`2026-11-29 12:03:11` of a time in UTC."""
    return at[:19].replace("T", " ")


def _print(console: Console, text: Text, indent: int) -> None:
    """Print a line: folded and indented on a terminal, unfolded when piped."""
    if console.is_terminal:
        console.print(Padding(text, (0, 0, 0, indent)))
    else:
        console.print(Text(" " * indent) + text, soft_wrap=True)


def batch_exit_code(view: BatchView) -> int:
    """The exit code for a batch that has ended or is held."""
    codes = {
        State.SUCCEEDED: EXIT_OK, State.COMPLETED_WITH_ERRORS: EXIT_FAILED_ROWS, State.PAUSED: EXIT_HELD,
    }  # fmt: skip
    return codes.get(view.batch.state, EXIT_BATCH_FAILED)
