"""The command `errors`."""

from __future__ import annotations

from typing import Annotated

import typer

from service.app.status import (
    group_failures,
    read_batch,
    read_failed_row,
)
from service.cli import render
from service.cli.batches.places import Place, open_place, place_option, run_on
from service.cli.console import (
    err,
    out,
    print_json,
    print_line,
)
from service.cli.options import (
    BatchArgument,
    EndpointOption,
    JsonOption,
    PlaceOption,
    RegionOption,
    read_settings,
)
from service.domain.model import Outcome

app = typer.Typer()


@app.command()
def errors(
    batch: BatchArgument,
    row: Annotated[
        int | None,
        typer.Option("--row", min=1, help="One failed row, and the reply that was kept.", show_default=False),
    ] = None,
    as_json: JsonOption = False,
    where: PlaceOption = None,
    endpoint_url: EndpointOption = None,
    region: RegionOption = None,
) -> None:
    """Why rows failed, grouped by cause."""

    async def work(place: Place) -> None:
        view = await read_batch(place.ports.table, batch)
        if row is not None:
            _show_row(
                await read_failed_row(place.ports.table, place.ports.large_outcomes, view.batch, row),
                as_json=as_json,
            )
            return
        groups = await group_failures(place.ports.table, view.batch)
        if as_json:
            print_json(
                {
                    "batch_id": batch,
                    "state": str(view.batch.state),
                    "error": view.batch.error or None,
                    "failed": view.all_counts.failed,
                    "causes": [group.as_json() for group in groups],
                }
            )
            return
        if view.batch.error:
            out.print(f"the batch failed: {view.batch.error}", style="red", markup=False)
        render.show_failures(out, groups)

    settings = read_settings(endpoint_url=endpoint_url, region=region)
    run_on(open_place(settings, batch, place_option(where, endpoint_url, region)), settings, work)


def _show_row(outcome: Outcome, *, as_json: bool) -> None:
    """Print errors to stderr and the kept reply to stdout, unchanged, for `rowfleet try NAME -`.

    The outcomes of earlier rounds come first.
    """
    error = outcome.error
    if as_json:
        print_json(
            {
                "row": outcome.number,
                "round": outcome.round,
                "type": error and error.type,
                "class": error and error.failure_class,
                "message": error and error.message,
                "attempts": outcome.attempts,
                "input_data": outcome.input_data,
                "reply": outcome.raw_reply or None,
                "history": [past.as_json() for past in outcome.history],
            }
        )
        return
    for past in outcome.history:
        reason = f"{past.error.type}: {past.error.message}" if past.error else str(past.status)
        err.print(
            f"round {past.round}, {past.timestamp}: {reason}", markup=False, highlight=False, soft_wrap=True
        )
    reason = f"{error.type}: {error.message}" if error else str(outcome.status)
    err.print(f"row {outcome.number}: {reason}", markup=False, highlight=False, soft_wrap=True)
    if outcome.raw_reply:
        print_line(outcome.raw_reply)
