"""The Objects port in a folder: small objects are in the database, large ones are files."""

from __future__ import annotations

import hashlib
import sqlite3

from service.adapters.sqlite.connection import StoreConnection
from service.adapters.sqlite.objects.files import ObjectFiles
from service.adapters.sqlite.objects.rows import (
    ObjectRow,
    count_objects,
    delete_objects,
    end_upload,
    listed_objects,
    save_object,
    stored_object,
    uploads_of,
)
from service.adapters.sqlite.objects.upload import FolderUpload
from service.domain.errors import AccessError, SourceError
from service.domain.model import Source
from service.domain.ports import LISTING_LIMIT, Listing, StoredFile, UploadProgress

FILE_BYTES = 64 * 1024
"""Objects from this size on are files: smaller ones are cheaper in the database, and share its writes."""

PART_BYTES = 8 * 2**20


class FolderObjects:
    """Buckets that need no creation; uploads have parts of `part_bytes`."""

    def __init__(
        self,
        connection: StoreConnection,
        files: ObjectFiles,
        *,
        part_bytes: int = PART_BYTES,
        read_only: bool = False,
    ) -> None:
        self._connection = connection
        self._files = files
        self._part_bytes = part_bytes
        self._is_read_only = read_only

    async def head(self, bucket: str, key: str, version: str = "") -> Source:
        """Size and etag. Only the latest version is kept."""
        found = await self._found(Source(bucket, key))
        return Source(bucket=bucket, key=key, etag=found.etag, version=version, size=found.size)

    async def listing(
        self, bucket: str, prefix: str, *, after: str = "", limit: int = LISTING_LIMIT
    ) -> Listing:
        """Up to `limit` objects whose keys begin with `prefix` and follow `after`."""
        found = await self._connection.run(lambda one: listed_objects(one, bucket, prefix, after, limit + 1))
        return Listing(found[:limit], found[limit - 1].key if len(found) > limit else None)

    async def read(self, source: Source, start: int, length: int) -> bytes:
        """Bytes `start` to `start + length`, fewer at the end; SourceError if the etag changed."""
        while True:
            found = await self._found(source, start, max(0, length))
            if source.etag and source.etag != found.etag:
                raise SourceError(f"{source.url} was changed while it was read: start a new run")
            if not found.name:
                return found.body or b""
            if (read := await self._files.read(found.name, start, max(0, length))) is not None:
                return read
            if (await self._found(source)).name == found.name:
                raise SourceError(f"{source.url} has lost its file {found.name}: start a new run")

    def upload(
        self, bucket: str, key: str, *, content_type: str, progress: UploadProgress | None = None
    ) -> FolderUpload:
        """Start writing an object, or go on; nothing is visible until the upload is completed."""
        return FolderUpload(
            self, self._connection, self._files, bucket, key, content_type, self._part_bytes, progress
        )

    async def put(self, bucket: str, key: str, body: bytes, *, content_type: str) -> StoredFile:
        """Write a small object in one call."""
        row = await self._row_of(bucket, key, body, content_type)
        await self._files.remove(
            await self._connection.run(lambda one: save_object(one, row), is_durable=True)
        )
        return StoredFile(bucket, key, len(body), hashlib.sha256(body).hexdigest())

    async def put_if(self, bucket: str, key: str, body: bytes, *, content_type: str, etag: str) -> bool:
        """Write a small object unless another one, or none, is there. False if nothing was written."""
        row = await self._row_of(bucket, key, body, content_type)
        replaced = await self._connection.run(
            lambda one: save_object(one, row) if _has_etag(stored_object(one, bucket, key), etag) else None,
            is_durable=True,
        )
        await self._files.remove(row.name if replaced is None else replaced)
        return replaced is not None

    async def delete(self, bucket: str, prefix: str, *, is_prefix: bool = True) -> int:
        """Delete objects below a prefix, or the one with this key, and their uploads; return their number."""

        def delete(connection: sqlite3.Connection) -> tuple[int, list[str]]:
            found = count_objects(connection, bucket, prefix, is_prefix=is_prefix)
            return found, delete_objects(connection, bucket, prefix, is_prefix=is_prefix)

        number, names = await self._connection.run(delete, is_durable=True)
        await self._files.remove(*names)
        return number

    async def check_writable(self, bucket: str, key: str) -> None:
        """Raise AccessError if the store was opened to read."""
        if self._is_read_only:
            raise AccessError(f"s3://{bucket}/{key} cannot be written: the store was opened to read")

    async def abort_uploads(self, bucket: str, key: str, *, keep: str = "") -> int:
        """Abort every unfinished upload of exactly this key but `keep`; return their number."""
        found = await self._connection.run(
            lambda one: [id_ for id_ in uploads_of(one, bucket, key) if id_ != keep and end_upload(one, id_)]
        )
        await self._files.remove(*found)
        return len(found)

    async def _row_of(self, bucket: str, key: str, body: bytes, content_type: str) -> ObjectRow:
        """The row of an object; the file of a large one is written."""
        # as S3 does for an object that was not uploaded in parts
        etag = hashlib.md5(body, usedforsecurity=False).hexdigest()
        if len(body) < FILE_BYTES:
            return ObjectRow(bucket, key, etag, len(body), content_type, body=bytes(body))
        return ObjectRow(bucket, key, etag, len(body), content_type, name=await self._files.create(body))

    async def _found(self, source: Source, start: int = 0, length: int = 0) -> ObjectRow:
        found = await self._connection.run(
            lambda one: stored_object(one, source.bucket, source.key, start, length)
        )
        if found is None:
            raise SourceError(f"{source.url} does not exist: upload it and submit the run again")
        return found


def _has_etag(stored: ObjectRow | None, etag: str) -> bool:
    return (stored.etag if stored else "") == etag
