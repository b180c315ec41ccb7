"""Batches, definitions, counters and operations in the tables of the store."""

from __future__ import annotations

import functools
import sqlite3

import orjson

from service.adapters.aws.table.batch_items import batch_item, batch_of
from service.adapters.aws.table.steering_values import operation_item, operation_of
from service.domain.model import (
    COUNTER_FIELDS,
    NOTHING_SPENT,
    SPENDING_FIELDS,
    Batch,
    BatchView,
    Commit,
    Counts,
    Operation,
    Spending,
    State,
)

_AMOUNTS = (*COUNTER_FIELDS, *(f"spent_{name}" for name in SPENDING_FIELDS))
_COUNTERS = ", ".join(_AMOUNTS)
_ADD_COUNTS = (
    f"INSERT INTO counters (batch, round, incarnation, ttl, {_COUNTERS}) "  # noqa: S608
    f"VALUES (?, ?, ?, ?{', ?' * len(_AMOUNTS)}) ON CONFLICT DO UPDATE SET "
    + ", ".join(f"{name} = {name} + excluded.{name}" for name in _AMOUNTS)
)
_SAVE = (
    "INSERT INTO batches (batch_id, state, created_at, ttl, item) VALUES (?, ?, ?, ?, ?) "
    "ON CONFLICT (batch_id) DO UPDATE SET state = excluded.state, created_at = excluded.created_at, "
    "ttl = excluded.ttl, item = excluded.item"
)
_PRESENT = "item IS NOT NULL AND (ttl = 0 OR ttl > ?)"
"""The batch has not expired by the time in seconds."""


def number_of_batch(connection: sqlite3.Connection, batch_id: str) -> int | None:
    """The number of a batch in this store; None if the store has never had it."""
    row = connection.execute("SELECT number FROM batches WHERE batch_id = ?", (batch_id,)).fetchone()
    return None if row is None else int(row[0])


def numbered(connection: sqlite3.Connection, batch_id: str) -> int:
    """The number of a batch, which has one from now on."""
    number = number_of_batch(connection, batch_id)
    if number is None:
        connection.execute("INSERT INTO batches (batch_id) VALUES (?)", (batch_id,))
        number = number_of_batch(connection, batch_id)
        assert number is not None
    return number


def delete_batch(connection: sqlite3.Connection, batch_id: str) -> None:
    """Delete a batch and its small items. Outcomes that are left are removed when the store is opened."""
    number = number_of_batch(connection, batch_id)
    connection.execute("DELETE FROM outbox WHERE batch_id = ?", (batch_id,))
    for table in ("definitions", "counters", "operations"):
        connection.execute(f"DELETE FROM {table} WHERE batch = ?", (number,))  # noqa: S608
    connection.execute(
        "UPDATE batches SET item = NULL, state = '', created_at = '', ttl = 0 WHERE number = ?", (number,)
    )


def stored_batch(connection: sqlite3.Connection, batch_id: str) -> Batch | None:
    """The batch, expired or not."""
    row = connection.execute("SELECT item FROM batches WHERE batch_id = ?", (batch_id,)).fetchone()
    return None if row is None or row[0] is None else _batch_of(row[0])


def save_batch(connection: sqlite3.Connection, batch: Batch | None) -> bool:
    """Store a batch, if there is one; True if there is."""
    if batch is not None:
        item = orjson.dumps(batch_item(batch))
        connection.execute(_SAVE, (batch.batch_id, str(batch.state), batch.created_at, batch.ttl, item))
    return batch is not None


def present_view(connection: sqlite3.Connection, batch_id: str, now_ms: int) -> BatchView | None:
    """The batch, the counts of its round, and the calls of all rounds; None if it has expired."""
    batch = stored_batch(connection, batch_id)
    if batch is None or batch.has_expired(now_ms):
        return None
    rows = connection.execute(
        f"SELECT round, incarnation, ttl, {_COUNTERS} FROM counters WHERE batch = ?",  # noqa: S608
        (number_of_batch(connection, batch_id),),
    )
    counts, spending = [], NOTHING_SPENT
    for round_, incarnation, ttl, *amounts in rows:
        if batch.owns(incarnation, ttl):
            spending += Spending(*amounts[len(COUNTER_FIELDS) :])
            if round_ == batch.round:
                counts.append(Counts(*amounts[: len(COUNTER_FIELDS)]))
    return BatchView(batch, batch.counts_of(counts), spending)


