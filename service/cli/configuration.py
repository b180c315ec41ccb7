"""Mapping and schema files as commands read them, from local folders or from a bucket."""

from __future__ import annotations

import asyncio
from pathlib import Path

from service.adapters.aws.clients import open_clients
from service.adapters.aws.s3 import S3Objects
from service.app.aws_backend import aws_options
from service.app.settings import Settings
from service.catalog.files import MappingFiles, compile_catalog
from service.catalog.folders import MappingFolders, ReadMappingFiles, fixed_files
from service.mapping import Catalog


def is_in_bucket(settings: Settings) -> bool:
    """True if mappings or schemas are in a bucket."""
    return not (isinstance(settings.mappings, Path) and isinstance(settings.schemas, Path))


def read_mapping_files(settings: Settings) -> MappingFiles:
    """Read all files. Raises MappingError without a folder of mappings, and the errors of S3."""
    return asyncio.run(_read(settings))


def load_mappings(settings: Settings, *, splits: bool = True) -> tuple[ReadMappingFiles, Catalog]:
    """Return a function that reads the files for new runs, and the catalog of the present files.

    Raises MappingError if the present files do not compile.
    """
    if not splits:
        # only the splitter reads mappings: the other roles find the mapping stored with the batch
        return fixed_files(MappingFiles()), Catalog()
    files = read_mapping_files(settings)
    catalog = compile_catalog(files)
    if is_in_bucket(settings):
        # read once: the service may run on an embedded endpoint, which has other buckets
        return fixed_files(files), catalog
    return MappingFolders(settings.mappings, settings.schemas, None).read, catalog


async def _read(settings: Settings) -> MappingFiles:
    if not is_in_bucket(settings):
        return await MappingFolders(settings.mappings, settings.schemas, None).read()
    async with open_clients(aws_options(settings)) as clients:
        return await MappingFolders(settings.mappings, settings.schemas, S3Objects(clients)).read()
