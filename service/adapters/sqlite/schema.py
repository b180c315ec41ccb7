"""The tables of the store, and the numbered migrations that bring an older store up to date."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from service.adapters.sqlite.errors import too_new

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        # A batch without an item has been deleted, or commits came before it; its number stays taken.
        """CREATE TABLE batches (
            number INTEGER PRIMARY KEY, batch_id TEXT NOT NULL UNIQUE, state TEXT NOT NULL DEFAULT '',
            created_at TEXT NOT NULL DEFAULT '', ttl INTEGER NOT NULL DEFAULT 0, item BLOB
        )""",
        "CREATE INDEX batches_by_state ON batches (state, batch_id) WHERE item IS NOT NULL",
        "CREATE INDEX batches_by_time ON batches (created_at) WHERE created_at <> ''",
        """CREATE TABLE definitions (
            batch INTEGER NOT NULL, digest TEXT NOT NULL, definition TEXT NOT NULL,
            PRIMARY KEY (batch, digest)
        ) WITHOUT ROWID""",
        """CREATE TABLE counters (
            batch INTEGER NOT NULL, round INTEGER NOT NULL, incarnation TEXT NOT NULL, ttl INTEGER NOT NULL,
            succeeded INTEGER NOT NULL, failed INTEGER NOT NULL, agent_ms INTEGER NOT NULL,
            input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL, reused INTEGER NOT NULL,
            rejected INTEGER NOT NULL, transient INTEGER NOT NULL, rate_limit INTEGER NOT NULL,
            unavailable INTEGER NOT NULL, cancelled INTEGER NOT NULL,
            PRIMARY KEY (batch, round, incarnation, ttl)
        ) WITHOUT ROWID""",
        # `id` holds batch, partition and row (`row_keys`): rows are read and appended in their order.
        """CREATE TABLE outcomes (
            id INTEGER PRIMARY KEY, round INTEGER NOT NULL, failed INTEGER NOT NULL,
            incarnation TEXT NOT NULL, ttl INTEGER NOT NULL, body BLOB NOT NULL
        )""",
        "CREATE INDEX outcomes_failed ON outcomes (failed) WHERE failed = 1",
        """CREATE TABLE operations (
            batch INTEGER NOT NULL, incarnation TEXT NOT NULL, request_id TEXT NOT NULL,
            control INTEGER NOT NULL, item BLOB NOT NULL, PRIMARY KEY (batch, incarnation, request_id)
        ) WITHOUT ROWID""",
        """CREATE TABLE outbox (
            batch_id TEXT NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL, is_pending INTEGER NOT NULL,
            item BLOB NOT NULL, PRIMARY KEY (batch_id, kind, name)
        ) WITHOUT ROWID""",
        "CREATE INDEX outbox_pending ON outbox (kind, name, batch_id) WHERE is_pending = 1",
        """CREATE TABLE records (
            name TEXT PRIMARY KEY, text TEXT NOT NULL, version INTEGER NOT NULL, ttl INTEGER NOT NULL
        ) WITHOUT ROWID""",
        # The bytes of an object are in `body`, or in the file `name` of the folder of objects.
        """CREATE TABLE objects (
            bucket TEXT NOT NULL, key TEXT NOT NULL, etag TEXT NOT NULL, size INTEGER NOT NULL,
            content_type TEXT NOT NULL, name TEXT NOT NULL, body BLOB, PRIMARY KEY (bucket, key)
        )""",
        "CREATE INDEX objects_with_files ON objects (name) WHERE name <> ''",
        "CREATE TABLE uploads (id TEXT PRIMARY KEY, bucket TEXT NOT NULL, key TEXT NOT NULL) WITHOUT ROWID",
    ),
    tuple(
        f"ALTER TABLE counters ADD COLUMN {name} INTEGER NOT NULL DEFAULT 0"
        for name in (
            "cost", "saved", "spent_calls", "spent_input_tokens", "spent_cached_input", "spent_cache_write",
            "spent_output_tokens", "spent_reasoning", "spent_cost", "spent_unpriced", "spent_uncertain",
        )
    ),
)  # fmt: skip
"""The statements that lead from each version to the next; an empty file has version 0.

Stores have run the steps of a released version: a change of the tables is a further step.
"""

PAGE_BYTES = 8_192


def migrate(
    connection: sqlite3.Connection, folder: Path, migrations: Sequence[Sequence[str]] = MIGRATIONS
) -> None:
    """Bring the store up to date, each version in a transaction. Raises StoreError if it is newer."""
    version = check_version(connection, folder, len(migrations))
    for number, statements in enumerate(migrations[version:], start=version + 1):
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in statements:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number}")
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")


def check_version(connection: sqlite3.Connection, folder: Path, known: int = len(MIGRATIONS)) -> int:
    """The version of the store. Raises StoreError if it is newer than the `known` one."""
    version = version_of(connection)
    if version > known:
        raise too_new(folder, version, known)
    return version


def version_of(connection: sqlite3.Connection) -> int:
    """The number of migrations that the store has had."""
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version
