"""Outcomes as DynamoDB items and back."""

from __future__ import annotations

from service.adapters.aws.table.keys import failed_key, primary_key
from service.adapters.aws.table.values import Item, Value, decode, encode, int_attribute, item_bytes
from service.domain import exact_json
from service.domain.errors import RowRejectedError, RowTooLargeError
from service.domain.item_size import depth
from service.domain.model import (
    Batch,
    Commit,
    Outcome,
    PackedReply,
    PastOutcome,
    RowError,
    Status,
    StoredPayload,
    partition_key,
    partition_of,
    row_id,
    row_number,
)
from service.domain.ports import COMMIT_BYTES, COMMIT_LIMIT, ITEM_BYTES, ITEM_DEPTH


def row_items(commit: Commit) -> list[Item]:
    """The row items of a commit. Raises RowRejectedError, naming the row, if a value cannot be stored."""
    numbers = {outcome.number for outcome in commit.outcomes}
    if len(commit.outcomes) > COMMIT_LIMIT or len(numbers) < len(commit.outcomes):
        raise ValueError(f"a commit takes up to {COMMIT_LIMIT} distinct rows, not {len(commit.outcomes)}")
    rows = []
    for outcome in commit.outcomes:
        try:
            row = _row_item(commit, outcome)
        except (ValueError, TypeError) as error:
            raise RowRejectedError(f"row {outcome.number} cannot be stored: {error}") from None
        except RecursionError:
            raise RowTooLargeError(f"row {outcome.number} is nested too deeply") from None
        rows.append(row)
    return rows


def check_commit_size(commit: Commit, rows: list[Item]) -> None:
    """Raise RowTooLargeError, naming the row, if DynamoDB must refuse a commit for its size or depth."""
    sizes = [item_bytes(row) for row in rows]
    for outcome, size in zip(commit.outcomes, sizes, strict=True):
        if size > ITEM_BYTES:
            raise RowTooLargeError(
                f"row {outcome.number} with its input and output takes {size:,} bytes; the table holds "
                f"{ITEM_BYTES:,} in one row"
            )
        # the other attributes have two levels at most
        if max(depth(outcome.input_data), depth(outcome.output_data)) > ITEM_DEPTH:
            raise RowTooLargeError(f"row {outcome.number} is nested deeper than {ITEM_DEPTH} levels")
    if sum(sizes) > COMMIT_BYTES:
        raise RowTooLargeError(
            f"{len(rows)} outcomes of {sum(sizes):,} bytes; a commit holds {COMMIT_BYTES:,}"
        )


def is_outcome_of(item: Item, batch: Batch) -> bool:
    """True if the item is an outcome of this batch, and not left from another with the same id."""
    return batch.owns(_incarnation_of(item), int_attribute(item, "ttl"))


def is_done(item: Item, batch: Batch) -> bool:
    """True if the row has an outcome of the batch's round or a later one."""
    return is_outcome_of(item, batch) and int(item["round"]["N"]) >= batch.round


def is_committed(item: Item, commit: Commit) -> bool:
    """True if a commit may not replace the item; `commits` has the same as a condition of DynamoDB."""
    return commit.leaves(int(item["round"]["N"]), _incarnation_of(item), int_attribute(item, "ttl"))


_AMOUNTS = ("input_tokens", "output_tokens", "cost")

_STATUSES = {status.value: status for status in Status}


def outcome_of(item: Item) -> Outcome:
    """The outcome in a row item."""
    return Outcome(
        number=row_number(item["row_id"]["S"]),
        round=int(item["round"]["N"]),
        status=_STATUSES[item["status"]["S"]],
        input_data=decode(item["input_data"]),
        output_data=decode(item["output_data"]),
        execution_time_ms=int(item["execution_time_ms"]["N"]),
        timestamp=item["timestamp"]["S"],
        attempts=int(item["attempts"]["N"]),
        worker=item["worker"]["S"],
        error=_error_of(item["error"]) if "error" in item else None,
        input_tokens=int_attribute(item, "input_tokens"),
        output_tokens=int_attribute(item, "output_tokens"),
        provenance=decode(item["provenance"]) if "provenance" in item else {},
        reply=_reply_of(item),
        reused_from=item["reused_from"]["S"] if "reused_from" in item else "",
        stored=_stored_of(item["stored"]) if "stored" in item else None,
        reply_at=_reply_place_of(item),
        reply_round=int_attribute(item, "reply_round"),
        history=tuple(map(PastOutcome.of_json, decode(item["history"]))) if "history" in item else (),
        cost=int_attribute(item, "cost"),
        values_round=int_attribute(item, "values_round"),
    )


