"""Shared records in their table of the store."""

from __future__ import annotations

import sqlite3

from service.domain.ports import SharedRecord


def stored_record(connection: sqlite3.Connection, name: str) -> SharedRecord:
    """The record; version 0 if there is none."""
    row = connection.execute("SELECT text, version FROM records WHERE name = ?", (name,)).fetchone()
    return SharedRecord() if row is None else SharedRecord(*row)


def swap_record(
    connection: sqlite3.Connection, name: str, text: str, *, version: int, ttl: int
) -> SharedRecord:
    """Replace the record if it has this version; return the stored one."""
    stored = stored_record(connection, name)
    if stored.version != version:
        return stored
    connection.execute(
        "INSERT OR REPLACE INTO records (name, text, version, ttl) VALUES (?, ?, ?, ?)",
        (name, text, version + 1, ttl),
    )
    return SharedRecord(text, version + 1)
