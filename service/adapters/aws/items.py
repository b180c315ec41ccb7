"""Batches, outcomes and counters as DynamoDB items and back. Pure: the table's layout stands here.

| item | partition key `batch_id` | sort key `row_id` | index keys |
| --- | --- | --- | --- |
| batch | batch id | `#batch` | `timeline` + `timestamp`; `status_key` = `batches#{state}` |
| counter | batch id | `#count#{round}#{slot}` | |
| definition | batch id | `definition#{digest}`: outside `#`, so that reading a batch does not pay for it | |
| record | `#{key}`: no batch id begins so | `#record` | |
| row | partition of the row | `row_{number}` | `status_key` = `{partition}#FAILED`, failed rows only |
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from service.adapters.aws.values import Item, Value, decode, decode_number, depth_of, encode, size_of
from service.domain.errors import BatchRejectedError, RowRejectedError, RowTooLargeError
from service.domain.model import (
    CHECKPOINT_ROWS,
    DEFAULT_PRIORITY,
    DEFAULT_WEIGHT,
    Batch,
    BatchView,
    Checkpoint,
    Commit,
    Counts,
    Dialect,
    Json,
    Location,
    Outcome,
    RowError,
    Source,
    State,
    Status,
    StoredPayload,
    partition_key,
    partition_of,
    row_id,
    row_number,
)
from service.domain.ports import COMMIT_BYTES, COMMIT_LIMIT, ITEM_BYTES, ITEM_DEPTH, SharedRecord

BATCH_SORT = "#batch"
META_PREFIX = "#"
COUNTER_FIELDS = ("succeeded", "failed", "agent_ms", "input_tokens", "output_tokens", "reused")
TIMELINE = "batches"
RECORD_SORT = "#record"


def key(partition: str, sort: str) -> Item:
    """A primary key."""
    return {"batch_id": {"S": partition}, "row_id": {"S": sort}}


def counter_sort(round_: int, slot: int) -> str:
    """`#count#001#07`."""
    return f"{_counter_prefix(round_)}{slot:02d}"


def definition_sort(digest: str) -> str:
    """`definition#{digest}`."""
    return f"definition#{digest}"


def batches_key(state: State) -> str:
    """The partition of `by_status` that holds the batches in a state."""
    return f"batches#{state.value}"


def failed_key(partition: str) -> str:
    """The partition of `by_status` that holds the failed rows of a table partition."""
    return f"{partition}#FAILED"


def definition_item(batch: Batch, definition: str) -> Item:
    """The mapping's text, kept as long as the batch."""
    return key(batch.batch_id, definition_sort(batch.mapping_digest)) | {
        "definition": {"S": definition},
        "ttl": encode(batch.ttl),
    }


def batch_item(batch: Batch) -> Item:
    """The batch as an item; what is None is absent."""
    item = key(batch.batch_id, BATCH_SORT) | {
        "tool_name": encode(batch.tool_name),
        "execution_id": encode(batch.execution_id),
        "state": encode(batch.state.value),
        "status_key": {"S": batches_key(batch.state)},
        "source": source_value(batch.source),
        "output": encode({"bucket": batch.output.bucket, "prefix": batch.output.prefix}),
        "mapping_digest": encode(batch.mapping_digest),
        "round": encode(batch.round),
        "columns": encode(batch.columns),
        "output_fields": encode(batch.output_fields),
        "escape_formulas": encode(batch.escape_formulas),
        "provenance": encode(batch.provenance),
        "partitions": encode(batch.partitions),
        "priority": encode(batch.priority),
        "weight": encode(batch.weight),
        "checkpoint": checkpoint_value(batch.checkpoint),
        "window": encode(batch.window),
        "deadline_at": encode(batch.deadline_at),
        "created_at": encode(batch.created_at),
        "updated_at": encode(batch.updated_at),
        "finished_at": encode(batch.finished_at),
        "ttl": encode(batch.ttl),
        "error": encode(batch.error),
        "notes": encode(batch.notes),
        "lease_owner": encode(batch.lease_owner),
        "lease_until_ms": encode(batch.lease_until_ms),
    }
    if batch.created_at:  # an index key cannot be empty
        item |= {"timeline": {"S": TIMELINE}, "timestamp": {"S": batch.created_at}}
    if batch.total is not None:
        item["total"] = encode(batch.total)
    if batch.limit is not None:
        item["limit"] = encode(batch.limit)
    if batch.dialect is not None:
        item["dialect"] = dialect_value(batch.dialect)
    return item


