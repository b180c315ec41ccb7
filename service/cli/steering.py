"""Commands that operate on a batch: `pause`, `resume`, `cancel`, `set`, `finish`, `redrive`."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from service.app.aws_backend import AwsBackend, aws_options, connect
from service.app.identity import caller
from service.app.settings import Settings
from service.app.status import calls_that_may_end
from service.app.submit import check_readable
from service.cli.batches import follow_to_end
from service.cli.console import EXIT_OK, REDRIVE_CODES, err, exit_with, print_json, print_line, run_async
from service.cli.options import (
    BatchArgument,
    EndpointOption,
    JsonOption,
    RegionOption,
    log_as_command,
    read_settings,
)
from service.cli.status import short_time
from service.domain.errors import UsageError
from service.domain.model import (
    FAILURE_COUNTS,
    MAX_DEADLINE_S,
    MAX_PRIORITY,
    MAX_WEIGHT,
    BatchView,
    Operation,
    State,
)
from service.domain.operation_requests import DEFAULT_GRACE_S, MAX_CONCURRENCY, MAX_GRACE_S, OperationRequest
from service.steering.answers import ANSWER_S, ask
from service.steering.filters import Filters
from service.steering.operate import operate
from service.steering.redrive import preview

app = typer.Typer()

LONGEST_WAIT_S = 86_400.0
"""Longest wait for the answer with `--wait`."""

NamesOption = list[str] | None


@app.command()
def pause(
    batch: BatchArgument,
    now: Annotated[bool, typer.Option("--now", help="Cut the calls that are under way.")] = False,
    as_json: JsonOption = False,
    endpoint_url: EndpointOption = None,
    region: RegionOption = None,
) -> None:
    """Let no further call begin. Calls under way end, and their outcomes are kept.

    The answer says how many calls may still end. Pausing a paused batch changes nothing: exit 0.
    """
    _operate("pause", batch, {"now": now or None}, endpoint_url, region, as_json=as_json)


@app.command()
def resume(
    batch: BatchArgument,
    mapping_now: Annotated[
        bool,
        typer.Option(
            "--mapping-now", help="By the mapping as it is now: every row that has not succeeded runs by it."
        ),
    ] = False,
    as_json: JsonOption = False,
    endpoint_url: EndpointOption = None,
    region: RegionOption = None,
) -> None:
    """Go on with a paused batch. No row that has succeeded is called again."""
    if mapping_now:
        settings = read_settings(endpoint_url=endpoint_url, region=region)
        _open_round("resume", batch, {"mapping_now": True}, settings, as_json=as_json)
    _operate("resume", batch, {}, endpoint_url, region, as_json=as_json)


@app.command()
def cancel(
    batch: BatchArgument,
    grace: Annotated[
        int,
        typer.Option(min=0, max=MAX_GRACE_S, metavar="S", help="Seconds that calls under way have to end."),
    ] = DEFAULT_GRACE_S,
    as_json: JsonOption = False,
    endpoint_url: EndpointOption = None,
    region: RegionOption = None,
) -> None:
    """End a batch: rows without an outcome fail as cancelled, and the results are written."""
    _operate("cancel", batch, {"grace": grace}, endpoint_url, region, as_json=as_json)


@app.command(name="set")
def set_(
    batch: BatchArgument,
    *,
    max_concurrency: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=MAX_CONCURRENCY,
            metavar="N",
            help="Calls at a time, per worker process; 0: as in the mapping.",
        ),
    ] = None,
    priority: Annotated[
        int | None, typer.Option(min=1, max=MAX_PRIORITY, metavar="P", help="The highest goes first.")
    ] = None,
    weight: Annotated[
        int | None, typer.Option(min=1, max=MAX_WEIGHT, metavar="W", help="Share within its priority.")
    ] = None,
    deadline: Annotated[
        int | None,
        typer.Option(min=1, max=MAX_DEADLINE_S, metavar="S", help="Seconds from now; then its rows fail."),
    ] = None,
    tolerate: Annotated[
        str | None,
        typer.Option(
            metavar="LIMITS", help="Failed rows after which it is held, such as rejected=5%,any=500."
        ),
    ] = None,
    as_json: JsonOption = False,
    endpoint_url: EndpointOption = None,
    region: RegionOption = None,
) -> None:
    """Change how a batch is served, while it runs."""
    args = {
        "max_concurrency": max_concurrency, "priority": priority, "weight": weight, "deadline": deadline,
        "tolerate": tolerate,
    }  # fmt: skip
    _operate("set", batch, args, endpoint_url, region, as_json=as_json)


@app.command()
def finish(
    batch: BatchArgument,
    as_json: JsonOption = False,
    endpoint_url: EndpointOption = None,
    region: RegionOption = None,
) -> None:
    """Write the results of a batch again, from the outcomes of its rows."""
    _operate("finish", batch, {}, endpoint_url, region, as_json=as_json)


@app.command(epilog=REDRIVE_CODES)
def redrive(
    batch: BatchArgument,
    *,
    class_: Annotated[
        NamesOption,
        typer.Option(
            "--class", metavar="C,…", help=f"Failures of these classes: {', '.join(FAILURE_COUNTS)}."
        ),
    ] = None,
    error: Annotated[
        NamesOption, typer.Option("--error", metavar="NAME,…", help="Failures with these errors.")
    ] = None,
    rows: Annotated[
        str | None, typer.Option("--rows", metavar="3,17,100-200", help="These rows, if they failed.")
    ] = None,
    rows_from: Annotated[
        Path | None,
        typer.Option("--rows-from", metavar="FILE", help="The rows in a file: numbers and ranges."),
    ] = None,
    mapping_now: Annotated[
        bool, typer.Option("--mapping-now", help="By the mapping as it is now, not as it was.")
    ] = False,
    unread: Annotated[
        bool, typer.Option("--unread", help="Cancelled rows, and those that were not read.")
    ] = False,
    succeeded: Annotated[
        bool,
        typer.Option(
            "--succeeded",
            help="The named rows also if they succeeded. With `reuse: N days` in the mapping they get the "
            "stored reply again, without a call.",
        ),
    ] = False,
    same_id: Annotated[
        bool,
        typer.Option("--same-id", help="Idempotency keys of the first round, for agents that know them."),
    ] = False,
    deadline: Annotated[
        int | None,
        typer.Option(min=1, max=MAX_DEADLINE_S, metavar="S", help="Seconds from now; then its rows fail."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say which rows would run again.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Follow it to its end; exit as `run` does.")] = False,
    as_json: JsonOption = False,
    endpoint_url: EndpointOption = None,
    region: RegionOption = None,
) -> None:
    """Run failed rows of a batch again. Filters combine; without one all failed rows run.

    Rows that succeeded keep their outcome. The results of the new round hold all rows.
    They are in round-002/ beside those of the first; latest.json names the newest.
    """
    args = {
        "class": class_, "error": error, "rows": _rows(rows, rows_from), "mapping_now": mapping_now or None,
        "unread": unread or None, "succeeded": succeeded or None, "same_id": same_id or None,
        "deadline": deadline,
    }  # fmt: skip
    given = {name: value for name, value in args.items() if value is not None}
    Filters.of(given)  # refused before AWS is called
    settings = read_settings(endpoint_url=endpoint_url, region=region)
    _open_round("redrive", batch, given, settings, dry_run=dry_run, wait=wait, as_json=as_json)


def _open_round(
    op: str,
    batch: str,
    args: dict[str, Any],
    settings: Settings,
    *,
    dry_run: bool = False,
    wait: bool = False,
    as_json: bool = False,
) -> NoReturn:
    """Have the fleet open a round, and print its answer; with `wait` follow the batch to its end."""
    log_as_command(settings)

    async def work() -> int:
        options = aws_options(settings)
        async with connect(settings, options) as backend:
            request = OperationRequest(op, batch, uuid.uuid4().hex, await caller(options), args)
            if dry_run:
                _show_preview(await preview(backend.ports, request), as_json=as_json)
                return EXIT_OK
            answer = await ask(backend.ports, request, wait_s=LONGEST_WAIT_S if wait else ANSWER_S)
            if wait and answer is not None and answer.control:
                err.print(str(answer.answer["text"]), markup=False, highlight=False, soft_wrap=True)
                return await follow_to_end(backend, batch, settings, as_json=as_json)
            await _show(backend, request, answer, as_json=as_json)
            return EXIT_OK

    exit_with(run_async(work()))


async def _show(
    backend: AwsBackend, request: OperationRequest, answer: Operation | None, *, as_json: bool
) -> None:
    if answer is None:
        text = (
            f"{request.op} of {request.batch_id} is asked for, and the fleet has not answered yet: a large "
            "batch takes minutes, and without a running splitter nothing happens; "
            f"`rowfleet status {request.batch_id}` shows its round"
        )
        facts: dict[str, Any] = {"request_id": request.request_id, "text": text}
    else:
        text, facts = str(answer.answer["text"]), {**answer.as_json(), **answer.answer}
    if not as_json:
        print_line(text)
        return
    view = await backend.ports.table.read(request.batch_id)
    print_json(
        {"batch_id": request.batch_id, "state": None if view is None else str(view.batch.state), **facts}
    )


def _show_preview(facts: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(facts)
        return
    if not facts["due"] and not facts["unread_from"] and not facts["skipped"]:
        print_line(f"no row of {facts['batch_id']} matches: nothing would be changed")
        return
    print_line(f"{_number(facts['due'], 'row')} would run again")
    if facts["unread_from"]:
        print_line(f"and the rows from {facts['unread_from']:,} on, which were not read")
    for title, counts in (("class", facts["by_class"]), ("error", facts["by_error"])):
        for name, count in counts.items():
            print_line(f"  {title} {name}: {count:,}")
    cost = facts["cost"]
    print_line(
        f"last time they took {_number(cost['calls'], 'call')}, {cost['input_tokens']:,} input tokens and "
        f"{cost['output_tokens']:,} output tokens"
    )
    if facts["skipped"]:
        print_line(f"{len(facts['skipped']):,} more match and cannot be read any more")
    if facts["redrivable_until"]:
        print_line(f"possible until {short_time(facts['redrivable_until'])} UTC")


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


async def _calls(backend: AwsBackend, view: BatchView | None) -> dict[str, Any]:
    """The number of calls that may still end, for the answer to `pause`."""
    if view is None or view.batch.state is not State.PAUSED:
        return {}
    return {"calls_may_end": await calls_that_may_end(backend.ports.queues.rows, view)}


def _rows(rows: str | None, rows_from: Path | None) -> str | None:
    """The rows that are named by one option or the other."""
    if rows_from is None:
        return rows
    if rows is not None:
        raise UsageError("name rows by --rows or by --rows-from, not by both")
    return ",".join(check_readable(str(rows_from)).read_text("utf-8", "replace").split())


def _operate(
    op: str,
    batch: str,
    args: dict[str, Any],
    endpoint_url: str | None,
    region: str | None,
    *,
    as_json: bool,
) -> None:
    """Carry out one operation and print its answer. Arguments that are None are left out."""
    settings = read_settings(endpoint_url=endpoint_url, region=region)
    log_as_command(settings)
    given = {name: value for name, value in args.items() if value is not None}

    async def work() -> None:
        options = aws_options(settings)
        async with connect(settings, options) as backend:
            request = OperationRequest(op, batch, uuid.uuid4().hex, await caller(options), given)
            operation = await operate(backend.ports, request)
            view = await backend.ports.table.read(batch)
            facts = await _calls(backend, view) if op == "pause" and "now" not in given else {}
        if as_json:
            state = None if view is None else str(view.batch.state)
            print_json(
                {"batch_id": batch, "state": state, **operation.as_json(), **operation.answer, **facts}
            )
        else:
            print_line(str(operation.answer["text"]))
            if calls := facts.get("calls_may_end"):
                print_line(f"calls under way end and are kept: they are at most {calls:,}")

    run_async(work())
