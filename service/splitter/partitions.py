"""The number of partitions of a new batch. Pure.

A partition key of DynamoDB takes 1,000 write units a second, and a transaction costs two for each KB of an
outcome. So the number of partitions bounds the rows that a batch can commit in a second.
"""

from __future__ import annotations

from service.csvio.compression import is_compressed_name
from service.domain.model import Source

EXPANSION = 8
"""A compressed source is expected to hold this many times its bytes: CSV shrinks to a tenth up to a third."""

ROWS = 1_000
"""Rows per partition of a batch that is limited to its first rows."""


def partition_count(source: Source, limit: int | None, *, partition_bytes: int, most: int) -> int:
    """The partitions of a batch over `source`, from 1 to `most`.

    One for each `partition_bytes` of its text, and one for each `ROWS` rows if a `limit` allows fewer.
    """
    size = source.size * (EXPANSION if is_compressed_name(source.key) else 1)
    count = 1 + size // partition_bytes
    if limit is not None:
        count = min(count, 1 + limit // ROWS)
    return min(count, most)
