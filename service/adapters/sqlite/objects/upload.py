"""Uploads to the folder of objects: a file that grows part by part, and becomes an object at the end."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from sqlite3 import Connection
from types import TracebackType
from typing import Protocol, Self

from service.adapters.sqlite.connection import StoreConnection
from service.adapters.sqlite.objects.files import ObjectFiles
from service.adapters.sqlite.objects.rows import ObjectRow, add_upload, end_upload, save_object
from service.domain.errors import UploadGoneError
from service.domain.ports import StoredFile, UploadProgress


class _Puts(Protocol):
    """Writes a small object in one call."""

    async def put(self, bucket: str, key: str, body: bytes, *, content_type: str) -> StoredFile: ...


class FolderUpload:
    """One object being written. Its first part begins a file, whose name is the id of the upload."""

    def __init__(
        self,
        objects: _Puts,
        connection: StoreConnection,
        files: ObjectFiles,
        bucket: str,
        key: str,
        content_type: str,
        part_bytes: int,
        progress: UploadProgress | None = None,
    ) -> None:
        begun = progress or UploadProgress("", (), 0, b"")
        self._objects = objects
        self._connection = connection
        self._files = files
        self._bucket = bucket
        self._key = key
        self._content_type = content_type
        self._part_bytes = part_bytes
        self._buffer = bytearray(begun.tail)
        # the parts of another process are not read again
        self._sha256 = None if begun.parts else hashlib.sha256(begun.tail)
        self._size = begun.size
        self._id = begun.id
        self._is_left = self._is_closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        if self._id and not self._is_left:
            # the file first: on a full disk its space may be needed to write anything
            await self._files.remove(self._id)
            await self._connection.run(lambda one: end_upload(one, self._id))

    async def write(self, data: bytes) -> None:
        """Append. Holds at most one part in memory, besides `data` itself."""
        self._check_open()
        if self._sha256 is not None:
            self._sha256.update(data)
        self._size += len(data)
        self._buffer += data
        # the rest must not be empty, as on S3
        while len(self._buffer) > self._part_bytes:
            if not self._id:
                await self._begin()
            await self._write_part(bytes(self._buffer[: self._part_bytes]))
            # after the write: an upload that goes on after a failed one still has these bytes
            del self._buffer[: self._part_bytes]

    async def complete(self) -> StoredFile:
        """Make the whole object visible. Raises UploadGoneError if the upload was aborted meanwhile."""
        self._check_open()
        digest = "" if self._sha256 is None else self._sha256.hexdigest()
        if self._id:
            await self._write_part(bytes(self._buffer), is_last=True)
            row = ObjectRow(self._bucket, self._key, self._id, self._size, self._content_type, self._id)
            replaced = await self._connection.run(self._completion(row), is_durable=True)
            await self._files.remove(replaced)
        else:
            await self._objects.put(
                self._bucket, self._key, bytes(self._buffer), content_type=self._content_type
            )
        self._is_closed = True
        return StoredFile(self._bucket, self._key, self._size, digest)

    @property
    def progress(self) -> UploadProgress:
        """The parts that are in the file, and the bytes after them."""
        parts = tuple({"number": number} for number in range(1, 1 + self.stored_bytes // self._part_bytes))
        return UploadProgress(self._id if parts else "", parts, self._size, bytes(self._buffer))

    @property
    def stored_bytes(self) -> int:
        """Bytes in parts that are in the file."""
        return self._size - len(self._buffer)

    def leave(self) -> None:
        """Do not abort the upload when its context is left."""
        self._is_left = True

    async def _begin(self) -> None:
        name = await self._files.create()
        await self._connection.run(
            lambda one: add_upload(one, name, self._bucket, self._key), is_durable=True
        )
        self._id = name

    async def _write_part(self, body: bytes, *, is_last: bool = False) -> None:
        if not await self._files.write(self._id, body, self.stored_bytes, is_last=is_last):
            raise self._gone()

    def _completion(self, row: ObjectRow) -> Callable[[Connection], str]:
        """The transaction that makes an object of the upload."""

        def complete(connection: Connection) -> str:
            if not end_upload(connection, self._id):
                raise self._gone()
            return save_object(connection, row)

        return complete

    def _gone(self) -> UploadGoneError:
        return UploadGoneError(f"the upload of s3://{self._bucket}/{self._key} was aborted meanwhile")

    def _check_open(self) -> None:
        if self._is_closed:
            raise RuntimeError(f"the upload of s3://{self._bucket}/{self._key} is closed")
