"""Comparisons of a batch's values with those that another mapping would give, and mappings in files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from service.app.settings import Settings
from service.catalog.editions import Edition, next_edition
from service.catalog.files import read_text
from service.cli.batches.asking import AskedOperation
from service.cli.batches.places import Place, is_here, open_aws, open_here, run_on
from service.cli.configuration import compile_edition, read_mapping_files
from service.cli.console import err, run_async
from service.cli.options import log_as_command
from service.domain.errors import MappingError, UsageError
from service.domain.ports import MESSAGE_BYTES
from service.mapping import Definition, Problem
from service.mapping.catalog import run_name
from service.mapping.syntax.yaml_text import MAX_BYTES
from service.steering.answers import ask
from service.steering.remapping.remap import Remap

COMPARISON_S = 3_600.0
"""Longest wait for the fleet to compare the rows of a large batch."""


def compare(asked: AskedOperation, settings: Settings) -> dict[str, Any]:
    """The changes that a remap would make. The fleet compares its batches, since it has the present mapping.

    Raises UsageError if the remap would be refused, or if the fleet does not answer.
    """
    log_as_command(settings)
    if run_async(is_here(settings, asked.batch, asked.where)):
        # Read before the event loop runs, which the files of a bucket need as well.
        is_present = bool(asked.args.get("mapping_now"))
        edition = compile_edition(read_mapping_files(settings)) if is_present else Edition()
        return run_on(open_here(settings), settings, lambda place: _compare_here(asked, edition, place))

    async def work(place: Place) -> dict[str, Any]:
        request = AskedOperation("remap", asked.batch, {**asked.args, "diff": True}).request(
            await place.caller()
        )
        if len(request.encode()) > MESSAGE_BYTES:
            raise UsageError(
                f"the mapping is too long for a message of {MESSAGE_BYTES:,} bytes: put it into the folder "
                "of mappings of the service, and name --mapping-now"
            )
        err.print("the fleet compares the rows…", style="dim", highlight=False)
        answer = await ask(place.ports, request, wait_s=COMPARISON_S)
        if answer is None:
            raise UsageError(
                "the fleet has not compared the rows: without a running splitter nothing happens"
            )
        return dict(answer.answer)

    missing = None if asked.where is False else asked.batch
    return run_on(open_aws(settings, missing=missing), settings, work)


async def _compare_here(asked: AskedOperation, edition: Edition, place: Place) -> dict[str, Any]:
    remap = Remap(place.ports, edition.definition)
    return await remap.compare(asked.request(await place.caller()))


def definition_in(settings: Settings, path: Path, batch_id: str) -> Definition:
    """The mapping in a file, with the output mapping and schema that it names.

    These are found as `check` finds them: in the file itself, or in the folders of mappings and schemas. The
    file takes the place of the one with the mapping of the batch. Raises MappingError.
    """
    text = read_text(path, MAX_BYTES)
    if isinstance(text, Problem):
        raise MappingError(str(text))
    name = run_name(path.as_posix())
    replaced = {name, batch_id.partition("#")[0]}
    try:
        files = read_mapping_files(settings)
    except MappingError:
        # without a folder of mappings the file has to be complete
        mappings, schemas = {}, {}
    else:
        mappings, schemas = files.mappings, files.schemas
    others = {file: other for file, other in mappings.items() if run_name(file) not in replaced}
    edition = next_edition(Edition(), {**others, path.as_posix(): text}, schemas)
    return edition.definition(name)
