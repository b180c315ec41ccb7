"""The command `redrive`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from service.app.submit import check_readable
from service.cli.batches.asking import AskedOperation
from service.cli.batches.operating import open_round, show_preview
from service.cli.batches.places import place_option
from service.cli.console import REDRIVE_CODES
from service.cli.options import (
    BatchArgument,
    ConcurrencyOption,
    EndpointOption,
    JsonOption,
    PlaceOption,
    RegionOption,
    read_settings,
)
from service.domain.errors import UsageError
from service.domain.model import (
    FAILURE_COUNTS,
    MAX_DEADLINE_S,
)
from service.steering.filters import Filters

app = typer.Typer()

NamesOption = list[str] | None


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
    concurrency: ConcurrencyOption = None,
    as_json: JsonOption = False,
    where: PlaceOption = None,
    endpoint_url: EndpointOption = None,
    region: RegionOption = None,
) -> None:
    """Run failed rows of a batch again. Filters combine; without one all failed rows run.

    Rows that succeeded keep their outcome. The results of the new round hold all rows.
    They are in round-002/ beside those of the first; latest.json names the newest. For a batch of this
    machine the command runs the rows itself, as `run` does, and writes the results to the place of the run;
    `fetch --round 1` has the earlier ones.
    """
    args = {
        "class": class_, "error": error, "rows": _rows(rows, rows_from), "mapping_now": mapping_now or None,
        "unread": unread or None, "succeeded": succeeded or None, "same_id": same_id or None,
        "deadline": deadline,
    }  # fmt: skip
    given = {name: value for name, value in args.items() if value is not None}
    Filters.of(given)  # refused before AWS is called
    settings = read_settings(endpoint_url=endpoint_url, region=region)
    side = place_option(where, endpoint_url, region)
    asked = AskedOperation("redrive", batch, given, side, as_json, concurrency)
    if dry_run:
        show_preview(asked, settings)
        return
    open_round(asked, settings, wait=wait)


def _rows(rows: str | None, rows_from: Path | None) -> str | None:
    """The rows that are named by one option or the other."""
    if rows_from is None:
        return rows
    if rows is not None:
        raise UsageError("name rows by --rows or by --rows-from, not by both")
    return ",".join(check_readable(str(rows_from)).read_text("utf-8", "replace").split())
