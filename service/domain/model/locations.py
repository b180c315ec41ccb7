"""Places in S3: sources, prefixes for results, payloads."""

from __future__ import annotations

from dataclasses import dataclass


def parse_url(url: str) -> tuple[str, str]:
    """Bucket and key of `s3://bucket/key`. Raises ValueError."""
    scheme, _, rest = url.partition("://")
    bucket, slash, key = rest.partition("/")
    if scheme != "s3" or not bucket or not slash:
        raise ValueError(f"{url!r} is not of the form s3://bucket/key")
    return bucket, key


CHECKPOINT_ROWS = 2_000
"""Rows between two checkpoints of a split, unless set otherwise."""


@dataclass(frozen=True, slots=True)
class Source:
    """The object that a batch reads. `etag` is unquoted; `size` in bytes; `version` is "" if unversioned."""

    bucket: str
    key: str
    etag: str = ""
    version: str = ""
    size: int = 0

    @property
    def url(self) -> str:
        """`s3://bucket/key`."""
        return f"s3://{self.bucket}/{self.key}"

    def is_same_object(self, other: Source) -> bool:
        """True if both name the same bytes. An etag that is not known yet matches any etag."""
        same_place = (self.bucket, self.key) == (other.bucket, other.key)
        return same_place and (not self.etag or not other.etag or self.etag == other.etag)


@dataclass(frozen=True, slots=True)
class Location:
    """A bucket and a key prefix that ends in `/`."""

    bucket: str
    prefix: str

    def url(self, name: str = "") -> str:
        """`s3://bucket/prefix` plus `name`."""
        return f"s3://{self.bucket}/{self.prefix}{name}"


@dataclass(frozen=True, slots=True)
class StoredPayload:
    """The object that holds an outcome's data if it is too large for an item.

    `size` is in bytes; `sha256` is the hex digest of the bytes.
    """

    bucket: str
    key: str
    size: int
    sha256: str

    @property
    def url(self) -> str:
        """`s3://bucket/key`."""
        return f"s3://{self.bucket}/{self.key}"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Progress of a split: `rows` are sent for certain; the next one starts at `byte_offset` and `line`.

    `blanks` is the number of blank records that were skipped before.
    """

    rows: int = 0
    byte_offset: int = 0
    line: int = 1
    blanks: int = 0
