"""How large things are where AWS counts: items in DynamoDB.

Pure. Sizes follow https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html
and never come out below what DynamoDB counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from service.domain.model import Json, Outcome

_NESTED = 3
"""Overhead of a list or map; each of its elements costs one byte more."""

_NUMBER = 21
"""Most bytes of a number."""

_FIXED = 1_000
"""Names of all attributes, the values that hardly vary, the 100 bytes that an index adds, and two keys with
the longest batch id there can be."""


_REFERENCE = 100
"""The names in a reference to data in S3, its size in bytes, and what they cost."""


def value_bytes(value: Json) -> int:
    """Size of an attribute's value."""
    if isinstance(value, str):
        return len(value.encode("utf-8", "surrogatepass"))
    if value is None or isinstance(value, bool):
        return 1
    if isinstance(value, int | float | Decimal):
        return _NUMBER + max(0, len(str(value)) - 2 * _NUMBER)
    if isinstance(value, Mapping):
        return _NESTED + sum(
            1 + len(str(k).encode("utf-8", "surrogatepass")) + value_bytes(v) for k, v in value.items()
        )
    return _NESTED + sum(1 + value_bytes(item) for item in value)


def depth(value: Json) -> int:
    """Levels of nesting: 1 for a scalar. Counts level by level, so that no depth runs out of stack."""
    levels, level = 0, [value]
    while level:
        levels += 1
        containers = (one for one in level if isinstance(one, Mapping | list | tuple))
        level = [inner for one in containers for inner in (one.values() if isinstance(one, Mapping) else one)]
    return levels


def outcome_bytes(outcome: Outcome) -> int:
    """Size of the item that holds an outcome."""
    error, stored = outcome.error, outcome.stored
    return (
        _FIXED
        + value_bytes(outcome.input_data)
        + value_bytes(outcome.output_data)
        + (value_bytes([error.type, error.message, error.failure_class]) if error else 0)
        + len(outcome.worker)
        + value_bytes(outcome.provenance)
        + value_bytes(outcome.raw_reply)
        + value_bytes(outcome.reused_from)
        + (_REFERENCE + value_bytes([stored.bucket, stored.key, stored.sha256]) if stored else 0)
    )
