"""Removal of batches that have expired, with all that belongs to them: a store does not grow for ever.

The batch, its small items and its objects go at once. Its outcomes, of which there may be millions, go a few
at a time (`purge_step`); they count as absent meanwhile, and their space is used again.
"""

from __future__ import annotations

import sqlite3

import orjson

from service.adapters.aws.table.batch_items import batch_of
from service.adapters.sqlite.objects.rows import delete_objects
from service.adapters.sqlite.table.row_keys import batch_range
from service.domain.model import Batch

PURGED_ROWS = 1_000
"""Outcomes that one step removes: other calls wait for so long."""


def expire(connection: sqlite3.Connection, now_ms: int) -> list[str]:
    """Remove what has expired, but for outcomes; return the names of files that belong to nobody any more."""
    now_s = now_ms // 1000
    connection.execute("DELETE FROM records WHERE ttl > 0 AND ttl <= ?", (now_s,))
    expired = connection.execute(
        "SELECT number, item FROM batches WHERE item IS NOT NULL AND ttl > 0 AND ttl <= ?", (now_s,)
    ).fetchall()
    if not expired:
        return []
    others = _batches(connection, now_s)
    files: list[str] = []
    for number, item in expired:
        files += _expire_batch(connection, number, batch_of(orjson.loads(item)), others)
    return files


def purge_step(connection: sqlite3.Connection) -> bool:
    """Remove some outcomes of a batch that is gone, or its number. False if none is left."""
    row = connection.execute("SELECT number FROM batches WHERE item IS NULL LIMIT 1").fetchone()
    if row is None:
        return False
    removed = connection.execute(
        "DELETE FROM outcomes WHERE id IN "
        "(SELECT id FROM outcomes WHERE id > ? AND id < ? ORDER BY id LIMIT ?)",
        (*batch_range(row[0]), PURGED_ROWS),
    ).rowcount
    if removed < PURGED_ROWS:
        for table in ("definitions", "counters", "operations"):
            connection.execute(f"DELETE FROM {table} WHERE batch = ?", row)  # noqa: S608
        connection.execute("DELETE FROM batches WHERE number = ?", row)
    return True


def _batches(connection: sqlite3.Connection, now_s: int) -> list[Batch]:
    """All batches that have not expired."""
    rows = connection.execute(
        "SELECT item FROM batches WHERE item IS NOT NULL AND (ttl <= 0 OR ttl > ?)", (now_s,)
    )
    return [batch_of(orjson.loads(item)) for (item,) in rows]


def _expire_batch(
    connection: sqlite3.Connection, number: int, batch: Batch, others: list[Batch]
) -> list[str]:
    connection.execute("DELETE FROM outbox WHERE batch_id = ?", (batch.batch_id,))
    connection.execute(
        "UPDATE batches SET item = NULL, state = '', created_at = '', ttl = 0 WHERE number = ?", (number,)
    )
    run = "/".join(filter(None, (batch.execution_id, batch.incarnation)))
    files = delete_objects(connection, None, f"work/{batch.tool_name}/{run}/")
    output = batch.output
    if output.prefix and not any(_is_shared(output.prefix, other.output.prefix) for other in others):
        files += delete_objects(connection, output.bucket, output.prefix)
    source = batch.source
    if not any((other.source.bucket, other.source.key) == (source.bucket, source.key) for other in others):
        files += delete_objects(connection, source.bucket, source.key, is_prefix=False)
    return files


def _is_shared(prefix: str, other: str) -> bool:
    """True if an object may be below both prefixes."""
    return prefix.startswith(other) or other.startswith(prefix)
