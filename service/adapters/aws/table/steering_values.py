"""Traces of operations on a batch item, as attributes and back, and the log of operations."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from service.adapters.aws.table.keys import operation_sort, primary_key
from service.adapters.aws.table.values import Item, Value, decode, encode, with_floats
from service.domain.model import (
    COUNTER_FIELDS,
    NO_BUDGETS,
    Amounts,
    Batch,
    BatchBudgets,
    Budget,
    Checkpoint,
    Counts,
    Hold,
    Json,
    Limit,
    OnExceeded,
    Operation,
    SampleGate,
    Spending,
    StoredPayload,
    Tolerance,
    Work,
    WorkKind,
)

_PLAIN = (
    "control", "generation", "cancelled_at", "cancel_reason", "hold_s", "trouble_pause_s", "grace_s",
    "unread_from", "max_concurrency", "judged_round", "digests", "tolerate_option", "same_id",
    "sample_option", "prices",
    "remap_round", "keep_better",
)  # fmt: skip
"""Attributes that hold a field of the batch as it is; left out while the field has its default."""

_DEFAULTS: dict[str, Any] = {
    "control": 0, "generation": 0, "cancelled_at": "", "cancel_reason": "", "hold_s": None,
    "trouble_pause_s": None,
    "grace_s": 0, "unread_from": 0, "max_concurrency": None, "judged_round": 0, "digests": (),
    "tolerate_option": "", "same_id": False, "sample_option": "", "prices": None,
    "remap_round": 0, "keep_better": False,
}  # fmt: skip

_COUNTS = ("carried", "forgiven")
"""Attributes that hold counts; left out while they are 0."""


def steering_values(batch: Batch) -> Item:
    """The attributes of what operations have left on a batch; a batch without operations has none."""
    values: Item = {
        name: encode(value) for name in _PLAIN if (value := getattr(batch, name)) != _DEFAULTS[name]
    }
    if batch.holds:
        values["holds"] = encode([asdict(hold) for hold in batch.holds])
    if batch.work is not None:
        values["work"] = work_value(batch.work)
    if batch.tolerate != Tolerance():
        values["tolerate"] = encode(_tolerance_json(batch.tolerate))
    if batch.settled is not None:
        values["settled"] = settled_value(batch.settled)
    if batch.budgets != NO_BUDGETS:
        values["budgets"] = encode(asdict(batch.budgets))
    if batch.kept is not None:
        kept = batch.kept
        values["kept"] = encode(
            {"bucket": kept.bucket, "key": kept.key, "bytes": kept.size, "sha256": kept.sha256}
        )
    if batch.gate is not None:
        values["gate"] = encode(asdict(batch.gate))
    for name in _COUNTS:
        if (counts := getattr(batch, name)) != Counts():
            values[name] = encode(asdict(counts))
    return values


def steering_of(values: dict[str, Json]) -> dict[str, Any]:
    """The fields of a batch that `steering_values` has stored."""
    fields: dict[str, Any] = {name: values.get(name, _DEFAULTS[name]) for name in _PLAIN}
    fields["digests"] = tuple(fields["digests"])
    fields["holds"] = tuple(Hold(**hold) for hold in with_floats(values.get("holds", [])))
    work = values.get("work")
    fields["work"] = Work(WorkKind(work["kind"]), work["control"], work["after"]) if work else None
    settled = values.get("settled")
    fields["settled"] = Spending(**settled) if settled else None
    fields["tolerate"] = _tolerance_of(values.get("tolerate"))
    kept = values.get("kept")
    fields["kept"] = (
        StoredPayload(kept["bucket"], kept["key"], kept["bytes"], kept["sha256"]) if kept else None
    )
    fields["gate"] = _gate_of(values.get("gate"))
    fields["budgets"] = _budgets_of(values.get("budgets"))
    for name in _COUNTS:
        counts = values.get(name, {})
        fields[name] = Counts(**{counter: counts.get(counter, 0) for counter in COUNTER_FIELDS})
    return fields


def settled_value(spending: Spending) -> Value:
    """A spending as a map."""
    return encode(asdict(spending))


def _budgets_of(value: Json) -> BatchBudgets:
    if not value:
        return NO_BUDGETS
    return BatchBudgets(Budget(**value["own"]), Budget(**value["day"]), Amounts(**value["before"]))


def work_value(work: Work) -> Value:
    """Work as a map."""
    return encode({"kind": str(work.kind), "control": work.control, "after": work.after})


def _gate_of(value: Json) -> SampleGate | None:
    if not value:
        return None
    end = value["end"] and Checkpoint(**value["end"])
    return SampleGate(**{**value, "numbers": tuple(value["numbers"]), "end": end})


def _tolerance_json(tolerance: Tolerance) -> Json:
    return {
        "first": tolerance.first,
        "limits": {name: asdict(limit) for name, limit in tolerance.limits.items()},
        "on_exceeded": str(tolerance.on_exceeded),
    }


def _tolerance_of(value: Json) -> Tolerance:
    # a batch that an earlier version opened tolerates everything
    if not value:
        return Tolerance()
    limits = {name: Limit(**limit) for name, limit in value["limits"].items()}
    return Tolerance(value["first"], limits, OnExceeded(value["on_exceeded"]))


def operation_item(batch: Batch, operation: Operation) -> Item:
    """An operation as an item, which expires with its batch."""
    key = primary_key(batch.batch_id, operation_sort(batch.incarnation, operation.request_id))
    return key | {
        "control": encode(operation.control),
        "op": encode(operation.op),
        "args": encode(dict(operation.args)),
        "by": encode(operation.by),
        "at": encode(operation.at),
        "request_id": encode(operation.request_id),
        "answer": encode(dict(operation.answer)),
        "ttl": encode(batch.ttl),
    }


def operation_of(item: Item) -> Operation:
    """The operation in an item."""
    values: dict[str, Json] = {name: with_floats(decode(value)) for name, value in item.items()}
    return Operation(
        op=values["op"],
        request_id=values["request_id"],
        by=values["by"],
        at=values["at"],
        control=values["control"],
        args=values["args"],
        answer=values["answer"],
    )
