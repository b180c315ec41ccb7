"""Layout of the DynamoDB table: primary keys and the keys of its two indexes.

| item | partition key `batch_id` | sort key `row_id` | index keys |
| --- | --- | --- | --- |
| batch | batch id | `#batch` | `timeline` + `timestamp`; `status_key` = `batches#{state}` |
| counter | batch id | `#count#{round}#{slot}#{incarnation}` | |
| definition | batch id | `definition#{digest}` | |
| operation | batch id | `op#{incarnation}#{request_id}` | |
| shared record | `#{key}` | `#record` | |
| event | batch id | `event#{id}` | `status_key` = `events#pending` until it is delivered |
| waiting task | batch id | `task#{digest}` | `status_key` = `tasks#pending` until it is answered |
| row | partition of the row | `row_{number}` | `status_key` = `{partition}#FAILED`, failed rows only |
"""

from __future__ import annotations

from service.adapters.aws.table.values import Item
from service.domain.model import OutboxKind, State

BATCH_SORT = "#batch"

META_PREFIX = "#"
"""Sort keys of a batch item and its counters begin with this: one query reads them all."""

COUNTER_PREFIX = "#count#"
"""Sort keys of the counters of all rounds begin with this."""

RECORD_SORT = "#record"

TIMELINE = "batches"
"""Partition key of every batch in the index `by_timestamp`."""


def primary_key(partition: str, sort: str) -> Item:
    """The primary key of an item."""
    return {"batch_id": {"S": partition}, "row_id": {"S": sort}}


def record_key(name: str) -> Item:
    """The primary key of a shared record."""
    # no batch id begins with "#"
    return primary_key(f"#{name}", RECORD_SORT)


def counter_prefix(round_: int) -> str:
    """`#count#001#`: the sort keys of a round's counters begin with this."""
    return f"{COUNTER_PREFIX}{round_:03d}#"


def counter_sort(round_: int, slot: int, incarnation: str) -> str:
    """`#count#001#07#018bcfe5680a1b2c`; `#count#001#07` for a batch of an earlier version."""
    # in the key, because ADD cannot start from zero again where another incarnation has counted
    return f"{counter_prefix(round_)}{slot:02d}" + (f"#{incarnation}" if incarnation else "")


def counter_incarnation(sort: str) -> str:
    """The incarnation in a counter's sort key, "" if it has none."""
    return "".join(sort.split("#")[4:])


def definition_sort(digest: str) -> str:
    """`definition#{digest}`."""
    # without META_PREFIX, so that reading a batch does not read its definition as well
    return f"definition#{digest}"


def operation_prefix(incarnation: str) -> str:
    """`op#{incarnation}#`: the sort keys of a batch's operations begin with this."""
    # without META_PREFIX, as the definition
    return f"op#{incarnation}#"


def operation_sort(incarnation: str, request_id: str) -> str:
    """`op#{incarnation}#{request_id}`."""
    return operation_prefix(incarnation) + request_id


def batches_key(state: State) -> str:
    """The partition of `by_status` that holds the batches in a state."""
    return f"batches#{state.value}"


def failed_key(partition: str) -> str:
    """The partition of `by_status` that holds the failed rows of a table partition."""
    return f"{partition}#FAILED"


def outbox_prefix(kind: OutboxKind) -> str:
    """`event#`: the sort keys of a batch's records of one kind begin with this."""
    # without META_PREFIX, so that reading a batch does not read them as well
    return f"{kind.value}#"


def outbox_sort(kind: OutboxKind, name: str) -> str:
    """`event#{id}`."""
    return outbox_prefix(kind) + name


def pending_key(kind: OutboxKind) -> str:
    """The partition of `by_status` that holds the pending records of one kind: `events#pending`."""
    return f"{kind.value}s#pending"