def _row_item(commit: Commit, outcome: Outcome) -> Item:
    partition = partition_key(commit.batch_id, partition_of(outcome.number, commit.partitions))
    item = primary_key(partition, row_id(outcome.number)) | {
        "status": {"S": outcome.status.value},
        "input_data": encode(outcome.input_data),
        "output_data": encode(outcome.output_data),
        "execution_time_ms": {"N": str(outcome.execution_time_ms)},
        "timestamp": {"S": outcome.timestamp},
        "ttl": {"N": str(commit.ttl)},
        "round": {"N": str(outcome.round)},
        "attempts": {"N": str(outcome.attempts)},
        "worker": encode(outcome.worker),
    }
    if commit.incarnation:
        item["incarnation"] = {"S": commit.incarnation}
    if outcome.error is not None:
        item["error"] = _error_value(outcome.error)
    if outcome.status is Status.FAILED:
        # only failed rows have the index key: `by_status` is sparse
        item["status_key"] = {"S": failed_key(partition)}
    # attributes that most rows do not need are left out: they count in the item's size and in write costs
    for name in _AMOUNTS:
        if amount := getattr(outcome, name):
            item[name] = {"N": str(amount)}
    if outcome.provenance:
        item["provenance"] = encode(outcome.provenance)
    if outcome.reused_from:
        item["reused_from"] = encode(outcome.reused_from)
    if outcome.stored is not None:
        item["stored"] = _stored_value(outcome.stored)
    if outcome.history:
        item["history"] = encode([past.as_json() for past in outcome.history])
    return item | _reply_attributes(outcome)


def _reply_attributes(outcome: Outcome) -> Item:
    """The attributes of a kept reply: its text or its place, its round, and that of its mapping."""
    attributes: Item = {}
    if outcome.reply:
        attributes["reply"] = encode(outcome.reply)
    if outcome.reply_round:
        attributes["reply_round"] = {"N": str(outcome.reply_round)}
    if outcome.values_round:
        attributes["values_round"] = {"N": str(outcome.values_round)}
    place = outcome.reply_at
    if isinstance(place, PackedReply):
        attributes["reply_at"] = encode([place.pack, place.size, place.offset, place.length, place.sha256])
    elif place is not None:
        attributes["stored_reply"] = _stored_value(place)
    return attributes


def _reply_of(item: Item) -> str:
    """The reply that an item holds. An earlier version kept its text, cut if it was long."""
    if "raw_reply" in item:
        return exact_json.dumps(item["raw_reply"]["S"])
    return item["reply"]["S"] if "reply" in item else ""


def _reply_place_of(item: Item) -> PackedReply | StoredPayload | None:
    """The place of a reply that an item does not hold. An earlier version kept its text in an object."""
    if "reply_at" in item:
        return PackedReply(*decode(item["reply_at"]))
    return _stored_of(item["stored_reply"]) if "stored_reply" in item else None


def _incarnation_of(item: Item) -> str:
    return item["incarnation"]["S"] if "incarnation" in item else ""


def _error_value(error: RowError) -> Value:
    return encode({"type": error.type, "message": error.message, "class": error.failure_class})


def _error_of(value: Value) -> RowError:
    error = decode(value)
    # outcomes of earlier versions have no class
    return RowError(error["type"], error["message"], error.get("class", ""))


def _stored_value(stored: StoredPayload) -> Value:
    return encode({"bucket": stored.bucket, "key": stored.key, "bytes": stored.size, "sha256": stored.sha256})


def _stored_of(value: Value) -> StoredPayload:
    stored = decode(value)
    return StoredPayload(stored["bucket"], stored["key"], stored["bytes"], stored["sha256"])
