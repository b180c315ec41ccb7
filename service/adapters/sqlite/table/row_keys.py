"""The key of an outcome: batch, partition and row in one integer of 63 bits, sorted by them in this order."""

from __future__ import annotations

from service.domain.model import partition_of

_ROW_BITS, _PARTITION_BITS, _BATCH_BITS = 34, 8, 21
"""Enough for `MAX_ROWS` rows, for 256 partitions, which no setting allows, and for two million batches."""

MAX_PARTITIONS = 2**_PARTITION_BITS
MAX_BATCHES = 2**_BATCH_BITS
_ROW_MASK = (1 << _ROW_BITS) - 1


def row_key(batch: int, number: int, partitions: int) -> int:
    """The key of a row of the batch with this number in the store."""
    start: int = partition_start(batch, partition_of(number, partitions))
    return start | number


def partition_start(batch: int, partition: int) -> int:
    """The key before the first row of a partition; that of the next partition follows its last row."""
    return (batch << _PARTITION_BITS | partition) << _ROW_BITS


def partition_range(batch: int, partition: int, after: int) -> tuple[int, int]:
    """The keys between which the rows of a partition with numbers above `after` lie, both exclusive."""
    start = partition_start(batch, partition)
    return start | min(after, _ROW_MASK), start + _ROW_MASK + 1


def batch_range(batch: int) -> tuple[int, int]:
    """The keys between which all rows of a batch lie, both exclusive."""
    return partition_start(batch, 0), partition_start(batch + 1, 0)


def number_of(key: int) -> int:
    """The number of the row."""
    return key & _ROW_MASK
