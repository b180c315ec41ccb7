"""Outcomes as bytes and back. Pure.

Most are a JSON array of their fields. One with a value that JSON would change, such as a Decimal, an integer
beyond 64 bits or half a surrogate pair, is the JSON object of its DynamoDB item. Either way it is read back
as DynamoDB gives it, so that a batch has the same results here and there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import orjson

from service.adapters.aws.table.row_items import check_commit_size, outcome_of, row_items
from service.domain import exact_json
from service.domain.model import (
    Commit,
    Json,
    Outcome,
    PackedReply,
    PastOutcome,
    RowError,
    Status,
    StoredPayload,
)
from service.domain.ports import COMMIT_BYTES, COMMIT_LIMIT, ITEM_BYTES

_EXACT, _WITH_FLOATS, _SPECIAL = 0, 1, 2
"""Values that JSON keeps; some that it keeps but for the type; some that it does not keep."""

_MOST_LEVELS = 24
"""Values of more levels are looked at by the rules of DynamoDB."""

_ITEM_SHARE = 3
"""An item has fewer than 3 bytes, by the rules of DynamoDB, for each byte of our JSON."""

_WITH_TEXT = 2
"""Members of a kept reply that is in its body: its round and its text."""

_Reply = str | list[Any] | None

_SMALLEST, _LARGEST = 1e-130, 9e125
"""Floats beyond are stored as text."""


def bodies_of(commit: Commit) -> list[bytes]:
    """The bytes of each outcome.

    Raises ValueError, RowRejectedError and RowTooLargeError as DynamoDB's items do (`row_items`).
    """
    outcomes = commit.outcomes
    if len(outcomes) > COMMIT_LIMIT or len({one.number for one in outcomes}) < len(outcomes):
        row_items(commit)
    if not outcomes:
        return []
    bodies = [_array_of(outcome) for outcome in outcomes]
    sizes = [len(body) for body in bodies]
    is_small = max(sizes) * _ITEM_SHARE < ITEM_BYTES and sum(sizes) * _ITEM_SHARE < COMMIT_BYTES
    if is_small and all(bodies):
        return bodies
    items = row_items(commit)
    check_commit_size(commit, items)
    return [body or orjson.dumps(item) for body, item in zip(bodies, items, strict=True)]


def outcome_from(number: int, round_: int, body: bytes) -> Outcome:
    """The outcome in these bytes."""
    fields = orjson.loads(body)
    if isinstance(fields, dict):
        return outcome_of(fields)
    (
        kind, status, input_data, output_data, execution_time_ms, timestamp, attempts, worker, error,
        input_tokens, output_tokens, provenance, reply, reused_from, stored, stored_reply, history, *rest,
    ) = fields  # fmt: skip
    if kind == _WITH_FLOATS:
        input_data, output_data = _with_decimals(input_data), _with_decimals(output_data)
    return Outcome(
        number, round_, Status.SUCCESS if status else Status.FAILED, input_data, output_data,
        execution_time_ms, timestamp, attempts, worker, RowError(*error) if error else None, input_tokens,
        output_tokens, provenance or {}, _reply_text(reply), reused_from,
        StoredPayload(*stored) if stored else None, _reply_place(reply, stored_reply), _reply_round(reply),
        tuple(map(PastOutcome.of_json, history)) if history else (),
        # outcomes of an earlier version have no cost
        *rest,
    )  # fmt: skip


def _array_of(outcome: Outcome) -> bytes:
    """The outcome as a JSON array; empty if JSON would change one of its values."""
    if type(outcome.input_data) is not dict or type(outcome.output_data) is not dict:
        return b""
    kind = _kind_of(outcome.input_data, 1) | _kind_of(outcome.output_data, 1)
    if kind & _SPECIAL:
        return b""
    error = outcome.error
    fields: list[Any] = [
        kind, int(outcome.status is Status.SUCCESS), outcome.input_data, outcome.output_data,
        outcome.execution_time_ms, outcome.timestamp, outcome.attempts, outcome.worker,
        (error.type, error.message, error.failure_class) if error else None,
        outcome.input_tokens, outcome.output_tokens, outcome.provenance or None, _reply(outcome),
        outcome.reused_from, _stored(outcome.stored), _stored(outcome.reply_at),
        [past.as_json() for past in outcome.history] if outcome.history else None, outcome.cost,
    ]  # fmt: skip
    if outcome.values_round:
        fields.append(outcome.values_round)
    try:
        return orjson.dumps(fields)
    except TypeError:
        # an integer beyond 64 bits, half a surrogate pair, or a name that is no text
        return b""


def _stored(payload: StoredPayload | PackedReply | None) -> tuple[str, str, int, str] | None:
    if not isinstance(payload, StoredPayload):
        return None
    return payload.bucket, payload.key, payload.size, payload.sha256


def _reply(outcome: Outcome) -> list[str | int] | None:
    """A kept reply as a list of its round and its text, or of its round and its place in a pack."""
    place = outcome.reply_at
    if isinstance(place, PackedReply):
        return [outcome.reply_round, place.pack, place.size, place.offset, place.length, place.sha256]
    return [outcome.reply_round, outcome.reply] if outcome.reply or outcome.reply_round else None


def _reply_round(reply: _Reply) -> int:
    return reply[0] if isinstance(reply, list) else 0


def _reply_text(reply: _Reply) -> str:
    """The reply in a body. An earlier version kept its text, cut if it was long."""
    if isinstance(reply, str):
        return exact_json.dumps(reply) if reply else ""
    return reply[1] if reply and len(reply) == _WITH_TEXT else ""


def _reply_place(reply: _Reply, stored: list[Any] | None) -> PackedReply | StoredPayload | None:
    """The place of a reply that is not in its body. An earlier version kept its text in an object."""
    if isinstance(reply, list) and len(reply) > _WITH_TEXT:
        return PackedReply(*reply[1:])
    return StoredPayload(*stored) if stored else None


def _kind_of(value: Mapping[str, Json] | Sequence[Json], level: int) -> int:
    """The kind of the values in a map or list at this level of nesting."""
    if level > _MOST_LEVELS:
        return _SPECIAL
    kind = _EXACT
    members: Iterable[Json] = value.values() if isinstance(value, dict) else value
    for member in members:
        is_a: type = type(member)
        if is_a is str or is_a is int or member is None or is_a is bool:
            continue
        if is_a is float:
            kind |= _WITH_FLOATS if member == 0 or _SMALLEST < abs(member) < _LARGEST else _SPECIAL
        elif is_a is dict or is_a is list or is_a is tuple:
            kind |= _kind_of(member, level + 1)
        else:
            return _SPECIAL
    return kind


def _with_decimals(value: Json) -> Json:
    """The value with a Decimal in place of each float."""
    if isinstance(value, float):
        return Decimal(repr(value))
    if isinstance(value, dict):
        return {name: _with_decimals(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_with_decimals(member) for member in value]
    return value
