"""Outcomes in their table of the store: commits, and pages in row order."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from service.adapters.sqlite.table.batch_rows import add_counts, number_of_batch, numbered
from service.adapters.sqlite.table.outcome_bodies import outcome_from
from service.adapters.sqlite.table.row_keys import number_of, partition_range, row_key
from service.domain.model import Batch, Commit, Counts, Outcome, Status
from service.domain.ports import NumberPage, OutcomePage

PAGE_BYTES = 1_000_000
"""Size at which a page ends."""

DELETED_ROWS = 1_000
"""Outcomes that one call deletes: other calls wait for so long."""

_INSERT = "INSERT OR REPLACE INTO outcomes (id, round, failed, incarnation, ttl, body) VALUES "
_INSERTED_ROWS = (64, 32, 16, 8, 4, 2, 1)
"""Rows that one statement inserts. Each step of SQLite gives up the interpreter, which another thread may
then keep for a while: few steps insert many rows."""

_PAGE = "SELECT id, round, incarnation, ttl, body FROM outcomes WHERE id > ? AND id < ? ORDER BY id LIMIT ?"
_FAILED_PAGE = _PAGE.replace("WHERE", "WHERE failed = 1 AND")


def write_commit(
    connection: sqlite3.Connection, commit: Commit, bodies: Sequence[bytes], counts: Counts
) -> tuple[int, ...]:
    """Store all outcomes and add their counts, or return the indices of the rows that have an outcome."""
    batch = numbered(connection, commit.batch_id)
    keys = [row_key(batch, outcome.number, commit.partitions) for outcome in commit.outcomes]
    stored = connection.execute(
        f"SELECT id, round, incarnation, ttl FROM outcomes WHERE id IN ({', '.join('?' * len(keys))})",  # noqa: S608
        keys,
    ).fetchall()
    kept = {key for key, *attributes in stored if commit.leaves(*attributes)}
    if kept:
        return tuple(index for index, key in enumerate(keys) if key in kept)
    values: list[int | str | bytes] = []
    for key, outcome, body in zip(keys, commit.outcomes, bodies, strict=True):
        is_failed = outcome.status is Status.FAILED
        values += (key, outcome.round, int(is_failed), commit.incarnation, commit.ttl, body)
    _insert(connection, values)
    add_counts(connection, batch, commit, counts)
    return ()


def stored_outcome(connection: sqlite3.Connection, batch: Batch, number: int) -> Outcome | None:
    """The outcome of a row."""
    of_store = number_of_batch(connection, batch.batch_id)
    if of_store is None:
        return None
    row = connection.execute(
        "SELECT round, incarnation, ttl, body FROM outcomes WHERE id = ?",
        (row_key(of_store, number, batch.partitions),),
    ).fetchone()
    if row is None or not batch.owns(row[1], row[2]):
        return None
    return outcome_from(number, row[0], row[3])


def delete_page(connection: sqlite3.Connection, batch: Batch, partition: int) -> int:
    """Delete some outcomes of a partition; return their number."""
    of_store = number_of_batch(connection, batch.batch_id)
    if of_store is None:
        return 0
    return connection.execute(
        "DELETE FROM outcomes WHERE id IN "
        "(SELECT id FROM outcomes WHERE id > ? AND id < ? ORDER BY id LIMIT ?)",
        (*partition_range(of_store, partition, 0), DELETED_ROWS),
    ).rowcount


def outcome_page(
    connection: sqlite3.Connection, batch: Batch, partition: int, after: int, limit: int, *, failed: bool
) -> OutcomePage:
    """A page of a partition's outcomes, or of its FAILED ones, ascending."""
    of_store = number_of_batch(connection, batch.batch_id)
    if of_store is None:
        return OutcomePage([], None)
    found: list[Outcome] = []
    read = size = 0
    cursor = connection.execute(
        _FAILED_PAGE if failed else _PAGE, (*partition_range(of_store, partition, after), limit)
    )
    try:
        for key, round_, incarnation, ttl, body in cursor:
            if batch.owns(incarnation, ttl):
                found.append(outcome_from(number_of(key), round_, body))
            read += 1
            size += len(body)
            # as in DynamoDB, a full page has a place to continue, even if no row follows
            if read >= limit or size >= PAGE_BYTES:
                return OutcomePage(found, number_of(key))
    finally:
        cursor.close()
    return OutcomePage(found, None)


def done_page(
    connection: sqlite3.Connection, batch: Batch, partition: int, after: int, limit: int
) -> NumberPage:
    """Numbers of a partition's rows that have an outcome of the batch's round or a later one."""
    of_store = number_of_batch(connection, batch.batch_id)
    if of_store is None:
        return NumberPage([], None)
    rows = connection.execute(
        # the incarnation as in `Batch.owns`
        "SELECT id FROM outcomes WHERE id > ? AND id < ? AND round >= ? "
        "AND (incarnation = ? OR (incarnation = '' AND ttl = ?)) ORDER BY id LIMIT ?",
        (*partition_range(of_store, partition, after), batch.round, batch.incarnation, batch.ttl, limit),
    ).fetchall()
    numbers = [number_of(key) for (key,) in rows]
    return NumberPage(numbers, numbers[-1] if len(numbers) == limit else None)


def _insert(connection: sqlite3.Connection, values: list[int | str | bytes]) -> None:
    """Insert rows of six values each."""
    begin = 0
    for rows in _INSERTED_ROWS:
        while len(values) - begin >= 6 * rows:
            statement = _INSERT + ", ".join(("(?, ?, ?, ?, ?, ?)",) * rows)
            connection.execute(statement, values[begin : begin + 6 * rows])
            begin += 6 * rows
