"""Commands that operate on a batch, such as `pause`, `resume`, `approve`, `cancel` and `purge`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, NoReturn

import typer

from service.cli.batches.asking import AskedOperation
from service.cli.batches.operating import open_round, operate_and_show
from service.cli.batches.places import place_option
from service.cli.console import RESUME_CODES
from service.cli.options import (
    BatchArgument,
    BudgetTokensOption,
    BudgetUsdOption,
    ConcurrencyOption,
    EndpointOption,
    JsonOption,
    MaxCallsOption,
    PlaceOption,
    RegionOption,
    read_budget,
    read_settings,
)
from service.domain.budgets.options import budget_options
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
    where: PlaceOption = None,
    endpoint_url: EndpointOption = None,
    region: RegionOption = None,
) -> None:
    """Let no further call begin. Calls under way end, and their outcomes are kept.

    The answer says how many calls may still end. Pausing a paused batch changes nothing: exit 0.
    """
    _operate("pause", batch, {"now": now or None}, where, endpoint_url, region, as_json=as_json)


@app.command(epilog=RESUME_CODES)
def resume(
    batch: BatchArgument,
    mapping_now: Annotated[
        bool,
        typer.Option(
            "--mapping-now", help="By the mapping as it is now: every row that has not succeeded runs by it."
        ),
    ] = False,
    budget_usd: BudgetUsdOption = None,
    budget_tokens: BudgetTokensOption = None,
    max_calls: MaxCallsOption = None,
    *,
    concurrency: ConcurrencyOption = None,
    as_json: JsonOption = False,
    where: PlaceOption = None,
    endpoint_url: EndpointOption = None,
    region: RegionOption = None,
) -> None:
    """Go on with a paused batch. No row that has succeeded is called again.

    A batch that is held because its budget is used up goes on with a higher one.

    For a batch of this machine, also one whose process has ended, the command runs the pipeline itself, as
    `run` does, and writes the results to the place of the run.
    """
    settings = read_settings(endpoint_url=endpoint_url, region=region)
    side = place_option(where, endpoint_url, region)
    args: dict[str, Any] = budget_options(read_budget(budget_usd, budget_tokens, max_calls))
    if mapping_now:
        args |= {"mapping_now": True}
        open_round(AskedOperation("resume", batch, args, side, as_json, concurrency), settings)
    operate_and_show(AskedOperation("resume", batch, args, side, as_json, concurrency), settings)


@app.command(epilog=RESUME_CODES)
def approve(
    batch: BatchArgument,
    *,
    gate: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Only if the sample is still this one.", show_default=False),
    ] = None,
    mapping_now: Annotated[
        bool,
        typer.Option(
            "--mapping-now",
            help="Not yet: the rows of the sample that have not succeeded run by the mapping as it is now.",
        ),
    ] = False,
    budget_usd: BudgetUsdOption = None,
    budget_tokens: BudgetTokensOption = None,
    max_calls: MaxCallsOption = None,
    concurrency: ConcurrencyOption = None,
    as_json: JsonOption = False,
    where: PlaceOption = None,
    endpoint_url: EndpointOption = None,
    region: RegionOption = None,
) -> None:
    """Run the other rows of a batch whose sample waits for approval.

    No row of the sample is called again. Approving an approved sample changes nothing: exit 0. For a batch of
    this machine the command runs the pipeline itself, as `run` does, and writes the results to the place of
    the run.
    """
    settings = read_settings(endpoint_url=endpoint_url, region=region)
    side = place_option(where, endpoint_url, region)
    args: dict[str, Any] = budget_options(read_budget(budget_usd, budget_tokens, max_calls))
    args |= {} if gate is None else {"gate": gate}
    if mapping_now:
        args |= {"mapping_now": True}
        open_round(AskedOperation("approve", batch, args, side, as_json, concurrency), settings)
    operate_and_show(AskedOperation("approve", batch, args, side, as_json, concurrency), settings)


@app.command()
def reject(
    batch: BatchArgument,
    gate: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Only if the sample is still this one.", show_default=False),
    ] = None,
    as_json: JsonOption = False,
    where: PlaceOption = None,
    endpoint_url: EndpointOption = None,
    region: RegionOption = None,
) -> None:
    """Cancel a batch because of its sample. The results of the sample are written."""
    _operate("reject", batch, {"gate": gate}, where, endpoint_url, region, as_json=as_json)


@app.command()
def cancel(
    batch: BatchArgument,
    grace: Annotated[
        int,
        typer.Option(min=0, max=MAX_GRACE_S, metavar="S", help="Seconds that calls under way have to end."),
    ] = DEFAULT_GRACE_S,
    as_json: JsonOption = False,
    where: PlaceOption = None,
    endpoint_url: EndpointOption = None,
    region: RegionOption = None,
) -> None:
    """End a batch: rows without an outcome fail as cancelled, and the results are written.

    For a batch of this machine that no process serves, the command writes them itself.
    """
    _operate("cancel", batch, {"grace": grace}, where, endpoint_url, region, as_json=as_json)


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
    budget_usd: BudgetUsdOption = None,
    budget_tokens: BudgetTokensOption = None,
    max_calls: MaxCallsOption = None,
    as_json: JsonOption = False,
    where: PlaceOption = None,
    endpoint_url: EndpointOption = None,
    region: RegionOption = None,
) -> None:
    """Change how a batch is served, while it runs."""
    args = {
        "max_concurrency": max_concurrency, "priority": priority, "weight": weight, "deadline": deadline,
        "tolerate": tolerate, **budget_options(read_budget(budget_usd, budget_tokens, max_calls)),
    }  # fmt: skip
    _operate("set", batch, args, where, endpoint_url, region, as_json=as_json)


@app.command()
def finish(
    batch: BatchArgument,
    as_json: JsonOption = False,
    where: PlaceOption = None,
    endpoint_url: EndpointOption = None,
    region: RegionOption = None,
) -> None:
    """Write the results of a batch again, from the outcomes of its rows.

    For a batch of this machine they are written to the place of its run.
    """
    _operate("finish", batch, {}, where, endpoint_url, region, as_json=as_json)


@app.command()
def purge(
    batch: BatchArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: JsonOption = False,
    where: PlaceOption = None,
    endpoint_url: EndpointOption = None,
    region: RegionOption = None,
) -> None:
    """Delete a batch that has ended: its rows, replies and results, and all else that is stored for it.

    Its source stays, and so do files that were written to this machine. An interrupted purge can be
    repeated within 20 hours.
    """
    # Imported for this command alone.
    from service.cli.batches.purging import purge_and_show  # noqa: PLC0415

    settings = read_settings(endpoint_url=endpoint_url, region=region)
    side = place_option(where, endpoint_url, region)
    purge_and_show(AskedOperation("purge", batch, {}, side, as_json), settings, yes=yes)


def _operate(
    op: str,
    batch: str,
    args: Mapping[str, Any],
    where: bool | None,
    endpoint_url: str | None,
    region: str | None,
    *,
    as_json: bool,
) -> NoReturn:
    """Carry out one operation and print its answer. Arguments that are None are left out."""
    settings = read_settings(endpoint_url=endpoint_url, region=region)
    given = {name: value for name, value in args.items() if value is not None}
    side = place_option(where, endpoint_url, region)
    operate_and_show(AskedOperation(op, batch, given, side, as_json), settings)