def check_batch_size(batch: Batch, definition: str = "") -> None:
    """Raise BatchRejectedError where a batch or its definition does not fit an item."""
    size = max(size_of(batch_item(batch)), size_of(definition_item(batch, definition)))
    if size > ITEM_BYTES:
        raise BatchRejectedError(f"the table cannot hold this batch: {size:,} bytes in one item")


def record_item(key_: str, text: str, version: int, ttl: int) -> Item:
    """What workers share under a key, as an item."""
    return key(f"#{key_}", RECORD_SORT) | {
        "text": {"S": text},
        "version": {"N": str(version)},
        "ttl": {"N": str(ttl)},
    }


def record_of(item: Item | None) -> SharedRecord:
    """The record in its item; version 0 where there is none."""
    return SharedRecord() if item is None else SharedRecord(item["text"]["S"], int(item["version"]["N"]))


def check_record_size(key_: str, text: str, ttl: int) -> None:
    """Raise RowTooLargeError where a record does not fit an item."""
    size = size_of(record_item(key_, text, 1, ttl))
    if size > ITEM_BYTES:
        raise RowTooLargeError(f"a record of {size:,} bytes; the table holds {ITEM_BYTES:,} in one item")


def source_value(source: Source) -> Value:
    """A source as a map."""
    return encode(
        {
            "bucket": source.bucket,
            "key": source.key,
            "etag": source.etag,
            "version": source.version,
            "size": source.size,
        }
    )


def checkpoint_value(checkpoint: Checkpoint) -> Value:
    """A checkpoint as a map."""
    return encode({"rows": checkpoint.rows, "byte_offset": checkpoint.byte_offset, "line": checkpoint.line})


def dialect_value(dialect: Dialect) -> Value:
    """A dialect as a map."""
    return encode(
        {"encoding": dialect.encoding, "delimiter": dialect.delimiter, "bom_bytes": dialect.bom_bytes}
    )


def batch_of(item: Item) -> Batch:
    """The batch in its item."""
    values: dict[str, Json] = {name: decode(value) for name, value in item.items()}
    return Batch(
        tool_name=values["tool_name"],
        execution_id=values["execution_id"],
        state=State(values["state"]),
        source=Source(**values["source"]),
        output=Location(**values["output"]),
        mapping_digest=values["mapping_digest"],
        round=values["round"],
        total=values.get("total"),
        columns=tuple(values["columns"]),
        output_fields=tuple(values["output_fields"]),
        escape_formulas=values["escape_formulas"],
        provenance=values.get("provenance", False),
        dialect=Dialect(**values["dialect"]) if "dialect" in values else None,
        partitions=values["partitions"],
        limit=values.get("limit"),
        priority=values.get("priority", DEFAULT_PRIORITY),
        weight=values.get("weight", DEFAULT_WEIGHT),
        checkpoint=Checkpoint(**values["checkpoint"]),
        window=values.get("window", CHECKPOINT_ROWS),
        deadline_at=values.get("deadline_at", ""),
        created_at=values["created_at"],
        updated_at=values["updated_at"],
        finished_at=values["finished_at"],
        ttl=values["ttl"],
        error=values["error"],
        notes=tuple(values["notes"]),
        lease_owner=values.get("lease_owner", ""),
        lease_until_ms=values.get("lease_until_ms", 0),
    )


def view_of(items: Iterable[Item]) -> BatchView | None:
    """The batch and the sum of its round's counters, from all items below `#`; None without a batch item."""
    by_sort = {item["row_id"]["S"]: item for item in items}
    if BATCH_SORT not in by_sort:
        return None
    batch = batch_of(by_sort[BATCH_SORT])
    prefix = _counter_prefix(batch.round)
    counts = (_counts_of(item) for sort, item in by_sort.items() if sort.startswith(prefix))
    return BatchView(batch, sum(counts, Counts()))


def row_items(commit: Commit) -> list[Item]:
    """The row items of a commit. Raises RowRejectedError, naming the row, where a value cannot be stored."""
    numbers = {outcome.number for outcome in commit.outcomes}
    if not 0 < len(commit.outcomes) <= COMMIT_LIMIT or len(numbers) < len(commit.outcomes):
        raise ValueError(f"a commit takes 1 to {COMMIT_LIMIT} distinct rows, not {len(commit.outcomes)}")
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


