"""Objects: an object store with ranged reads and streaming uploads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from service.domain.model import Source

LISTING_LIMIT = 1_000
"""Keys in one response of ListObjectsV2 (S3 quota)."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A written object. `size` is in bytes; `sha256` is the hex digest of the bytes."""

    bucket: str
    key: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class UploadProgress:
    """The state of an unfinished upload, from which another process can go on.

    `id` is "" until a part is stored. `parts` has what the store said of each. `size` counts all bytes that
    were written, `tail` has those of them that are in no part.
    """

    id: str
    parts: tuple[Mapping[str, str | int], ...]
    size: int
    tail: bytes


class Upload(Protocol):
    """An object being written, invisible until `complete`.

    Leaving the context earlier aborts the upload, unless it is to be left for another process (`leave`).
    Calls raise UploadGoneError if the upload was completed or aborted by another process.
    """

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    async def write(self, data: bytes) -> None:
        """Append bytes. At most one part is held in memory: 8 MiB, more beyond 11 GB."""
        ...

    async def complete(self) -> StoredFile:
        """Make the whole object visible. The sha256 is "" if parts of it were written by another process."""
        ...

    @property
    def progress(self) -> UploadProgress:
        """The present state. Parts end at fixed offsets, however the bytes were written."""
        ...

    @property
    def stored_bytes(self) -> int:
        """Bytes in parts that are stored."""
        ...

    def leave(self) -> None:
        """Do not abort the upload when its context is left."""
        ...


@dataclass(frozen=True, slots=True)
class Listing:
    """Objects by key, without versions. `after` is the key to continue after, None on the last page."""

    sources: Sequence[Source]
    after: str | None


class Objects(Protocol):
    """An object store. Reading a missing or changed object raises SourceError."""

    async def head(self, bucket: str, key: str, version: str = "") -> Source:
        """Size, etag (unquoted) and version of an object."""
        ...

    async def listing(
        self, bucket: str, prefix: str, *, after: str = "", limit: int = LISTING_LIMIT
    ) -> Listing:
        """Up to `limit` objects with this key prefix and keys greater than `after` (UTF-8 order)."""
        ...

    async def read(self, source: Source, start: int, length: int) -> bytes:
        """`length` bytes from `start`, fewer at the end. Raises SourceError if the etag has changed."""
        ...

    def upload(
        self, bucket: str, key: str, *, content_type: str, progress: UploadProgress | None = None
    ) -> Upload:
        """Start writing an object, which stays invisible until the upload is completed.

        With `progress` go on with an upload that another process has begun.
        """
        ...

    async def put(self, bucket: str, key: str, body: bytes, *, content_type: str) -> StoredFile:
        """Write a small object in one call."""
        ...

    async def put_if(self, bucket: str, key: str, body: bytes, *, content_type: str, etag: str) -> bool:
        """Write a small object in place of the one with this ETag; "": only if there is none.

        False if there is another one, or none, so that nothing was written. A call that was repeated after a
        lost response may meet its own object, and then returns False as well.
        """
        ...

    async def delete(self, bucket: str, prefix: str, *, is_prefix: bool = True) -> int:
        """Delete up to `LISTING_LIMIT` objects below `prefix`, or the one with exactly this key.

        All their versions are deleted. Return the number of objects and versions, 0 if none is left.
        """
        ...

    async def check_writable(self, bucket: str, key: str) -> None:
        """Raise AccessError or ConfigError if this object could not be written. Leaves nothing behind."""
        ...

    async def abort_uploads(self, bucket: str, key: str, *, keep: str = "") -> int:
        """Abort all unfinished uploads of exactly this key, by any process; return their number.

        The one with the id `keep` is left.
        """
        ...
