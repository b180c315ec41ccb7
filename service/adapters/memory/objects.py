"""The Objects port in memory."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from service.domain.errors import AccessError, SourceError, UnknownResultError
from service.domain.model import Source
from service.domain.ports import LISTING_LIMIT, Listing, StoredFile


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object with its bytes."""

    body: bytes
    content_type: str
    etag: str


class MemoryObjects:
    """Buckets that need no creation. Tests may read and change `stored` and the `unfinished` uploads.

    What begins with one of `refused` (`bucket/prefix`) takes no writes.
    """

    def __init__(self) -> None:
        self.stored: dict[tuple[str, str], StoredObject] = {}
        self.unfinished: list[MemoryUpload] = []
        self.refused: set[str] = set()

    async def head(self, bucket: str, key: str, version: str = "") -> Source:
        """Size and etag. Only the latest version is kept."""
        await asyncio.sleep(0)
        found = self._found(Source(bucket, key))
        return Source(bucket=bucket, key=key, etag=found.etag, version=version, size=len(found.body))

    async def listing(
        self, bucket: str, prefix: str, *, after: str = "", limit: int = LISTING_LIMIT
    ) -> Listing:
        """Up to `limit` objects whose keys begin with `prefix` and follow `after`."""
        await asyncio.sleep(0)
        # S3 lists in the order of the keys' UTF-8 bytes
        keys = sorted(
            (
                key
                for stored_bucket, key in self.stored
                if stored_bucket == bucket and key.startswith(prefix) and key.encode() > after.encode()
            ),
            key=str.encode,
        )
        sources = []
        for key in keys[:limit]:
            stored = self.stored[bucket, key]
            sources.append(Source(bucket=bucket, key=key, etag=stored.etag, size=len(stored.body)))
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
        self.check_refused(bucket, key)
        # as S3 does for an object that was not uploaded in parts
        etag = hashlib.md5(body, usedforsecurity=False).hexdigest()
        self.stored[bucket, key] = StoredObject(bytes(body), content_type, etag)
        return StoredFile(bucket, key, len(body), hashlib.sha256(body).hexdigest())

    async def check_writable(self, bucket: str, key: str) -> None:
        """Raise AccessError if this object is `refused`."""
        await asyncio.sleep(0)
        self.check_refused(bucket, key)

    async def abort_uploads(self, bucket: str, key: str) -> int:
        """Abort every unfinished upload of exactly this key; return their number."""
        await asyncio.sleep(0)
        found = [upload for upload in self.unfinished if (upload.bucket, upload.key) == (bucket, key)]
        for upload in found:
            self.unfinished.remove(upload)
        return len(found)

    def check_refused(self, bucket: str, key: str) -> None:
        """Raise AccessError if this object is `refused`."""
        if any(f"{bucket}/{key}".startswith(place) for place in self.refused):
            raise AccessError(f"s3:PutObject on s3://{bucket}/{key} is not allowed")

    def _found(self, source: Source) -> StoredObject:
        found = self.stored.get((source.bucket, source.key))
        if found is None:
            raise SourceError(f"{source.url} does not exist: upload it and submit the run again")
        return found


@dataclass(eq=False, slots=True)
class MemoryUpload:
    """One object being written. From its first byte to its end it is among `objects.unfinished`."""

    objects: MemoryObjects
    bucket: str
    key: str
    content_type: str
    _body: bytearray = field(default_factory=bytearray)
    _is_closed: bool = False
    _has_begun: bool = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_closed = True
        # after `complete` it is not among them any more; otherwise leaving aborts the upload
        self._remove_from_unfinished()

    async def write(self, data: bytes) -> None:
        """Append."""
        self._check_open()
        self.objects.check_refused(self.bucket, self.key)
        if not self._has_begun:
            self._has_begun = True
            self.objects.unfinished.append(self)
        self._body += data

    async def complete(self) -> StoredFile:
        """Make the whole object visible. Raises UnknownResultError if the upload was aborted meanwhile."""
        self._check_open()
        if self._has_begun and not self._remove_from_unfinished():
            raise UnknownResultError(f"the upload of s3://{self.bucket}/{self.key} was aborted meanwhile")
        stored = await self.objects.put(
            self.bucket, self.key, bytes(self._body), content_type=self.content_type
        )
        self._is_closed = True
        return stored

    def _remove_from_unfinished(self) -> bool:
        """Remove the upload from the unfinished ones. False if it was not among them."""
        if self in self.objects.unfinished:
            self.objects.unfinished.remove(self)
            return True
        return False

    def _check_open(self) -> None:
        if self._is_closed:
            raise RuntimeError(f"the upload of s3://{self.bucket}/{self.key} is closed")
