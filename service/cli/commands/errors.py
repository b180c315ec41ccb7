"""The command `errors`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

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
from service.cli.views.call_view import show_call, show_value
from service.domain import exact_json
from service.domain.model import Outcome

if TYPE_CHECKING:
    from service.app.sent import SentCall

app = typer.Typer()


@app.command()
def errors(
    batch: BatchArgument,
    row: Annotated[
        int | None,
        typer.Option(
            "--row",
            min=1,
            help="One failed row: what was sent, and the reply that was kept.",
            show_default=False,
        ),
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
            outcome, reply = await read_failed_row(place.ports, view.batch, row)
            # Imported for a row: groups of errors are shown without the mapping language.
            from service.app.sent import describe_sent  # noqa: PLC0415

            text = reply.text if reply else ""
            sent = await describe_sent(settings, place.ports.table, view.batch, outcome, text)
            _show_row(outcome, sent, as_json=as_json)
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


def _show_row(outcome: Outcome, sent: SentCall, *, as_json: bool) -> None:
    """Print errors and call to stderr, and the kept reply to stdout, for `rowfleet try NAME -`.

    The outcomes of earlier rounds come first.
    """
    error = outcome.error
    if as_json:
        print_line(
            exact_json.indented(
                {
                    "row": outcome.number,
                    "round": outcome.round,
                    "type": error and error.type,
                    "class": error and error.failure_class,
                    "message": error and error.message,
                    "attempts": outcome.attempts,
                    "input_data": outcome.input_data,
                    "sent": sent.as_json(),
                    "reply": sent.reply or None,
                    "history": [past.as_json() for past in outcome.history],
                }
            )
        )
        return
    for past in outcome.history:
        reason = f"{past.error.type}: {past.error.message}" if past.error else str(past.status)
        err.print(
            f"round {past.round}, {past.timestamp}: {reason}", markup=False, highlight=False, soft_wrap=True
        )
    reason = f"{error.type}: {error.message}" if error else str(outcome.status)
    err.print(f"row {outcome.number}: {reason}", markup=False, highlight=False, soft_wrap=True)
    if sent.call:
        err.print("sent:", style="dim")
        show_call(err, sent.call)
    else:
        err.print(f"sent: {sent.reason}", style="dim", markup=False, highlight=False, soft_wrap=True)
        if sent.input is not None:
            show_value(err, sent.input)
    if sent.reply:
        print_line(sent.reply)
