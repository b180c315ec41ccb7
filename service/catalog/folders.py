"""Where mappings and schemas lie: local folders, or folders in a bucket, read again and again.

A folder in a bucket is listed each time, and only what changed is read. What counts in it is what counts in a
local one: `*.yaml` and `*.yml` directly in it. Everything is bounded, since a wrong prefix can name a bucket
full of anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from service.catalog.files import YAML_SUFFIXES, MappingFiles, as_text, read_mapping_files
from service.domain.errors import ConfigError, RetryableError, SourceError
from service.domain.model import Location, Source
from service.domain.ports import Objects
from service.mapping.syntax.problems import Problem
from service.mapping.syntax.yaml_text import MAX_BYTES

MAX_LISTED = 10_000
MAX_FILES = 1_000
MAX_TOTAL_BYTES = 16 * 2**20
"""Objects under the prefix, files among them, and their sum: limits of our own, far above any real use."""

ReadMappingFiles = Callable[[], Awaitable[MappingFiles]]
"""Reads every file as it is now. Raises ConfigError, AccessError and RetryableError."""

_READS = 8
_ATTEMPTS = 3


class MappingFolders:
    """The folder of mappings and the folder of schemas. `objects` is needed where one is in a bucket."""

    def __init__(self, mappings: Path | Location, schemas: Path | Location, objects: Objects | None) -> None:
        self._mappings, self._schemas = (
            BucketFolder(objects, place) if objects and isinstance(place, Location) else place
            for place in (mappings, schemas)
        )

    async def read(self) -> MappingFiles:
        """Everything as it lies there now.

        Raises ConfigError (MappingError where there is no folder of mappings), AccessError, RetryableError.
        """
        local = [place if isinstance(place, Path) else None for place in (self._mappings, self._schemas)]
        sources = await asyncio.to_thread(read_mapping_files, *local)
        for place, texts in ((self._mappings, sources.mappings), (self._schemas, sources.schemas)):
            if isinstance(place, BucketFolder):
                for file, text in (await place.read()).items():
                    if isinstance(text, Problem):
                        sources.problems.append(text)
                    else:
                        texts[file] = text
        return sources


def fixed_files(sources: MappingFiles) -> ReadMappingFiles:
    """Files that were read before and do not change any more."""

    async def read() -> MappingFiles:
        return sources

    return read


class BucketFolder:
    """Remembers what it has read by etag."""

    def __init__(self, objects: Objects, folder: Location) -> None:
        self._objects = objects
        self._folder = folder
        self._known: dict[Source, str | Problem] = {}

    async def read(self) -> dict[str, str | Problem]:
        """Each file's text, or why it cannot be read, by its URL; a folder that is not there has none.

        Raises ConfigError where a limit is exceeded, AccessError, and RetryableError.
        """
        for _ in range(_ATTEMPTS):
            files = await self._files()
            try:
                known = await self._texts(files)
            except SourceError as error:  # changed or deleted since it was listed; or forbidden
                problem = error
                continue
            self._known = known
            return {source.url: text for source, text in known.items()}
        raise RetryableError(str(problem))

    async def _files(self) -> list[Source]:
        bucket, prefix = self._folder.bucket, self._folder.prefix
        place = self._folder.url()
        files: list[Source] = []
        listed = 0
        after: str | None = ""
        while after is not None:
            page = await self._objects.listing(bucket, prefix, after=after)
            listed += len(page.sources)
            files += (source for source in page.sources if _is_file(source.key.removeprefix(prefix)))
            if listed > MAX_LISTED:
                raise ConfigError(f"{place} holds more than {MAX_LISTED} objects: name a prefix of its own")
            after = page.after
        if len(files) > MAX_FILES:
            raise ConfigError(f"{place} holds {len(files)} files, {MAX_FILES} are allowed: remove some")
        total = sum(source.size for source in files if source.size <= MAX_BYTES)
        if total > MAX_TOTAL_BYTES:
            raise ConfigError(
                f"the files in {place} have {total} bytes, {MAX_TOTAL_BYTES} are allowed: remove some"
            )
        return files

    async def _texts(self, files: list[Source]) -> dict[Source, str | Problem]:
        gate = asyncio.Semaphore(_READS)

        async def text(source: Source) -> str | Problem:
            if source in self._known:
                return self._known[source]
            if source.size > MAX_BYTES:
                what = f"larger than {MAX_BYTES // 1024} KiB"
                return Problem(source.url, 1, what, "split it into several files")
            async with gate:
                return as_text(source.url, await self._objects.read(source, 0, source.size))

        texts = await asyncio.gather(*map(text, files), return_exceptions=True)
        return {source: _or_raise(text) for source, text in zip(files, texts, strict=True)}


def _or_raise(text: str | Problem | BaseException) -> str | Problem:
    if isinstance(text, BaseException):
        raise text
    return text


def _is_file(name: str) -> bool:
    return "/" not in name and any(name.endswith(suffix) and name != suffix for suffix in YAML_SUFFIXES)