def batches_in(
    connection: sqlite3.Connection, state: State, after: str, limit: int, now_ms: int
) -> list[Batch]:
    """Batches in a state with ids after `after`, in their order."""
    rows = connection.execute(
        f"SELECT item FROM batches WHERE state = ? AND batch_id > ? AND {_PRESENT} "  # noqa: S608
        "ORDER BY batch_id LIMIT ?",
        (str(state), after, now_ms // 1000, limit),
    )
    return [_batch_of(item) for (item,) in rows]


def recent_batches(connection: sqlite3.Connection, limit: int, now_ms: int) -> list[Batch]:
    """The latest batches by creation, newest first."""
    rows = connection.execute(
        f"SELECT item FROM batches WHERE created_at <> '' AND {_PRESENT} "  # noqa: S608
        "ORDER BY created_at DESC LIMIT ?",
        (now_ms // 1000, limit),
    )
    return [_batch_of(item) for (item,) in rows]


def add_counts(connection: sqlite3.Connection, number: int, commit: Commit, counts: Counts) -> None:
    """Add the counts of a commit to the counters of its round."""
    amounts = [getattr(counts, name) for name in COUNTER_FIELDS]
    amounts += [getattr(commit.spent, name) for name in SPENDING_FIELDS]
    connection.execute(_ADD_COUNTS, (number, commit.round, commit.incarnation, commit.ttl, *amounts))


def save_definition(connection: sqlite3.Connection, batch_id: str, digest: str, definition: str) -> None:
    """Store a definition of a batch."""
    connection.execute(
        "INSERT OR REPLACE INTO definitions (batch, digest, definition) VALUES (?, ?, ?)",
        (numbered(connection, batch_id), digest, definition),
    )


def stored_definition(connection: sqlite3.Connection, batch_id: str, digest: str) -> str | None:
    """A definition of a batch."""
    row = connection.execute(
        "SELECT definition FROM definitions WHERE batch = ? AND digest = ?",
        (number_of_batch(connection, batch_id), digest),
    ).fetchone()
    return None if row is None else row[0]


def add_operation(connection: sqlite3.Connection, batch: Batch, operation: Operation) -> bool:
    """Store an operation. False if its request has one already."""
    added = connection.execute(
        "INSERT OR IGNORE INTO operations (batch, incarnation, request_id, control, item) "
        "VALUES (?, ?, ?, ?, ?)",
        (
            numbered(connection, batch.batch_id),
            batch.incarnation,
            operation.request_id,
            operation.control,
            orjson.dumps(operation_item(batch, operation)),
        ),
    )
    return added.rowcount == 1


def stored_operation(connection: sqlite3.Connection, batch: Batch, request_id: str) -> Operation | None:
    """The operation of a request."""
    row = connection.execute(
        "SELECT item FROM operations WHERE batch = ? AND incarnation = ? AND request_id = ?",
        (number_of_batch(connection, batch.batch_id), batch.incarnation, request_id),
    ).fetchone()
    return None if row is None else operation_of(orjson.loads(row[0]))


def operations_of(connection: sqlite3.Connection, batch: Batch) -> list[Operation]:
    """The operations that have changed a batch, in order."""
    rows = connection.execute(
        "SELECT item FROM operations WHERE batch = ? AND incarnation = ? AND control > 0 ORDER BY control",
        (number_of_batch(connection, batch.batch_id), batch.incarnation),
    )
    return [operation_of(orjson.loads(item)) for (item,) in rows]


@functools.lru_cache(maxsize=64)
def _batch_of(item: bytes) -> Batch:
    # Most reads are of a batch that has not changed since.
    return batch_of(orjson.loads(item))
