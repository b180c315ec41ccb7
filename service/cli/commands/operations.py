"""Commands that operate on a batch: `pause`, `resume`, `cancel`, `set`, `finish`."""

from __future__ import annotations

from typing import Annotated

import typer

from service.cli.operating import open_round, operate_and_show
from service.cli.options import (
    BatchArgument,
    EndpointOption,
    JsonOption,
    RegionOption,
    read_settings,
)
from service.domain.model import (
    MAX_DEADLINE_S,
    MAX_PRIORITY,
    MAX_WEIGHT,
)
from service.domain.operation_requests import DEFAULT_GRACE_S, MAX_CONCURRENCY, MAX_GRACE_S

app = typer.Typer()


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
    operate_and_show("pause", batch, {"now": now or None}, endpoint_url, region, as_json=as_json)


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
        open_round("resume", batch, {"mapping_now": True}, settings, as_json=as_json)
    operate_and_show("resume", batch, {}, endpoint_url, region, as_json=as_json)


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
    operate_and_show("cancel", batch, {"grace": grace}, endpoint_url, region, as_json=as_json)


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
    operate_and_show("set", batch, args, endpoint_url, region, as_json=as_json)


@app.command()
def finish(
    batch: BatchArgument,
    as_json: JsonOption = False,
    endpoint_url: EndpointOption = None,
    region: RegionOption = None,
) -> None:
    """Write the results of a batch again, from the outcomes of its rows."""
    operate_and_show("finish", batch, {}, endpoint_url, region, as_json=as_json)
