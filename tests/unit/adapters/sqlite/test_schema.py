"""Numbered migrations."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.adapters.memory import MemoryClock
from service.adapters.sqlite import Store, StoreError
from service.adapters.sqlite.schema import MIGRATIONS, migrate, version_of
from service.domain.model import COUNTER_FIELDS

STEPS = (
    ("CREATE TABLE a (x INTEGER)", "INSERT INTO a VALUES (1)"),
    ("ALTER TABLE a ADD COLUMN y INTEGER NOT NULL DEFAULT 7",),
    ("CREATE TABLE b AS SELECT x + y AS sum FROM a",),
)


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    made = sqlite3.connect(":memory:", isolation_level=None)
    yield made
    made.close()


@pytest.mark.parametrize("version", [0, 1, 2, 3])
def test_an_older_store_is_brought_up_to_date(connection: sqlite3.Connection, version: int) -> None:
    """By the steps that it has not had, whichever version it has."""
    migrate(connection, Path("store"), STEPS[:version])
    assert version_of(connection) == version
    migrate(connection, Path("store"), STEPS)
    assert version_of(connection) == 3
    assert connection.execute("SELECT * FROM a").fetchall() == [(1, 7)]
    assert connection.execute("SELECT * FROM b").fetchall() == [(8,)]


def test_a_step_that_fails_changes_nothing(connection: sqlite3.Connection) -> None:
    """Neither its statements nor the version; the steps before it are kept, and it can be tried again."""
    broken = (*STEPS[:1], ("ALTER TABLE a ADD COLUMN z", "INSERT INTO nowhere VALUES (1)"))
    with pytest.raises(sqlite3.OperationalError, match="nowhere"):
        migrate(connection, Path("store"), broken)
    assert version_of(connection) == 1
    assert connection.execute("SELECT * FROM a").fetchall() == [(1,)]
    migrate(connection, Path("store"), STEPS)


def test_a_newer_store_is_refused(connection: sqlite3.Connection) -> None:
    """Nothing of it is changed."""
    migrate(connection, Path("store"), STEPS)
    with pytest.raises(StoreError, match="its format is 3, this one knows 2"):
        migrate(connection, Path("store"), STEPS[:2])
    assert version_of(connection) == 3


def test_the_first_step_stays_as_it_is() -> None:
    """Stores have run it: a change of the tables is a further step, with a test of a store of version 1."""
    text = "\n".join(" ".join(statement.split()) for statement in MIGRATIONS[0])
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "0092a880f26f2c77"


async def test_counters_have_a_column_each(tmp_path: Path) -> None:
    """A counter that the domain gets has to get a column, by a further step."""
    async with await Store.open(tmp_path, MemoryClock()):
        pass
    connection = sqlite3.connect(tmp_path / "rowfleet.db")
    columns = [row[1] for row in connection.execute("PRAGMA table_info(counters)")]
    connection.close()
    assert set(COUNTER_FIELDS) <= set(columns)