def check_sizes(commit: Commit, rows: list[Item]) -> None:
    """Raise RowTooLargeError, naming the row, where DynamoDB has a reason to find a commit too large."""
    sizes = [size_of(row) for row in rows]
    for outcome, row, size in zip(commit.outcomes, rows, sizes, strict=True):
        if size > ITEM_BYTES:
            raise RowTooLargeError(
                f"row {outcome.number} with its input and output takes {size:,} bytes; the table holds "
                f"{ITEM_BYTES:,} in one row"
            )
        if max(map(depth_of, row.values())) > ITEM_DEPTH:
            raise RowTooLargeError(f"row {outcome.number} is nested deeper than {ITEM_DEPTH} levels")
    if sum(sizes) > COMMIT_BYTES:
        raise RowTooLargeError(
            f"{len(rows)} outcomes of {sum(sizes):,} bytes; a commit holds {COMMIT_BYTES:,}"
        )


def _row_item(commit: Commit, outcome: Outcome) -> Item:
    partition = partition_key(commit.batch_id, partition_of(outcome.number, commit.partitions))
    item: Item = {
        "batch_id": {"S": partition},
        "row_id": {"S": row_id(outcome.number)},
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
    if outcome.error is not None:
        item["error"] = _error_value(outcome.error)
    if outcome.status is Status.FAILED:
        item["status_key"] = {"S": failed_key(partition)}
    if outcome.input_tokens:
        item["input_tokens"] = {"N": str(outcome.input_tokens)}
    if outcome.output_tokens:
        item["output_tokens"] = {"N": str(outcome.output_tokens)}
    if outcome.provenance:
        item["provenance"] = encode(outcome.provenance)
    if outcome.raw_reply:
        item["raw_reply"] = encode(outcome.raw_reply)
    if outcome.reused_from:
        item["reused_from"] = encode(outcome.reused_from)
    if outcome.stored is not None:
        item["stored"] = _stored_value(outcome.stored)
    return item


def _error_value(error: RowError) -> Value:
    return encode({"type": error.type, "message": error.message, "class": error.failure_class})


def _error_of(value: Value) -> RowError:
    error = decode(value)
    return RowError(error["type"], error["message"], error.get("class", ""))


def _stored_value(stored: StoredPayload) -> Value:
    return encode({"bucket": stored.bucket, "key": stored.key, "bytes": stored.size, "sha256": stored.sha256})


def _stored_of(value: Value) -> StoredPayload:
    stored = decode(value)
    return StoredPayload(stored["bucket"], stored["key"], stored["bytes"], stored["sha256"])


def is_done(item: Item, round_: int) -> bool:
    """Whether a row needs no outcome of this round any more: it has one, or succeeded in an earlier one."""
    return int(item["round"]["N"]) >= round_ or item["status"]["S"] == Status.SUCCESS


def outcome_of(item: Item) -> Outcome:
    """The outcome in a row item."""
    return Outcome(
        number=row_number(item["row_id"]["S"]),
        round=int(item["round"]["N"]),
        status=Status(item["status"]["S"]),
        input_data=decode(item["input_data"]),
        output_data=decode(item["output_data"]),
        execution_time_ms=int(item["execution_time_ms"]["N"]),
        timestamp=item["timestamp"]["S"],
        attempts=int(item["attempts"]["N"]),
        worker=item["worker"]["S"],
        error=_error_of(item["error"]) if "error" in item else None,
        input_tokens=_whole(item, "input_tokens"),
        output_tokens=_whole(item, "output_tokens"),
        provenance=decode(item["provenance"]) if "provenance" in item else {},
        raw_reply=item["raw_reply"]["S"] if "raw_reply" in item else "",
        reused_from=item["reused_from"]["S"] if "reused_from" in item else "",
        stored=_stored_of(item["stored"]) if "stored" in item else None,
    )


def counter_values(counts: Counts) -> dict[str, Value]:
    """`:succeeded`, `:failed`, … for an ADD."""
    return {f":{name}": {"N": str(getattr(counts, name))} for name in COUNTER_FIELDS}


def _counts_of(item: Item) -> Counts:
    return Counts(*(_whole(item, name) for name in COUNTER_FIELDS))


def _counter_prefix(round_: int) -> str:
    return f"#count#{round_:03d}#"


def _whole(item: dict[str, Any], name: str) -> int:
    return int(decode_number(item[name]["N"])) if name in item else 0
