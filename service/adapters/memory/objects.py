"""The Objects port in memory."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

from service.domain.errors import AccessError, SourceError, UploadGoneError
from service.domain.model import Source
from service.domain.ports import LISTING_LIMIT, Listing, StoredFile, UploadProgress


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object with its bytes."""

    body: bytes
    content_type: str
    etag: str


class MemoryObjects:
    """Buckets that need no creation. Tests may read and change `stored` and the `unfinished` uploads.

    What begins with one of `refused` (`bucket/prefix`) takes no writes. Uploads have parts of `part_bytes`.
    """

    def __init__(self) -> None:
        self.stored: dict[tuple[str, str], StoredObject] = {}
        self.unfinished: list[MemoryUpload] = []
        self.refused: set[str] = set()
        self.part_bytes = 8 * 2**20
        self._upload_ids = itertools.count(1)

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

    def upload(
        self, bucket: str, key: str, *, content_type: str, progress: UploadProgress | None = None
    ) -> MemoryUpload:
        """Start writing an object, or go on; nothing is visible until the upload is completed."""
        return MemoryUpload(self, bucket, key, content_type, progress)

    def next_upload_id(self) -> str:
        """An id that no upload has yet."""
        return f"upload-{next(self._upload_ids)}"

    async def put(self, bucket: str, key: str, body: bytes, *, content_type: str) -> StoredFile:
        """Write a small object in one call."""
        await asyncio.sleep(0)
        self.check_refused(bucket, key)
        # as S3 does for an object that was not uploaded in parts
        etag = hashlib.md5(body, usedforsecurity=False).hexdigest()
        self.stored[bucket, key] = StoredObject(bytes(body), content_type, etag)
        return StoredFile(bucket, key, len(body), hashlib.sha256(body).hexdigest())

    async def put_if(self, bucket: str, key: str, body: bytes, *, content_type: str, etag: str) -> bool:
        """Write a small object unless another one, or none, is there. False if nothing was written."""
        stored = self.stored.get((bucket, key))
        if (stored.etag if stored else "") != etag:
            await asyncio.sleep(0)
            return False
        await self.put(bucket, key, body, content_type=content_type)
        return True

    async def delete(self, bucket: str, prefix: str, *, is_prefix: bool = True) -> int:
        """Delete objects below a prefix, or the one with this key; return their number."""
        listing = await self.listing(bucket, prefix)
        found = [source for source in listing.sources if is_prefix or source.key == prefix]
        for source in found:
            del self.stored[bucket, source.key]
        return len(found)

    async def check_writable(self, bucket: str, key: str) -> None:
        """Raise AccessError if this object is `refused`."""
        await asyncio.sleep(0)
        self.check_refused(bucket, key)

    async def abort_uploads(self, bucket: str, key: str, *, keep: str = "") -> int:
        """Abort every unfinished upload of exactly this key but `keep`; return their number."""
        await asyncio.sleep(0)
        found = [
            upload
            for upload in self.unfinished
            if (upload.bucket, upload.key) == (bucket, key) and upload.id != keep
        ]
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


class MemoryUpload:
    """One object being written. From its first byte to its end it is among `objects.unfinished`."""

    def __init__(
        self,
        objects: MemoryObjects,
        bucket: str,
        key: str,
        content_type: str,
        progress: UploadProgress | None = None,
    ) -> None:
        self.bucket = bucket
        self.key = key
        self.id = progress.id if progress else ""
        self._objects = objects
        self._content_type = content_type
        self.body = bytearray(progress.tail if progress else b"")
        self._is_resumed = self._is_closed = self._is_left = False
        if progress is not None and progress.parts:
            self._is_resumed = True
            self._take_over(len(progress.parts))

    def _take_over(self, parts: int) -> None:
        """Go on with an unfinished upload, in place of the process that began it."""
        for index, upload in enumerate(self._objects.unfinished):
            if upload.id == self.id:
                self.body[:0] = upload.body[: parts * self._objects.part_bytes]
                self._objects.unfinished[index] = self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_closed = True
        # after `complete` it is not among them any more; otherwise leaving aborts the upload
        if not self._is_left:
            self._remove_from_unfinished()

    async def write(self, data: bytes) -> None:
        """Append."""
        self._check_open()
        self._objects.check_refused(self.bucket, self.key)
        if not self.id:
            self.id = self._objects.next_upload_id()
            self._objects.unfinished.append(self)
        self._check_not_gone()
        self.body += data

    async def complete(self) -> StoredFile:
        """Make the whole object visible. Raises UploadGoneError if the upload was aborted meanwhile."""
        self._check_open()
        self._check_not_gone()
        stored = await self._objects.put(
            self.bucket, self.key, bytes(self.body), content_type=self._content_type
        )
        self._remove_from_unfinished()
        self._is_closed = True
        return replace(stored, sha256="") if self._is_resumed else stored

    @property
    def progress(self) -> UploadProgress:
        """As many parts as are full, and the bytes after them. The rest must not be empty, as on S3."""
        stored = self.stored_bytes
        parts = tuple({"number": number} for number in range(1, 1 + stored // self._objects.part_bytes))
        return UploadProgress(self.id if parts else "", parts, len(self.body), bytes(self.body[stored:]))

    @property
    def stored_bytes(self) -> int:
        """Bytes in full parts."""
        size = self._objects.part_bytes
        return max(0, len(self.body) - 1) // size * size

    def leave(self) -> None:
        """Do not abort the upload when its context is left."""
        self._is_left = True

    def _remove_from_unfinished(self) -> None:
        if self in self._objects.unfinished:
            self._objects.unfinished.remove(self)

    def _check_not_gone(self) -> None:
        if self.id and self not in self._objects.unfinished:
            raise UploadGoneError(f"the upload of s3://{self.bucket}/{self.key} was aborted meanwhile")

    def _check_open(self) -> None:
        if self._is_closed:
            raise RuntimeError(f"the upload of s3://{self.bucket}/{self.key} is closed")
