"""The connection of the store: calls, their transactions, their errors, and the disk."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from service.adapters.sqlite.connection import (
    GROUP_CALLS,
    GROUP_S,
    LOG_BYTES,
    MOST_LOG_BYTES,
    StoreConnection,
)
from service.adapters.sqlite.errors import StoreError, StoreFullError


class Disk:
    """A disk that counts the writes of the log, and may hold or refuse them."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.syncs: list[str] = []
        """The names of the files that were written."""
        self.error: OSError | None = None
        self.is_held = False
        self._begun = threading.Semaphore(0)
        self._released = threading.Semaphore(0)

    def __call__(self, descriptor: int) -> None:
        """Take the place of `sync`."""
        is_log = os.path.samestat(os.fstat(descriptor), self.log.stat())
        self.syncs.append(self.log.name if is_log else "another file")
        if self.is_held:
            self._begun.release()
            self._released.acquire()
        if self.error is not None:
            raise self.error

    async def until_held(self) -> None:
        """Wait until a write has come."""
        await asyncio.to_thread(self._begun.acquire)

    def release(self) -> None:
        """Let a write end that is held."""
        self._released.release()


class Watch:
    """A time that passes only when it is looked at."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.step_s = 0.0

    def __call__(self) -> float:
        """The time in seconds."""
        self.now_s += self.step_s
        return self.now_s


@pytest.fixture
def statements() -> list[str]:
    """The statements that the connection has run."""
    return []


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path / "rowfleet.db-wal")


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
async def connection(
    tmp_path: Path, statements: list[str], disk: Disk, watch: Watch
) -> AsyncIterator[StoreConnection]:
    def connect() -> sqlite3.Connection:
        made = sqlite3.connect(tmp_path / "rowfleet.db", isolation_level=None, check_same_thread=False)
        made.execute("PRAGMA journal_mode = WAL")
        made.execute("PRAGMA wal_autocheckpoint = 0")
        made.execute("PRAGMA journal_size_limit = 0")
        made.execute("CREATE TABLE numbers (number INTEGER PRIMARY KEY, body BLOB)")
        made.set_trace_callback(statements.append)
        return made

    opened = StoreConnection(tmp_path, sync=disk, now=watch)
    await opened.start(connect)
    yield opened
    disk.is_held = False
    disk.release()
    await opened.close()


def add(number: int, size: int = 0) -> Callable[[sqlite3.Connection], int]:
    def add_number(one: sqlite3.Connection) -> int:
        one.execute("INSERT INTO numbers VALUES (?, zeroblob(?))", (number, size))
        return number

    return add_number


async def stored(connection: StoreConnection) -> list[int]:
    rows = await connection.run(lambda one: one.execute("SELECT number FROM numbers").fetchall())
    return [number for (number,) in rows]


async def together(
    connection: StoreConnection, *calls: Callable[[sqlite3.Connection], object], is_durable: bool = False
) -> list[object]:
    """The results or errors of calls of one moment."""
    made = (connection.run(call, is_durable=is_durable) for call in calls)
    return list(await asyncio.gather(*made, return_exceptions=True))


async def test_calls_of_one_moment_are_one_transaction(
    connection: StoreConnection, statements: list[str], disk: Disk
) -> None:
    """They share one write to the disk, and each gets its own result, in its order."""
    assert await together(connection, *map(add, range(50)), is_durable=True) == list(range(50))
    assert statements.count("COMMIT") == 1
    assert disk.syncs == ["rowfleet.db-wal"]
    assert await stored(connection) == list(range(50))


async def test_a_transaction_has_an_end(connection: StoreConnection, statements: list[str]) -> None:
    """However many calls wait."""
    await together(connection, *map(add, range(2 * GROUP_CALLS + 1)))
    assert statements.count("COMMIT") == 3
    assert await stored(connection) == list(range(2 * GROUP_CALLS + 1))


async def test_calls_that_take_long_let_others_have_their_turn(
    connection: StoreConnection, statements: list[str], watch: Watch
) -> None:
    """The event loop goes on after the call in which the time of a transaction is up."""
    watch.step_s = GROUP_S / 2
    turns: list[int] = []

    async def other() -> None:
        while statements.count("COMMIT") < 3:
            turns.append(statements.count("COMMIT"))
            await asyncio.sleep(0)

    _, results = await asyncio.gather(other(), together(connection, *map(add, range(5))))
    assert results == [0, 1, 2, 3, 4]
    assert statements.count("COMMIT") == 3
    assert {1, 2} <= set(turns)


async def test_a_durable_call_waits_for_the_disk(connection: StoreConnection, disk: Disk) -> None:
    """Its change is seen before. Other calls need not wait, and those that come meanwhile share a write."""
    disk.is_held = True
    first = asyncio.create_task(connection.run(add(1), is_durable=True))
    await disk.until_held()
    assert await connection.run(add(2)) == 2
    assert await stored(connection) == [1, 2]
    later = [asyncio.create_task(connection.run(add(number), is_durable=True)) for number in (3, 4)]
    await asyncio.sleep(0)
    assert await stored(connection) == [1, 2, 3, 4]
    assert not first.done()
    disk.release()
    assert await first == 1
    await disk.until_held()
    assert not any(task.done() for task in later)
    disk.release()
    assert await asyncio.gather(*later) == [3, 4]
    assert len(disk.syncs) == 2


async def test_a_disk_that_refuses_is_an_error(connection: StoreConnection, disk: Disk) -> None:
    """Of the calls that wait for it."""
    disk.error = OSError(5, "Input/output error")
    with pytest.raises(StoreError, match="Input/output error"):
        await connection.run(add(1), is_durable=True)
    assert await connection.run(add(2)) == 2
    disk.error = None
    assert await connection.run(add(3), is_durable=True) == 3


async def test_an_error_before_a_write_is_the_error_of_one_call(connection: StoreConnection) -> None:
    """The others of its group are applied."""

    def refuse(_: sqlite3.Connection) -> None:
        raise ValueError("no")

    one, error, two = await together(connection, add(1), refuse, add(2))
    assert (one, two) == (1, 2)
    assert isinstance(error, ValueError)
    assert await stored(connection) == [1, 2]


async def test_an_error_after_a_write_undoes_the_group(connection: StoreConnection) -> None:
    """As far as it was served: no half of a call is ever stored. The calls after it are served anew."""

    def half(one: sqlite3.Connection) -> None:
        add(3)(one)
        raise ValueError("no")

    results = await together(connection, add(1), half, add(2), is_durable=True)
    assert [type(result) for result in results] == [ValueError, ValueError, int]
    assert await stored(connection) == [2]
    assert await connection.run(add(4)) == 4


async def test_an_error_of_sqlite_is_that_of_the_group(connection: StoreConnection) -> None:
    """It is put in words; later calls are served."""
    results = await together(connection, add(1), add(1))
    assert [type(result) for result in results] == [StoreError, StoreError]
    assert await stored(connection) == []


async def test_a_full_disk_keeps_what_is_stored(connection: StoreConnection) -> None:
    """The error says what to free; once there is room, calls are served again."""
    await connection.run(add(1))
    pages = await connection.run(lambda one: one.execute("PRAGMA page_count").fetchone()[0])
    await connection.run(lambda one: one.execute(f"PRAGMA max_page_count = {pages + 1}").fetchall())
    with pytest.raises(StoreFullError, match=r"is full: free some space .* run the same command again"):
        await connection.run(add(2, 100_000))
    assert await stored(connection) == [1]
    await connection.run(lambda one: one.execute("PRAGMA max_page_count = 1000").fetchall())
    await connection.run(add(2, 100_000))
    assert await stored(connection) == [1, 2]


async def test_a_caller_that_has_gone_disturbs_nobody(connection: StoreConnection) -> None:
    """Its call is served all the same."""
    gone = asyncio.create_task(connection.run(add(1), is_durable=True))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.wait([gone])
    assert await connection.run(add(2), is_durable=True) == 2
    assert await stored(connection) == [1, 2]


async def test_the_end_comes_after_the_calls_that_wait(connection: StoreConnection, disk: Disk) -> None:
    """`close` serves them, and waits for the disk; no call comes later."""
    waiting = asyncio.create_task(connection.run(add(1), is_durable=True))
    await asyncio.sleep(0)
    await connection.close()
    assert await waiting == 1
    assert len(disk.syncs) == 1
    with pytest.raises(RuntimeError, match="is closed"):
        await connection.run(add(2))


async def test_an_error_of_the_connection_is_that_of_the_start(tmp_path: Path) -> None:
    """There is nothing to close then."""
    connection = StoreConnection(tmp_path)
    with pytest.raises(StoreError, match="cannot be written"):
        await connection.start(lambda: sqlite3.connect(tmp_path))
    await connection.close()


@pytest.mark.parametrize("has_reader", [False, True])
async def test_the_log_does_not_grow_for_ever(
    connection: StoreConnection, tmp_path: Path, has_reader: bool
) -> None:
    """It is copied into the database and begun anew, beside the calls; a reader may keep it for a while."""
    log = tmp_path / "rowfleet.db-wal"
    size = LOG_BYTES // 8
    most = MOST_LOG_BYTES + 4 * size
    reader = sqlite3.connect(tmp_path / "rowfleet.db", isolation_level=None)
    if has_reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM numbers").fetchall()
    for number in range(2 * MOST_LOG_BYTES // size):
        await connection.run(add(number, size), is_durable=True)
    assert (log.stat().st_size > most) == has_reader
    reader.close()
    for number in range(1_000, 1_020):
        await connection.run(add(number, size), is_durable=True)
    assert log.stat().st_size < most
