"""Commands that operate on a batch: `pause`, `resume`, `cancel`, `set`, `finish`."""

from __future__ import annotations

import uuid
from typing import Annotated, Any

import typer

from service.app.aws_backend import aws_options, connect
from service.app.identity import caller
from service.cli.console import print_json, print_line, run_async
from service.cli.options import (
    BatchArgument,
    EndpointOption,
    JsonOption,
    RegionOption,
    log_as_command,
    read_settings,
)
from service.domain.model import MAX_DEADLINE_S, MAX_PRIORITY, MAX_WEIGHT
from service.domain.operation_requests import DEFAULT_GRACE_S, MAX_CONCURRENCY, MAX_GRACE_S, OperationRequest
from service.domain.tolerance import EXAMPLE
from service.steering.operate import operate

app = typer.Typer()


@app.command()
def pause(
    batch: BatchArgument,
    now: Annotated[bool, typer.Option("--now", help="Cut the calls that are under way.")] = False,
    as_json: JsonOption = False,
    endpoint_url: EndpointOption = None,
    region: RegionOption = None,
) -> None:
    """Let no further call begin. Calls under way end, and their outcomes are kept."""
    _operate("pause", batch, {"now": now or None}, endpoint_url, region, as_json=as_json)


@app.command()
def resume(
    batch: BatchArgument,
    as_json: JsonOption = False,
    endpoint_url: EndpointOption = None,
    region: RegionOption = None,
) -> None:
    """Go on with a paused batch. No row that has an outcome is called again."""
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
        typer.Option(metavar="LIMITS", help=f"Failures after which it is held, such as {EXAMPLE}"),
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
        if as_json:
            state = None if view is None else str(view.batch.state)
            print_json({"batch_id": batch, "state": state, **operation.as_json(), **operation.answer})
        else:
            print_line(str(operation.answer["text"]))

    run_async(work())
