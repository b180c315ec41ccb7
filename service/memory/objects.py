"""The Objects port in memory."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from service.errors import SourceError
from service.model import Source
from service.ports import LISTING_LIMIT, Listing, StoredFile


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object with its bytes."""

    body: bytes
    content_type: str
    etag: str


class MemoryObjects:
    """Buckets that need no creation. `stored` is there for tests to look at and change."""

    def __init__(self) -> None:
        self.stored: dict[tuple[str, str], StoredObject] = {}

    async def head(self, bucket: str, key: str, version: str = "") -> Source:
        """Size and etag; versions are not kept."""
        await asyncio.sleep(0)
        found = self._found(Source(bucket, key))
        return Source(bucket, key, found.etag, version, len(found.body))

    async def listing(
        self, bucket: str, prefix: str, *, after: str = "", limit: int = LISTING_LIMIT
    ) -> Listing:
        """Up to `limit` objects whose keys begin with `prefix` and come behind `after`."""
        await asyncio.sleep(0)
        names = (key for where, key in self.stored if where == bucket and key.startswith(prefix))
        keys = sorted((key for key in names if key.encode() > after.encode()), key=str.encode)
        found = ((key, self.stored[bucket, key]) for key in keys[:limit])
        sources = [Source(bucket, key, stored.etag, "", len(stored.body)) for key, stored in found]
        return Listing(sources, sources[-1].key if len(keys) > limit else None)

    async def read(self, source: Source, start: int, length: int) -> bytes:
        """Bytes `start` to `start + length`, fewer at the end; SourceError if the etag changed."""
        await asyncio.sleep(0)
        found = self._found(source)
        if source.etag and source.etag != found.etag:
            raise SourceError(f"{source.url} was changed while it was read: start a new run")
        return found.body[start : start + max(0, length)]

    def upload(self, bucket: str, key: str, *, content_type: str) -> MemoryUpload:
        """Start writing an object; nothing is visible until the upload is completed."""
        return MemoryUpload(self, bucket, key, content_type)

    async def put(self, bucket: str, key: str, body: bytes, *, content_type: str) -> StoredFile:
        """Write a small object in one call."""
        await asyncio.sleep(0)
        etag = hashlib.md5(body, usedforsecurity=False).hexdigest()
        self.stored[bucket, key] = StoredObject(bytes(body), content_type, etag)
        return StoredFile(bucket, key, len(body), hashlib.sha256(body).hexdigest())

    def _found(self, source: Source) -> StoredObject:
        found = self.stored.get((source.bucket, source.key))
        if found is None:
            raise SourceError(f"{source.url} does not exist: upload it and submit the run again")
        return found


@dataclass(slots=True)
class MemoryUpload:
    """One object being written."""

    objects: MemoryObjects
    bucket: str
    key: str
    content_type: str
    _body: bytearray = field(default_factory=bytearray)
    _closed: bool = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True

    async def write(self, data: bytes) -> None:
        """Append."""
        self._check_open()
        self._body += data

    async def complete(self) -> StoredFile:
        """Make the object visible, whole."""
        self._check_open()
        stored = await self.objects.put(
            self.bucket, self.key, bytes(self._body), content_type=self.content_type
        )
        self._closed = True
        return stored

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError(f"the upload of s3://{self.bucket}/{self.key} is closed")
