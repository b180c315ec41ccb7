"""The thread that has the connection: calls that wait at the same time are one transaction."""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from service.adapters.sqlite.errors import StoreError, store_errors
from service.adapters.sqlite.failure import StoreFailure

T = TypeVar("T")

GROUP_CALLS = 200
"""Most calls in one transaction."""


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


class StoreThread:
    """Serves calls in their order. A caller gets its result after the transaction has been committed.

    A durable call has reached the disk by then. Any other is kept if the process is killed, and may be lost
    with the machine's power until the next durable one; none is lost before a later one.
    """

    def __init__(self, folder: Path, failure: StoreFailure | None = None) -> None:
        self._folder = folder
        self._failure = failure or StoreFailure()
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop
        self._is_durable: bool | None = None
        self._is_closed = False

    async def start(self, connect: Callable[[], sqlite3.Connection]) -> None:
        """Open the connection in the thread. Raises StoreError."""
        self._loop = asyncio.get_running_loop()
        started = _Call(lambda _: None, is_durable=False, future=self._loop.create_future())
        # A daemon: a process that ends without `close` ends all the same, and the store bears any end.
        self._thread = threading.Thread(
            target=self._serve, args=(connect, started), name="rowfleet-store", daemon=True
        )
        self._thread.start()
        await started.future

    async def run(self, work: Callable[[sqlite3.Connection], T], *, is_durable: bool = False) -> T:
        """The result of `work`. It checks before it writes: an error after a write undoes the whole group.

        Raises what `work` raises, and StoreError.
        """
        if self._is_closed:
            raise RuntimeError(f"the store {self._folder} is closed")
        call = _Call(work, is_durable, asyncio.get_running_loop().create_future())
        self._calls.put(call)
        try:
            result: T = await call.future
        except StoreError as error:
            self._failure.report(error)
            raise
        return result

    async def close(self) -> None:
        """Serve the calls that wait, and close the connection."""
        if self._is_closed or self._thread is None:
            return
        self._is_closed = True
        self._calls.put(None)
        await asyncio.to_thread(self._thread.join)

    def _serve(self, connect: Callable[[], sqlite3.Connection], started: _Call) -> None:
        try:
            with store_errors(self._folder):
                connection = connect()
        except BaseException as error:  # noqa: BLE001 -- the caller gets it, whatever it is
            started.error = error
            self._settle([started])
            return
        self._settle([started])
        try:
            while group := self._next_group():
                self._perform(connection, group)
                self._settle(group)
        finally:
            connection.close()

    def _next_group(self) -> list[_Call]:
        """The calls that wait, after at least one has come; empty at the end."""
        group: list[_Call] = []
        call = self._calls.get()
        while call is not None:
            group.append(call)
            if len(group) == GROUP_CALLS:
                return group
            try:
                call = self._calls.get_nowait()
            except queue.Empty:
                return group
        if group:
            self._calls.put(None)  # the end comes after this group
        return group

    def _perform(self, connection: sqlite3.Connection, group: list[_Call]) -> None:
        """Set the result or error of each call. An error of SQLite is that of the whole group."""
        try:
            with store_errors(self._folder):
                self._set_durability(connection, any(call.is_durable for call in group))
                connection.execute("BEGIN")
                for call in group:
                    _call(connection, call)
                connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 -- the callers get it
            for call in group:
                call.error = call.error or error
            _roll_back(connection)

    def _settle(self, group: list[_Call]) -> None:
        """Give the callers their results, in the event loop."""

        def settle() -> None:
            for call in group:
                call.settle()

        # A loop that was closed has no callers that wait.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(settle)

    def _set_durability(self, connection: sqlite3.Connection, is_durable: bool) -> None:
        if is_durable is not self._is_durable:
            connection.execute(f"PRAGMA synchronous = {'FULL' if is_durable else 'NORMAL'}")
            self._is_durable = is_durable


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
    try:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    except sqlite3.Error:
        # The next BEGIN fails, and says so to its callers.
        return
