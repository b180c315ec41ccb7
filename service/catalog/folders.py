"""Folders of mapping and schema files: local, or under a prefix of a bucket.

In both kinds only `*.yaml` and `*.yml` directly in the folder count. A bucket folder is listed on every read,
and only new or changed objects are downloaded. Listings and downloads are bounded, because a mistyped prefix
can point at a bucket full of other data.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from service.catalog.files import YAML_SUFFIXES, MappingFiles, decode_utf8, read_mapping_files
from service.domain.errors import ConfigError, RetryableError, SourceError
from service.domain.model import Location, Source
from service.domain.ports import Objects
from service.mapping.syntax.problems import Problem
from service.mapping.syntax.yaml_text import MAX_BYTES

MAX_LISTED = 10_000
"""Objects under the prefix of a bucket folder. This limit and the next two are ours, far above real use."""

MAX_FILES = 1_000
"""Mapping or schema files in a bucket folder."""

MAX_TOTAL_BYTES = 16 * 2**20
"""Sum of the sizes of the files in a bucket folder."""

ReadMappingFiles = Callable[[], Awaitable[MappingFiles]]
"""Reads the current files. Raises ConfigError, AccessError and RetryableError."""

_CONCURRENT_READS = 8
_MAX_ATTEMPTS = 3


class MappingFolders:
    """The folder of mappings and the folder of schemas. `objects` is needed if one of them is in a bucket."""

    def __init__(self, mappings: Path | Location, schemas: Path | Location, objects: Objects | None) -> None:
        self._mappings = _open_folder(mappings, objects)
        self._schemas = _open_folder(schemas, objects)

    async def read(self) -> MappingFiles:
        """Read the current files.

        Raises MappingError if a local folder of mappings is missing, other ConfigErrors, AccessError, and
        RetryableError.
        """
        local_mappings = self._mappings if isinstance(self._mappings, Path) else None
        local_schemas = self._schemas if isinstance(self._schemas, Path) else None
        # Reading files blocks, so it does not run in the event loop.
        files = await asyncio.to_thread(read_mapping_files, local_mappings, local_schemas)
        if isinstance(self._mappings, BucketFolder):
            await self._mappings.read_into(files.mappings, files.problems)
        if isinstance(self._schemas, BucketFolder):
            await self._schemas.read_into(files.schemas, files.problems)
        return files


def _open_folder(location: Path | Location, objects: Objects | None) -> Path | Location | BucketFolder:
    return BucketFolder(objects, location) if objects and isinstance(location, Location) else location


def fixed_files(files: MappingFiles) -> ReadMappingFiles:
    """A reader that always returns the same files, read earlier."""

    async def read() -> MappingFiles:
        return files

    return read


class BucketFolder:
    """A prefix of a bucket. Texts are cached by object, version and etag."""

    def __init__(self, objects: Objects, folder: Location) -> None:
        self._objects = objects
        self._folder = folder
        self._cache: dict[Source, str | Problem] = {}

    async def read_into(self, texts: dict[str, str], problems: list[Problem]) -> None:
        """Add the files to `texts` by URL, and the unreadable files to `problems`. Raises like `read`."""
        for url, text in (await self.read()).items():
            if isinstance(text, Problem):
                problems.append(text)
            else:
                texts[url] = text

    async def read(self) -> dict[str, str | Problem]:
        """URL of each file -> its text, or the problem why it cannot be read; {} for a missing folder.

        Raises ConfigError if a limit is exceeded, AccessError, and RetryableError if a file cannot be read or
        changes during each of three attempts.
        """
        for _ in range(_MAX_ATTEMPTS):
            files = await self._list_files()
            try:
                texts = await self._read_texts(files)
            except SourceError as error:
                # The object was changed or deleted after it was listed, or reading it is forbidden. A
                # forbidden file must not look like a deleted one, so the whole read fails.
                last_error = error
                continue
            self._cache = texts
            return {source.url: text for source, text in texts.items()}
        raise RetryableError(str(last_error))

    async def _list_files(self) -> list[Source]:
        bucket, prefix, url = self._folder.bucket, self._folder.prefix, self._folder.url()
        files: list[Source] = []
        listed = 0
        after: str | None = ""
        while after is not None:
            page = await self._objects.listing(bucket, prefix, after=after)
            listed += len(page.sources)
            files += (source for source in page.sources if _is_mapping_file(source.key.removeprefix(prefix)))
            # Checked after each page: a whole bucket could have millions of objects.
            if listed > MAX_LISTED:
                raise ConfigError(f"{url} holds more than {MAX_LISTED} objects: name a prefix of its own")
            after = page.after
        if len(files) > MAX_FILES:
            raise ConfigError(f"{url} holds {len(files)} files, {MAX_FILES} are allowed: remove some")
        # Files above MAX_BYTES are reported without being downloaded, so they do not count here.
        total = sum(source.size for source in files if source.size <= MAX_BYTES)
        if total > MAX_TOTAL_BYTES:
            raise ConfigError(
                f"the files in {url} have {total} bytes, {MAX_TOTAL_BYTES} are allowed: remove some"
            )
        return files

    async def _read_texts(self, files: list[Source]) -> dict[Source, str | Problem]:
        """Raises the first error in the order of `files`, after all reads have ended."""
        limit = asyncio.Semaphore(_CONCURRENT_READS)

        async def read_one(source: Source) -> str | Problem:
            if source in self._cache:
                return self._cache[source]
            if source.size > MAX_BYTES:
                message = f"larger than {MAX_BYTES // 1024} KiB"
                return Problem(source.url, 1, message, "split it into several files")
            async with limit:
                return decode_utf8(source.url, await self._objects.read(source, 0, source.size))

        results = await asyncio.gather(*map(read_one, files), return_exceptions=True)
        texts: dict[Source, str | Problem] = {}
        for source, result in zip(files, results, strict=True):
            if isinstance(result, BaseException):
                raise result
            texts[source] = result
        return texts


def _is_mapping_file(name: str) -> bool:
    """True for a `*.yaml` or `*.yml` directly in the folder; `name` is the key without the prefix."""
    return "/" not in name and any(name.endswith(suffix) and name != suffix for suffix in YAML_SUFFIXES)
