"""Ids of batches and rows, and the partitions by which rows are stored."""

from __future__ import annotations

import re

ROW_DIGITS = 10
MAX_ROWS = 10**ROW_DIGITS - 1

# Without `#`, which separates the parts of ids, and without characters that are special in keys and URLs.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


_TIME_DIGITS = 11
_INCARNATION = re.compile(r"[0-9a-f]{16}")


def is_name(text: str) -> bool:
    """True if `text` may be a tool name or an execution id: 1-128 letters, digits, `.`, `_`, `-`."""
    return _NAME.fullmatch(text) is not None


def batch_id(tool_name: str, execution_id: str) -> str:
    """`{tool_name}#{execution_id}`: the id that users see, and the table's partition key."""
    return f"{tool_name}#{execution_id}"


def new_incarnation(now_ms: int, random_bits: int, *, after: str = "") -> str:
    """A name for one opening of a batch id: 16 hexadecimal digits that sort by the time of the opening.

    It sorts behind `after`, the incarnation that it replaces, also if clocks differ. Of `random_bits` 20 are
    used.
    """
    earliest_ms = int(after[:_TIME_DIGITS], 16) + 1 if after else 0
    return f"{max(now_ms, earliest_ms):0{_TIME_DIGITS}x}{random_bits % 2**20:05x}"


def is_incarnation(text: str) -> bool:
    """True if `text` has the form of an incarnation."""
    return _INCARNATION.fullmatch(text) is not None


def identity(batch_id: str, incarnation: str) -> str:
    """`{batch_id}@{incarnation}`; the batch id alone for a batch of an earlier version, which has none."""
    return f"{batch_id}@{incarnation}" if incarnation else batch_id


def row_id(number: int) -> str:
    """`row_0000000017`: padded with zeros, so that the sort order is the file's order."""
    return f"row_{number:0{ROW_DIGITS}d}"


def row_number(row_id: str) -> int:
    """The number in a `row_id`."""
    return int(row_id.removeprefix("row_"))


def partition_of(number: int, partitions: int) -> int:
    """The partition that holds row `number`.

    Rows are distributed round-robin, so reading one row of each partition in turn gives the file's order.
    """
    return number % partitions


def partition_key(batch_id: str, partition: int) -> str:
    """The table key of a partition: the batch id itself for 0, `{batch_id}#{p}` for the others."""
    return batch_id if partition == 0 else f"{batch_id}#{partition}"
