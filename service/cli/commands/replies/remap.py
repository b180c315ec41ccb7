"""The command `remap`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from service.cli.batches.asking import AskedOperation
from service.cli.batches.diff_view import show_diff
from service.cli.batches.operating import open_round
from service.cli.batches.places import place_option
from service.cli.batches.remapping import compare, definition_in
from service.cli.console import EXIT_OK, REDRIVE_CODES, err, exit_with, out, print_json
from service.cli.options import (
    BatchArgument,
    EndpointOption,
    JsonOption,
    MappingsOption,
    PlaceOption,
    RegionOption,
    SchemasOption,
    read_settings,
)
from service.domain.errors import UsageError

app = typer.Typer()


@app.command(epilog=REDRIVE_CODES)
def remap(
    batch: BatchArgument,
    *,
    mapping_now: Annotated[
        bool, typer.Option("--mapping-now", help="By the mapping as it is now, not as it was.")
    ] = False,
    mapping: Annotated[
        Path | None, typer.Option("--mapping", metavar="FILE", help="By the mapping in this file.")
    ] = None,
    diff: Annotated[bool, typer.Option("--diff", help="Only print what would change.")] = False,
    only_failed: Annotated[bool, typer.Option("--only-failed", help="Rows that failed.")] = False,
    keep_better: Annotated[
        bool,
        typer.Option(
            "--keep-better", help="Rows keep values that are better: it fails now, or gets fewer values."
        ),
    ] = False,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Rows without a kept reply keep their outcome.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Follow it to its end; exit as `run` does.")] = False,
    mappings: MappingsOption = None,
    schemas: SchemasOption = None,
    as_json: JsonOption = False,
    where: PlaceOption = None,
    endpoint_url: EndpointOption = None,
    region: RegionOption = None,
) -> None:
    """Take the values of a batch anew from its kept replies, by another mapping. No agent is called.

    The differences come first: for each field the values that appear, vanish or change, and the rows that
    fail now or succeed. The results of the new round hold all rows, and lie beside those of the earlier ones.
    """
    if mapping is not None and mapping_now:
        raise UsageError("name one mapping: by --mapping or by --mapping-now")
    settings = read_settings(mappings=mappings, schemas=schemas, endpoint_url=endpoint_url, region=region)
    given = {
        "mapping_now": mapping_now, "only_failed": only_failed, "keep_better": keep_better,
        "allow_missing": allow_missing,
    }  # fmt: skip
    args: dict[str, Any] = {name: True for name, is_given in given.items() if is_given}
    if mapping is not None:
        args["mapping"] = definition_in(settings, mapping, batch).text
    side = place_option(where, endpoint_url, region)
    facts = compare(AskedOperation("remap", batch, args, side), settings)
    if diff and as_json:
        print_json(facts)
    else:
        show_diff(out if diff else err, facts)
    if diff or not _is_wanted(
        facts, yes=yes, allow_missing=allow_missing, is_other=mapping_now or mapping is not None
    ):
        exit_with(EXIT_OK)
    args["digest"] = facts["mapping"]
    open_round(AskedOperation("remap", batch, args, side, as_json), settings, wait=wait)


def _is_wanted(facts: dict[str, Any], *, yes: bool, allow_missing: bool, is_other: bool) -> bool:
    """True if the round is to be opened. Raises UsageError where nobody can be asked.

    `is_other`: a mapping was named, and not that of the batch taken.
    """
    missing = facts["missing"]["rows"]
    if missing and not allow_missing:
        raise UsageError(
            f"no reply is kept for {missing:,} rows: with --allow-missing they keep their outcome, and the "
            "others are mapped anew"
        )
    if not facts["rows"] or (not facts["is_changed"] and facts["mapping"] == facts["mapping_before"]):
        hint = "" if is_other else ": this is the batch's own mapping; --mapping-now takes the present one"
        err.print(f"there is nothing to do{hint}", highlight=False, soft_wrap=True)
        return False
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError("nothing was changed: give --yes where nobody can be asked")
        typer.confirm(
            f"map {facts['rows']:,} row{'' if facts['rows'] == 1 else 's'} anew?", abort=True, err=True
        )
    return True
