"""The store on this machine: opened, locked and brought up to date."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from service.adapters.sqlite import errors
from service.adapters.sqlite.connection import StoreConnection
from service.adapters.sqlite.expiry import expire, purge_step
from service.adapters.sqlite.failure import StoreFailure
from service.adapters.sqlite.folder import DATABASE_NAME, prepare_folder
from service.adapters.sqlite.lock import StoreLock
from service.adapters.sqlite.objects.files import ObjectFiles
from service.adapters.sqlite.objects.folder_objects import PART_BYTES, FolderObjects
from service.adapters.sqlite.objects.rows import used_names
from service.adapters.sqlite.schema import MIGRATIONS, PAGE_BYTES, check_version, migrate, version_of
from service.adapters.sqlite.table.sqlite_table import SqliteTable
from service.domain.ports import Clock, Objects, Table

CACHE_KIB = 8_192
"""Pages that SQLite keeps in memory."""

PURGE_PAUSE_S = 0.05
"""Pause after each removal of some outcomes, so that a run beside it is not slower."""


class Store:
    """The ports on a folder. `open` it, as an async context manager or with `close` at the end.

    One process has the store to write. Any number may have it to read at the same time, and see each change
    that is committed. `failure` tells the process that the store cannot be used any more.
    """

    def __init__(self, folder: Path, clock: Clock, *, lock: StoreLock | None, part_bytes: int) -> None:
        self.folder = folder
        self._clock = clock
        self._lock = lock
        self._purge: asyncio.Task[None] | None = None
        self.failure = StoreFailure()
        self._connection = connection = StoreConnection(folder, self.failure)
        self._files = ObjectFiles(folder, connection)
        self.table: Table = SqliteTable(connection, clock.now_ms)
        self.objects: Objects = FolderObjects(
            connection, self._files, part_bytes=part_bytes, read_only=lock is None
        )

    @classmethod
    async def open(
        cls, folder: Path, clock: Clock, *, read_only: bool = False, part_bytes: int = PART_BYTES
    ) -> Store:
        """Open the store in `folder`, and make it if there is none and it is to be written.

        `part_bytes` is the size of the parts of uploads. Raises StoreError, in words for users.
        """
        if read_only and not (folder / DATABASE_NAME).exists():
            raise errors.missing(folder)
        store = cls(folder, clock, lock=None if read_only else _locked(folder), part_bytes=part_bytes)
        try:
            await store._start()
        except BaseException:
            await store.close()
            raise
        return store

    async def _start(self) -> None:
        folder = self.folder
        if self._lock is None:
            await self._connection.start(lambda: _connect_to_read(folder))
        else:
            await self._connection.start(lambda: _connect(folder))
            await self._clean_up()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the calls under way, close the database and release the lock. Harmless if it was closed."""
        if self._purge is not None:
            self._purge.cancel()
            await asyncio.wait([self._purge])
        await self._connection.close()
        if self._lock is not None:
            self._lock.release()

    async def _clean_up(self) -> None:
        """Remove what nobody needs any more. The outcomes of batches that are gone go in the background."""
        now_ms = self._clock.now_ms()
        await self._connection.run(lambda one: expire(one, now_ms))
        await self._files.remove_strays(await self._connection.run(used_names))
        self._purge = asyncio.create_task(self._purge_outcomes())

    async def _purge_outcomes(self) -> None:
        # An error here, as a full disk, is met by the calls of the roles as well. The next one goes on.
        with suppress(errors.StoreError):
            while await self._connection.run(purge_step):
                await self._clock.sleep(PURGE_PAUSE_S)


def _locked(folder: Path) -> StoreLock:
    """The lock of the folder, which is made if it is missing."""
    with errors.store_errors(folder):
        prepare_folder(folder)
        return StoreLock.acquire(folder)


def _connect(folder: Path) -> sqlite3.Connection:
    """A connection that writes, to a store of the present version."""
    # Transactions are begun and ended by `StoreConnection`.
    connection = sqlite3.connect(folder / DATABASE_NAME, isolation_level=None, check_same_thread=False)
    try:
        connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        connection.execute("PRAGMA journal_mode = WAL")
        # `StoreConnection` writes the log to the disk, and copies it into the database
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute("PRAGMA journal_size_limit = 0")
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        # on macOS a plain fsync leaves the bytes in the disk's own cache
        connection.execute("PRAGMA checkpoint_fullfsync = ON")
        migrate(connection, folder)
    except BaseException:
        connection.close()
        raise
    return connection


def _connect_to_read(folder: Path) -> sqlite3.Connection:
    """A connection that only reads. An older store is brought up to date first, if nobody has it."""
    path = (folder / DATABASE_NAME).resolve().as_uri()
    connection = sqlite3.connect(f"{path}?mode=rw", uri=True, isolation_level=None, check_same_thread=False)
    try:
        check_version(connection, folder)
        if version_of(connection) < len(MIGRATIONS):
            lock = StoreLock.acquire(folder)
            try:
                migrate(connection, folder)
            finally:
                lock.release()
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        connection.execute("PRAGMA query_only = ON")
    except BaseException:
        connection.close()
        raise
    return connection
