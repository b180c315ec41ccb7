"""The command `sample`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from service.agents.wire.reply_bodies import parse_reply
from service.catalog.check import SAMPLES
from service.catalog.recording import RecordedSample, record_samples
from service.cli.batches.kept_replies import RowReply, read_row_replies
from service.cli.batches.places import Place, open_place, place_option, run_on
from service.cli.console import print_json, print_line
from service.cli.options import (
    BatchArgument,
    EndpointOption,
    JsonOption,
    MappingsOption,
    PlaceOption,
    RegionOption,
    read_settings,
)
from service.domain.errors import UsageError
from service.steering.filters import RowRanges

app = typer.Typer()

MOST_SAMPLES = 1_000
"""Samples that one command writes: `check` runs all of them each time."""


@app.command()
def sample(
    batch: BatchArgument,
    rows: Annotated[
        str, typer.Option("--rows", metavar="3,17,100-200", help="The rows whose kept replies are written.")
    ],
    *,
    expect: Annotated[
        bool,
        typer.Option(
            "--expect", help="Record the present values, or the present error, as what is expected."
        ),
    ] = False,
    mappings: MappingsOption = None,
    as_json: JsonOption = False,
    where: PlaceOption = None,
    endpoint_url: EndpointOption = None,
    region: RegionOption = None,
) -> None:
    """Write kept replies of a batch as samples of its mapping, which `check` runs from then on.

    They are written into mappings/samples/NAME/. No file is overwritten. The paths of the files are printed.
    """
    numbers = _numbers(RowRanges.parse(rows))
    settings = read_settings(mappings=mappings, endpoint_url=endpoint_url, region=region)
    folder = settings.mappings
    if not isinstance(folder, Path):
        raise UsageError("samples are files beside the mappings: name a local folder with --mappings DIR")

    async def work(place: Place) -> list[RowReply]:
        return await read_row_replies(place, batch, numbers)

    place = open_place(settings, batch, place_option(where, endpoint_url, region))
    found = run_on(place, settings, work)
    samples = [_sample(row, expect=expect) for row in found]
    paths = record_samples(folder / SAMPLES / found[0].batch.tool_name, samples, parse_reply)
    if as_json:
        print_json({"files": [path.as_posix() for path in paths]})
        return
    for path in paths:
        print_line(path.as_posix())


def _sample(row: RowReply, *, expect: bool) -> RecordedSample:
    stem = f"{row.batch.execution_id}-row-{row.outcome.number}"
    return RecordedSample(stem, row.reply.value, row.outcome if expect else None)


def _numbers(ranges: RowRanges) -> list[int]:
    count = sum(last - first + 1 for first, last in zip(ranges.firsts, ranges.lasts, strict=True))
    if count > MOST_SAMPLES:
        raise UsageError(f"{count:,} rows are named; a command writes {MOST_SAMPLES:,} samples at most")
    return [
        number
        for first, last in zip(ranges.firsts, ranges.lasts, strict=True)
        for number in range(first, last + 1)
    ]
