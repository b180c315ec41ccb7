"""Batches, their definitions and counters as DynamoDB items and back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict

from service.adapters.aws.table.keys import (
    BATCH_SORT,
    COUNTER_PREFIX,
    TIMELINE,
    batches_key,
    counter_incarnation,
    counter_prefix,
    definition_sort,
    primary_key,
)
from service.adapters.aws.table.steering_values import steering_of, steering_values
from service.adapters.aws.table.values import Item, Value, decode, encode, int_attribute, item_bytes
from service.domain.errors import BatchRejectedError
from service.domain.model import (
    CHECKPOINT_ROWS,
    COUNTER_FIELDS,
    DEFAULT_PRIORITY,
    DEFAULT_WEIGHT,
    NOTHING_SPENT,
    SPENDING_FIELDS,
    Batch,
    BatchView,
    Checkpoint,
    Counts,
    Dialect,
    Json,
    Location,
    Recount,
    Source,
    Spending,
    State,
    Trouble,
)
from service.domain.ports import ITEM_BYTES


def definition_item(batch: Batch, definition: str) -> Item:
    """The definition of a batch as an item, which expires with the batch."""
    return primary_key(batch.batch_id, definition_sort(batch.mapping_digest)) | {
        "definition": {"S": definition},
        "ttl": encode(batch.ttl),
    }


def batch_item(batch: Batch) -> Item:
    """The batch as an item; fields that are None have no attribute."""
    # `encode` stores a tuple as a list, and `batch_of` makes a tuple of it again
    item = primary_key(batch.batch_id, BATCH_SORT) | {
        "tool_name": encode(batch.tool_name),
        "execution_id": encode(batch.execution_id),
        "state": encode(batch.state.value),
        "status_key": {"S": batches_key(batch.state)},
        "source": _source_value(batch.source),
        "output": encode({"bucket": batch.output.bucket, "prefix": batch.output.prefix}),
        "mapping_digest": encode(batch.mapping_digest),
        "round": encode(batch.round),
        "columns": encode(batch.columns),
        "output_fields": encode(batch.output_fields),
        "escape_formulas": encode(batch.escape_formulas),
        "provenance": encode(batch.provenance),
        "bom": encode(batch.bom),
        "excel": encode(batch.excel),
        "delimiter": encode(batch.delimiter),
        "encoding": encode(batch.encoding),
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
        "trouble": trouble_value(batch.trouble),
        "request_id": encode(batch.request_id),
    }
    for name in ("sender", "incarnation", "compiled_by", "event_kinds"):
        if value := getattr(batch, name):
            item[name] = encode(value)
    if batch.recount is not None:
        item["recount"] = recount_value(batch.recount)
    if batch.deadline_s is not None:
        item["deadline_s"] = encode(batch.deadline_s)
    item |= steering_values(batch)
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
    """Raise BatchRejectedError if a batch or its definition does not fit an item."""
    size = max(item_bytes(batch_item(batch)), item_bytes(definition_item(batch, definition)))
    if size > ITEM_BYTES:
        raise BatchRejectedError(f"the table cannot hold this batch: {size:,} bytes in one item")


def _source_value(source: Source) -> Value:
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
    return encode(asdict(checkpoint))


def recount_value(recount: Recount) -> Value:
    """A recount as a map: the round, and the counts by their names."""
    return encode({"round": recount.round, **asdict(recount.counts)})


def _recount_of(values: Json) -> Recount | None:
    if not values:
        return None
    return Recount(values["round"], Counts(**{name: values.get(name, 0) for name in COUNTER_FIELDS}))


def trouble_value(trouble: Trouble | None) -> Value:
    """A trouble as a map, or NULL."""
    return encode(None if trouble is None else asdict(trouble))


def dialect_value(dialect: Dialect) -> Value:
    """A dialect as a map."""
    return encode(asdict(dialect))


def batch_of(item: Item) -> Batch:
    """The batch in a batch item."""
    values: dict[str, Json] = {name: decode(value) for name, value in item.items()}
    # items of earlier versions lack the attributes that are read with a default
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
        bom=values.get("bom", False),
        excel=values.get("excel", False),
        delimiter=values.get("delimiter", ""),
        encoding=values.get("encoding", ""),
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
        trouble=Trouble(**values["trouble"]) if values.get("trouble") else None,
        incarnation=values.get("incarnation", ""),
        request_id=values.get("request_id", ""),
        deadline_s=values.get("deadline_s"),
        sender=values.get("sender", ""),
        compiled_by=values.get("compiled_by", ""),
        recount=_recount_of(values.get("recount")),
        event_kinds=tuple(values.get("event_kinds", ())),
        **steering_of(values),
    )


def view_of(items: Iterable[Item]) -> BatchView | None:
    """The batch and the sum of its current round's counters; None without a batch item.

    `items` are the batch item and the counters of all rounds and incarnations.
    """
    by_sort = {item["row_id"]["S"]: item for item in items}
    if BATCH_SORT not in by_sort:
        return None
    batch = batch_of(by_sort[BATCH_SORT])
    prefix = counter_prefix(batch.round)
    own = {
        sort: item
        for sort, item in by_sort.items()
        if sort.startswith(COUNTER_PREFIX)
        and batch.owns(counter_incarnation(sort), int_attribute(item, "ttl"))
    }
    counts = (_counts_of(item) for sort, item in own.items() if sort.startswith(prefix))
    return BatchView(batch, batch.counts_of(counts), sum(map(_spending_of, own.values()), NOTHING_SPENT))


def counter_values(counts: Counts, spent: Spending) -> dict[str, int]:
    """The amounts that a commit adds to its counter, by attribute."""
    amounts = {name: getattr(counts, name) for name in COUNTER_FIELDS}
    return amounts | {f"spent_{name}": getattr(spent, name) for name in SPENDING_FIELDS}


def _counts_of(item: Item) -> Counts:
    return Counts(**{name: int_attribute(item, name) for name in COUNTER_FIELDS})


def _spending_of(item: Item) -> Spending:
    return Spending(**{name: int_attribute(item, f"spent_{name}") for name in SPENDING_FIELDS})
