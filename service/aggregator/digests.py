"""The sha256 of result files whose first parts were written by an earlier aggregator.

The parts of an unfinished upload cannot be read. The whole object is read once; where that is not allowed,
the file is made from the outcomes again, without being written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from types import TracebackType
from typing import Self

from service.domain.errors import RetryableError
from service.domain.model import Source
from service.domain.ports import Objects, StoredFile, UploadProgress

READ_BYTES = 8 * 2**20


async def digest_of(objects: Objects, stored: StoredFile, check: Callable[[], None]) -> str:
    """The sha256 of an object, as hex digits; `check` is called before each read.

    Raises SourceError if it may not be read, RetryableError and AccessError.
    """
    source = Source(stored.bucket, stored.key, size=stored.size)
    sha256 = hashlib.sha256()
    offset = 0
    while offset < stored.size:
        check()
        body = await objects.read(source, offset, READ_BYTES)
        if not body:
            raise RetryableError(f"{source.url} ends after {offset} of {stored.size} bytes")
        sha256.update(body)
        offset += len(body)
    return sha256.hexdigest()


class HashingStore:
    """Takes uploads and keeps nothing but their size and sha256."""

    def upload(
        self,
        bucket: str,
        key: str,
        *,
        content_type: str,  # noqa: ARG002 -- as the port has it
        progress: UploadProgress | None = None,  # noqa: ARG002
    ) -> HashedUpload:
        """Start hashing an object."""
        return HashedUpload(bucket, key)


class HashedUpload:
    """An object that is only hashed."""

    stored_bytes = 0

    def __init__(self, bucket: str, key: str) -> None:
        self._bucket = bucket
        self._key = key
        self._size = 0
        self._sha256 = hashlib.sha256()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    async def write(self, data: bytes) -> None:
        """Hash bytes."""
        self._size += len(data)
        self._sha256.update(data)

    async def complete(self) -> StoredFile:
        """The file as it would be stored."""
        return StoredFile(self._bucket, self._key, self._size, self._sha256.hexdigest())

    @property
    def progress(self) -> UploadProgress:
        """Nothing is stored."""
        return UploadProgress("", (), self._size, b"")

    def leave(self) -> None:
        """There is nothing to leave."""
