"""The thread of the store: its calls, their transactions and their errors."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from service.adapters.sqlite.errors import StoreError, StoreFullError
from service.adapters.sqlite.thread import GROUP_CALLS, StoreThread


@pytest.fixture
def statements() -> list[str]:
    """The statements that the connection has run."""
    return []


@pytest.fixture
async def thread(tmp_path: Path, statements: list[str]) -> AsyncIterator[StoreThread]:
    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(tmp_path / "db", isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE numbers (number INTEGER PRIMARY KEY)")
        connection.set_trace_callback(statements.append)
        return connection

    made = StoreThread(tmp_path)
    await made.start(connect)
    yield made
    await made.close()


def add(number: int) -> Callable[[sqlite3.Connection], int]:
    def add_number(connection: sqlite3.Connection) -> int:
        connection.execute("INSERT INTO numbers VALUES (?)", (number,))
        return number

    return add_number


async def stored(thread: StoreThread) -> list[int]:
    rows = await thread.run(lambda one: one.execute("SELECT number FROM numbers").fetchall())
    return [number for (number,) in rows]


class Blocker:
    """A call that holds the thread until it is released, so that other calls wait together."""

    def __init__(self) -> None:
        self._begun = threading.Event()
        self._ended = threading.Event()

    def __call__(self, _: sqlite3.Connection) -> None:
        """Wait to be released."""
        self._begun.set()
        self._ended.wait()

    async def hold(self, thread: StoreThread) -> asyncio.Task[None]:
        """Hold the thread."""
        task = asyncio.create_task(thread.run(self))
        await asyncio.to_thread(self._begun.wait)
        return task

    def release(self) -> None:
        """Let the thread go on."""
        self._ended.set()


async def waiting_together(
    thread: StoreThread, *calls: Callable[[sqlite3.Connection], object]
) -> list[object]:
    """The results or errors of calls that are in one group, if they are not too many."""
    blocker = Blocker()
    held = await blocker.hold(thread)
    tasks = [asyncio.create_task(thread.run(call, is_durable=True)) for call in calls]
    await asyncio.sleep(0)
    blocker.release()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    await held
    return list(results)


async def test_calls_that_wait_are_one_transaction(thread: StoreThread, statements: list[str]) -> None:
    """They share one write to the disk, and each gets its own result, in its order."""
    assert await waiting_together(thread, *(add(number) for number in range(50))) == list(range(50))
    assert statements.count("COMMIT") == 2, "one for the call that held the thread"
    assert await stored(thread) == list(range(50))


async def test_a_transaction_has_an_end(thread: StoreThread, statements: list[str]) -> None:
    """However many calls wait."""
    await waiting_together(thread, *(add(number) for number in range(GROUP_CALLS + 1)))
    assert statements.count("COMMIT") == 3


async def test_only_durable_calls_wait_for_the_disk(thread: StoreThread, statements: list[str]) -> None:
    """The other changes are in the log file, which a killed process leaves behind."""
    for is_durable in (False, False, True, True, False):
        await thread.run(lambda _: None, is_durable=is_durable)
    levels = [text.partition("= ")[2] for text in statements if "synchronous" in text]
    assert levels == ["NORMAL", "FULL", "NORMAL"]


async def test_an_error_before_a_write_is_the_error_of_one_call(thread: StoreThread) -> None:
    """The others of its group are applied."""

    def refuse(_: sqlite3.Connection) -> None:
        raise ValueError("no")

    one, error, two = await waiting_together(thread, add(1), refuse, add(2))
    assert (one, two) == (1, 2)
    assert isinstance(error, ValueError)
    assert await stored(thread) == [1, 2]


async def test_an_error_after_a_write_undoes_the_group(thread: StoreThread) -> None:
    """No half of a call is ever stored."""

    def half(connection: sqlite3.Connection) -> None:
        add(3)(connection)
        raise ValueError("no")

    results = await waiting_together(thread, add(1), half, add(2))
    assert [type(result) for result in results] == [ValueError, ValueError, ValueError]
    assert await stored(thread) == []
    assert await thread.run(add(4)) == 4


async def test_an_error_of_sqlite_is_that_of_the_group(thread: StoreThread) -> None:
    """It is put in words; later calls are served."""
    results = await waiting_together(thread, add(1), add(1))
    assert [type(result) for result in results] == [StoreError, StoreError]
    assert await stored(thread) == []


async def test_a_full_disk_keeps_what_is_stored(thread: StoreThread) -> None:
    """The error says what to free; once there is room, calls are served again."""

    def fill(connection: sqlite3.Connection) -> None:
        connection.execute("CREATE TABLE more AS SELECT zeroblob(100000) AS body")

    await thread.run(add(1))
    pages = await thread.run(lambda one: one.execute("PRAGMA page_count").fetchone()[0])
    await thread.run(lambda one: one.execute(f"PRAGMA max_page_count = {pages + 1}").fetchall())
    with pytest.raises(StoreFullError, match=r"is full: free some space .* run the same command again"):
        await thread.run(fill)
    assert await stored(thread) == [1]
    await thread.run(lambda one: one.execute("PRAGMA max_page_count = 1000").fetchall())
    await thread.run(fill)


async def test_a_caller_that_has_gone_disturbs_nobody(thread: StoreThread) -> None:
    """Its call is served all the same."""
    blocker = Blocker()
    held = await blocker.hold(thread)
    gone = asyncio.create_task(thread.run(add(1)))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.wait([gone])
    blocker.release()
    await held
    assert await stored(thread) == [1]


async def test_the_end_comes_after_the_calls_that_wait(thread: StoreThread) -> None:
    """`close` serves them."""
    blocker = Blocker()
    held = await blocker.hold(thread)
    waiting = asyncio.create_task(thread.run(add(1)))
    closing = asyncio.create_task(thread.close())
    await asyncio.sleep(0)
    blocker.release()
    await closing
    await held
    assert await waiting == 1


async def test_an_error_of_the_connection_is_that_of_the_start(tmp_path: Path) -> None:
    """There is nothing to close then."""
    thread = StoreThread(tmp_path)
    with pytest.raises(StoreError, match="cannot be written"):
        await thread.start(lambda: sqlite3.connect(tmp_path))
    await thread.close()
