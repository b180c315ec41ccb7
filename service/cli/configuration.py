"""Mappings and schemas as commands read them: once, from folders or from a bucket, and all of them right."""

from __future__ import annotations

import asyncio
from pathlib import Path

from service.adapters.aws.clients import open_clients
from service.adapters.aws.s3 import S3Objects
from service.app.backend import aws_options
from service.app.settings import Settings
from service.catalog.files import MappingFiles, compile_catalog
from service.catalog.folders import MappingFolders, ReadMappingFiles, fixed_files
from service.mapping import Catalog


def in_bucket(settings: Settings) -> bool:
    """Whether mappings or schemas are in a bucket."""
    return not (isinstance(settings.mappings, Path) and isinstance(settings.schemas, Path))


def sources(settings: Settings) -> MappingFiles:
    """Every file. Raises MappingError where there is no folder of mappings, and what AWS refuses."""
    return asyncio.run(_read(settings))


def configuration(settings: Settings, *, splits: bool = True) -> tuple[ReadMappingFiles, Catalog]:
    """What reads the files for new runs, and what is in them now. Raises MappingError.

    Without a splitter nothing is read: a batch brings its mapping to the other roles. What is in a bucket is
    read once, since an embedded endpoint has other buckets; a folder can be edited while the service runs.
    """
    if not splits:
        return fixed_files(MappingFiles()), Catalog()
    found = sources(settings)
    again = MappingFolders(settings.mappings, settings.schemas, None).read
    return fixed_files(found) if in_bucket(settings) else again, compile_catalog(found)


async def _read(settings: Settings) -> MappingFiles:
    if not in_bucket(settings):
        return await MappingFolders(settings.mappings, settings.schemas, None).read()
    async with open_clients(aws_options(settings)) as clients:
        return await MappingFolders(settings.mappings, settings.schemas, S3Objects(clients)).read()
