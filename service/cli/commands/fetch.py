"""The command `fetch`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from service.adapters.sqlite.errors import StoreInUseError
from service.app.download import result_paths
from service.app.fetching import RoundResults, fetch_results, find_results, stream_results
from service.app.laptop.backend import open_laptop
from service.app.laptop.home import Home
from service.app.laptop.results import check_target, find_replaced, note_written
from service.app.laptop.run_book import STDOUT
from service.app.settings import Settings
from service.app.status import read_batch
from service.cli.batches.places import Place, open_place, place_option, run_on
from service.cli.console import err, print_json, print_line
from service.cli.options import (
    BatchArgument,
    EndpointOption,
    JsonOption,
    PlaceOption,
    RegionOption,
    read_settings,
)
from service.domain.errors import UsageError

app = typer.Typer()


@app.command()
def fetch(
    batch: BatchArgument,
    *,
    round_: Annotated[
        int | None,
        typer.Option("--round", min=1, metavar="N", show_default="the newest", help="Those of round N."),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            "--out", "-o", show_default="the place of its run, or RUN.csv",
            help="Result file; - writes output.csv to stdout.",
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace files at that place, whoever wrote them.")
    ] = False,
    as_json: JsonOption = False,
    where: PlaceOption = None,
    endpoint_url: EndpointOption = None,
    region: RegionOption = None,
) -> None:  # fmt: skip
    """Write the result files of a batch, with their digests checked: output, failures and manifest."""
    settings = read_settings(endpoint_url=endpoint_url, region=region)
    if target == STDOUT and as_json:
        raise UsageError("--json and --out - both write to stdout: name a file with --out")

    async def work(place: Place) -> None:
        view = await read_batch(place.ports.table, batch)
        results = await find_results(place.ports.objects, view.batch, round_)
        if target == STDOUT:
            await stream_results(place.ports.objects, results, sys.stdout.buffer)
            return
        out = Path(target) if target else await _default_target(place, batch)
        await _check_target(place, results, out, force=force)
        note = None if place.home is None else partial(_note, settings, place.home, results)
        files = await fetch_results(place.ports.objects, results, out, note)
        _show(results, files, as_json=as_json)

    run_on(open_place(settings, batch, place_option(where, endpoint_url, region)), settings, work)


async def _default_target(place: Place, batch_id: str) -> Path:
    """The place of the run on this machine; else a file in the current folder with the run's name."""
    record = None if place.runs is None else await place.runs.of_batch(batch_id)
    if record is not None and record.out != STDOUT:
        return Path(record.place)
    return Path(f"{batch_id.partition('#')[2]}.csv")


async def _check_target(place: Place, results: RoundResults, out: Path, *, force: bool) -> None:
    """Raise UsageError if a file lies there that may not be replaced, or nothing can be written there."""
    check_target(out, None)
    if place.runs is not None:
        replaced = await find_replaced(place.runs, out, force=force)
        if replaced is not None and (replaced.batch_id, replaced.round) != (results.batch_id, results.round):
            text = f"replaces the result of {replaced.batch_id}, which stays in the store: {replaced.command}"
            err.print(text, markup=False, highlight=False, soft_wrap=True)
        return
    there = [path for path in result_paths(out).values() if path.exists()]
    if there and not force:
        raise UsageError(f"{there[0]} is there: name another file with --out, or give --force to replace it")


async def _note(settings: Settings, home: Home, results: RoundResults, digests: Mapping[Path, str]) -> None:
    """Keep in the store that these files are results of it, so that a later run may replace them."""
    try:
        async with open_laptop(home, settings) as backend:
            await note_written(backend.runs, results, digests)
    except StoreInUseError:
        pass  # a process has the store; without the note a later run asks for --force


def _show(results: RoundResults, files: Mapping[str, Path], *, as_json: bool) -> None:
    if as_json:
        shown = {name: str(path) for name, path in files.items()}
        print_json({"batch_id": results.batch_id, "round": results.round, "files": shown})
        return
    for path in files.values():
        print_line(str(path))
