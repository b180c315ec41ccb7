"""Objects and unfinished uploads in the tables of the store."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from service.domain.model import Source

_LAST_CHARACTER = chr(0x10FFFF)


@dataclass(frozen=True, slots=True)
class ObjectRow:
    """An object: its bytes are in `body`, or in the file `name` if that is not ""."""

    bucket: str
    key: str
    etag: str
    size: int
    content_type: str
    name: str = ""
    body: bytes | None = None


def stored_object(
    connection: sqlite3.Connection, bucket: str, key: str, start: int = 0, length: int = 0
) -> ObjectRow | None:
    """An object. If it has no file, `body` has `length` of its bytes from `start`."""
    row = connection.execute(
        "SELECT etag, size, content_type, name, substr(body, ?, ?) FROM objects WHERE bucket = ? AND key = ?",
        (start + 1, length, bucket, key),
    ).fetchone()
    return None if row is None else ObjectRow(bucket, key, *row)


def save_object(connection: sqlite3.Connection, row: ObjectRow) -> str:
    """Store an object; return the name of the file of the one that it replaces, "" if that has none."""
    replaced = stored_object(connection, row.bucket, row.key)
    connection.execute(
        "INSERT OR REPLACE INTO objects (bucket, key, etag, size, content_type, name, body) "
        "VALUES (?, ?, ?, ?, ?, ?, ?)",
        (row.bucket, row.key, row.etag, row.size, row.content_type, row.name, row.body),
    )
    return replaced.name if replaced else ""


def listed_objects(
    connection: sqlite3.Connection, bucket: str, prefix: str, after: str, limit: int
) -> list[Source]:
    """Objects by the UTF-8 bytes of their keys, which is how SQLite compares texts."""
    rows = connection.execute(
        "SELECT key, etag, size FROM objects WHERE bucket = ? AND key > ? AND key >= ? AND key <= ? "
        "ORDER BY key LIMIT ?",
        (bucket, after, prefix, prefix + _LAST_CHARACTER, limit),
    )
    return [Source(bucket=bucket, key=key, etag=etag, size=size) for key, etag, size in rows]


def count_objects(connection: sqlite3.Connection, bucket: str, key: str, *, is_prefix: bool) -> int:
    """The number of objects with this key, or below it."""
    bounds = (bucket, key, key + _LAST_CHARACTER if is_prefix else key)
    row = connection.execute(
        "SELECT count(*) FROM objects WHERE bucket = ? AND key >= ? AND key <= ?", bounds
    ).fetchone()
    return int(row[0])


def delete_objects(
    connection: sqlite3.Connection, bucket: str | None, key: str, *, is_prefix: bool = True
) -> list[str]:
    """Delete the object `key`, or all below it, and their uploads; return the names of their files.

    Without a bucket those of all buckets are deleted.
    """
    place = "(bucket = ?1 OR ?1 IS NULL) AND key >= ?2 AND key <= ?3"
    bounds = (bucket, key, key + _LAST_CHARACTER if is_prefix else key)
    names = connection.execute(f"SELECT name FROM objects WHERE {place} AND name <> ''", bounds).fetchall()  # noqa: S608
    names += connection.execute(f"SELECT id FROM uploads WHERE {place}", bounds).fetchall()  # noqa: S608
    connection.execute(f"DELETE FROM objects WHERE {place}", bounds)  # noqa: S608
    connection.execute(f"DELETE FROM uploads WHERE {place}", bounds)  # noqa: S608
    return [name for (name,) in names]


def add_upload(connection: sqlite3.Connection, id_: str, bucket: str, key: str) -> None:
    """Keep in mind that an upload has begun."""
    connection.execute("INSERT INTO uploads (id, bucket, key) VALUES (?, ?, ?)", (id_, bucket, key))


def end_upload(connection: sqlite3.Connection, id_: str) -> bool:
    """Forget an upload. False if it is not under way."""
    return connection.execute("DELETE FROM uploads WHERE id = ?", (id_,)).rowcount == 1


def uploads_of(connection: sqlite3.Connection, bucket: str, key: str) -> list[str]:
    """The ids of the unfinished uploads of a key."""
    rows = connection.execute("SELECT id FROM uploads WHERE bucket = ? AND key = ?", (bucket, key))
    return [id_ for (id_,) in rows]


def used_names(connection: sqlite3.Connection) -> set[str]:
    """The names of all files that belong to an object or an upload."""
    rows = connection.execute("SELECT name FROM objects WHERE name <> '' UNION ALL SELECT id FROM uploads")
    return {name for (name,) in rows}
