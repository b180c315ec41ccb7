"""Size and nesting depth of values by DynamoDB's rules.

Pure. Sizes follow https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html
and are upper bounds: DynamoDB never counts more. `adapters.aws.table.values` has the exact size of an
encoded item.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from service.domain.model import Json, Outcome, StoredPayload

CONTAINER_BYTES = 3
"""Overhead of a list or map; each of its elements costs `ELEMENT_BYTES` more."""

ELEMENT_BYTES = 1

_NUMBER_BYTES = 21
"""Largest size of a number: 38 significant digits."""

_FIXED_BYTES = 1_000
"""Names of all attributes, the values that hardly vary, the 100 bytes that an index adds, and two keys with
the longest possible batch id."""

MAX_ITEM_REPLY_BYTES = 200
"""A reply of more bytes of JSON is put into a pack when its outcome is committed."""

_PACKED_REPLY_BYTES = 100
"""The place of a reply in a pack: two digests and three numbers."""

_REFERENCE_BYTES = 100
"""A reference to data in S3 without its texts: the attribute names and the object's size."""


def value_bytes(value: Json) -> int:
    """Size of an attribute's value."""
    if isinstance(value, str):
        return len(value) if value.isascii() else _text_bytes(value)
    if value is None or isinstance(value, bool):
        return 1
    if isinstance(value, int | float | Decimal):
        # a number with more digits than DynamoDB holds, or with a last zero, is stored as text
        return max(_NUMBER_BYTES, CONTAINER_BYTES + len(str(value)))
    # the check of the abstract class takes longer than the size of a small object
    if isinstance(value, dict) or isinstance(value, Mapping):  # noqa: SIM101
        size = CONTAINER_BYTES + ELEMENT_BYTES * len(value)
        for name, member in value.items():
            size += len(name) if name.isascii() else _text_bytes(name)
            size += len(member) if type(member) is str and member.isascii() else value_bytes(member)
        return size
    return CONTAINER_BYTES + sum(ELEMENT_BYTES + value_bytes(member) for member in value)


def depth(value: Json) -> int:
    """Levels of nesting: 1 for a scalar."""
    levels = 0
    level = [value]
    # level by level instead of by recursion: deep values must not overflow the stack
    while level:
        levels += 1
        next_level: list[Json] = []
        for member in level:
            if isinstance(member, str):  # most members, and the check of the abstract class is slow
                continue
            if isinstance(member, Mapping):
                next_level.extend(member.values())
            elif isinstance(member, list | tuple):
                next_level.extend(member)
        level = next_level
    return levels


def outcome_bytes(outcome: Outcome) -> int:
    """Size of the item that holds an outcome."""
    error = outcome.error
    stored = outcome.stored
    return (
        _FIXED_BYTES
        + value_bytes(outcome.input_data)
        + value_bytes(outcome.output_data)
        + (value_bytes([error.type, error.message, error.failure_class]) if error else 0)
        + len(outcome.worker)
        + (value_bytes(outcome.provenance) if outcome.provenance else CONTAINER_BYTES)
        + _reply_bytes(outcome)
        + len(outcome.reused_from)
        + (value_bytes([past.as_json() for past in outcome.history]) if outcome.history else 0)
        + (_stored_bytes(stored) if stored else 0)
    )


def has_long_reply(outcome: Outcome) -> bool:
    """True if the outcome has a reply that belongs into a pack."""
    reply = outcome.reply
    return len(reply) > MAX_ITEM_REPLY_BYTES or value_bytes(reply) > MAX_ITEM_REPLY_BYTES


def _reply_bytes(outcome: Outcome) -> int:
    """Size of the reply in an item, or of its place elsewhere."""
    place = outcome.reply_at
    if isinstance(place, StoredPayload):
        return _stored_bytes(place)
    if place is not None or has_long_reply(outcome):
        return _PACKED_REPLY_BYTES
    return value_bytes(outcome.reply)


def _stored_bytes(stored: StoredPayload) -> int:
    return _REFERENCE_BYTES + value_bytes([stored.bucket, stored.key, stored.sha256])


def _text_bytes(text: str) -> int:
    # half a surrogate pair, which no UTF-8 text can hold, is stored as U+FFFD: three bytes as well
    return len(text.encode("utf-8", "surrogatepass"))
