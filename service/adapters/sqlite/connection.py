"""The connection to the database: calls of one moment share a transaction, and one write to the disk.

Calls run in the event loop. In a thread each step of SQLite would give up the interpreter, and a busy loop
may keep that from a waiting thread for seconds. What waits for the disk does run in threads: it is one step.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from service.adapters.sqlite.errors import StoreError, store_errors
from service.adapters.sqlite.failure import StoreFailure
from service.adapters.sqlite.folder import DATABASE_NAME, LOG_NAME, sync, sync_folder

T = TypeVar("T")

GROUP_CALLS = 200
"""Most calls in one transaction."""

GROUP_S = 0.01
"""Time after which no further call begins in a transaction: other tasks of the event loop have their turn."""

LOG_BYTES = 8 * 2**20
"""Size from which the log of changes is copied into the database, beside the calls."""

MOST_LOG_BYTES = 8 * LOG_BYTES
"""Size at which calls wait until the rest of it is copied, if that has no more than `FEW_PAGES`."""

FEW_PAGES = 512

_COPY = "PRAGMA wal_checkpoint(PASSIVE)"
_THREADS = 4


@dataclass(slots=True)
class _Call:
    """A function to call with the connection, and the future of its caller."""

    work: Callable[[sqlite3.Connection], Any]
    is_durable: bool
    future: asyncio.Future[Any]
    result: Any = None
    error: BaseException | None = None

    def settle(self) -> None:
        """Give the caller the result; it may have gone."""
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


class StoreConnection:
    """Serves calls in their order, each as one transaction or part of one.

    A durable call returns when its changes are on the disk. Those of any other call outlive the process, and
    may be lost with the machine's power until the next durable one; none is lost before a later one.
    """

    def __init__(
        self,
        folder: Path,
        failure: StoreFailure | None = None,
        *,
        sync: Callable[[int], None] = sync,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._failure = failure or StoreFailure()
        self._sync = sync
        self._now = now
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="rowfleet-store")
        self._connection: sqlite3.Connection | None = None
        self._copier: sqlite3.Connection | None = None
        self._calls: list[_Call] = []
        self._unsynced: list[_Call] = []
        self._flusher: asyncio.Task[None] | None = None
        self._log = -1
        self._is_closed = False

    async def start(self, connect: Callable[[], sqlite3.Connection]) -> None:
        """Open the connection, which any thread may use. Raises StoreError."""
        self._connection = await self.in_thread(connect)

    async def run(self, work: Callable[[sqlite3.Connection], T], *, is_durable: bool = False) -> T:
        """The result of `work`. It checks before it writes: a later error undoes the calls before it.

        Raises what `work` raises, and StoreError.
        """
        if self._is_closed or self._connection is None:
            raise RuntimeError(f"the store {self._folder} is closed")
        loop = asyncio.get_running_loop()
        if not self._calls:
            loop.call_soon(self._serve, self._connection)
        call = _Call(work, is_durable, loop.create_future())
        self._calls.append(call)
        try:
            result: T = await call.future
        except StoreError as error:
            self._failure.report(error)
            raise
        return result

    async def in_thread(self, work: Callable[[], T]) -> T:
        """The result of `work`, which waits for the disk and runs in a thread. Raises StoreError."""
        try:
            with store_errors(self._folder):
                return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except StoreError as error:
            self._failure.report(error)
            raise

    async def close(self) -> None:
        """Serve the calls that wait, and close the connection. Harmless if it was closed."""
        if self._is_closed:
            return
        self._is_closed = True
        while self._calls or self._flusher is not None:
            await asyncio.wait([self._flusher] if self._flusher else [self._calls[-1].future])
        for connection in filter(None, (self._copier, self._connection)):
            await self.in_thread(connection.close)
        if self._log >= 0:
            os.close(self._log)
        self._threads.shutdown(wait=False)

    def _serve(self, connection: sqlite3.Connection) -> None:
        """Serve the calls that wait, as one transaction."""
        served = self._perform(connection, self._calls[:GROUP_CALLS])
        group, self._calls = self._calls[:served], self._calls[served:]
        if self._calls:
            asyncio.get_running_loop().call_soon(self._serve, connection)
        for call in group:
            if call.is_durable and call.error is None:
                self._unsynced.append(call)
            else:
                call.settle()
        if self._unsynced and self._flusher is None:
            self._flusher = asyncio.create_task(self._flush())

    def _perform(self, connection: sqlite3.Connection, group: list[_Call]) -> int:
        """Set the result or error of the first calls; return their number, which is at least 1.

        An error of SQLite is that of all of them.
        """
        served = 0
        end = self._now() + GROUP_S
        try:
            with store_errors(self._folder):
                connection.execute("BEGIN")
                for call in group:
                    served += 1
                    _call(connection, call)
                    if self._now() >= end:
                        break
                connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 -- the callers get it
            served = served or len(group)
            for call in group[:served]:
                call.error = call.error or error
            _roll_back(connection)
        return served

    async def _flush(self) -> None:
        """Write the log to the disk for all calls that wait for it, as often as there are any."""
        while self._unsynced:
            group, self._unsynced = self._unsynced, []
            try:
                await self.in_thread(self._write_log)
            except Exception as error:  # noqa: BLE001 -- the callers get it
                for call in group:
                    call.error = error
            for call in group:
                call.settle()
            await self._copy_log()
        self._flusher = None

    def _write_log(self) -> None:
        if self._log < 0:
            # It stays open: each call of the system may wait for the interpreter afterwards.
            self._log = os.open(self._folder / LOG_NAME, os.O_RDWR | os.O_CLOEXEC)
            sync_folder(self._folder)  # SQLite has made the log just now
        self._sync(self._log)

    async def _copy_log(self) -> None:
        """Copy a long log into the database; SQLite then begins it anew. An error leaves it as it is."""
        with suppress(OSError, sqlite3.Error):
            size = (self._folder / LOG_NAME).stat().st_size
            if size < LOG_BYTES:
                return
            loop = asyncio.get_running_loop()
            rest = await loop.run_in_executor(self._threads, self._copy_beside_calls)
            if size >= MOST_LOG_BYTES and rest <= FEW_PAGES and self._connection is not None:
                # Calls have added to it all the time, so that it was never wholly copied.
                self._connection.execute(_COPY).fetchall()

    def _copy_beside_calls(self) -> int:
        """Copy what no reader still needs; return the number of pages that are left."""
        if self._copier is None:
            path = self._folder / DATABASE_NAME
            self._copier = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._copier.execute("PRAGMA checkpoint_fullfsync = ON")
        _, pages, copied = self._copier.execute(_COPY).fetchone()
        return int(pages - copied)


def _call(connection: sqlite3.Connection, call: _Call) -> None:
    before = connection.total_changes
    try:
        call.result = call.work(connection)
    except (sqlite3.Error, OSError):
        raise
    except Exception as error:
        call.error = error
        if connection.total_changes != before:
            raise


def _roll_back(connection: sqlite3.Connection) -> None:
    """End the transaction. SQLite itself has ended it after some errors, as a full disk."""
    # If this fails, the next BEGIN fails too, and says so to its callers.
    with suppress(sqlite3.Error):
        if connection.in_transaction:
            connection.execute("ROLLBACK")
