"""Mapping and schema files as commands read them, from local folders or from a bucket."""

from __future__ import annotations

import asyncio
from pathlib import Path

from service.app.settings import Settings
from service.catalog.editions import Edition, next_edition
from service.catalog.files import MappingFiles
from service.catalog.folders import MappingFolders, ReadMappingFiles, fixed_files
from service.cli.console import print_warning
from service.mapping.syntax.problems import raise_if_any


def is_in_bucket(settings: Settings) -> bool:
    """True if mappings or schemas are in a bucket."""
    return not (isinstance(settings.mappings, Path) and isinstance(settings.schemas, Path))


def read_mapping_files(settings: Settings) -> MappingFiles:
    """Read all files. Raises MappingError without a folder of mappings, and the errors of S3."""
    return asyncio.run(_read(settings))


def load_mappings(settings: Settings, *, splits: bool = True) -> tuple[ReadMappingFiles, Edition]:
    """Return a function that reads the files for new runs, and the edition of the present files.

    A broken file stops only the mappings that need it. Raises MappingError if no mapping compiles.
    """
    if not splits:
        # only the splitter reads mappings: the other roles find the mapping stored with the batch
        return fixed_files(MappingFiles()), Edition()
    files = read_mapping_files(settings)
    edition = compile_edition(files)
    if is_in_bucket(settings):
        # read once: the service may run on an embedded endpoint, which has other buckets
        return fixed_files(files), edition
    return MappingFolders(settings.mappings, settings.schemas, None).read, edition


def compile_edition(files: MappingFiles) -> Edition:
    """The edition of files. Raises MappingError if there are problems and nothing compiles."""
    edition = next_edition(Edition(), files.mappings, files.schemas, files.problems)
    if not edition.catalog.extractor_names:
        raise_if_any(edition.problems)
    return edition


def warn_of_problems(edition: Edition) -> None:
    """Print the problems of files that a command can do without, on stderr."""
    for problem in edition.problems:
        print_warning(str(problem))


async def _read(settings: Settings) -> MappingFiles:
    if not is_in_bucket(settings):
        return await MappingFolders(settings.mappings, settings.schemas, None).read()
    # Imported for files in a bucket only: clients of AWS take half a second.
    from service.adapters.aws.clients import open_clients  # noqa: PLC0415
    from service.adapters.aws.s3 import S3Objects  # noqa: PLC0415
    from service.app.aws.backend import aws_options  # noqa: PLC0415

    async with open_clients(aws_options(settings)) as clients:
        return await MappingFolders(settings.mappings, settings.schemas, S3Objects(clients)).read()
