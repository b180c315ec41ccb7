"""The files of large objects and of uploads. Each has a random name: no key of an object becomes a path."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from service.adapters.sqlite.connection import StoreConnection
from service.adapters.sqlite.folder import OBJECTS_NAME, create_private, sync_folder, write_all


class ObjectFiles:
    """Files by their names. All methods raise StoreError, and work in other threads than the caller's."""

    def __init__(self, folder: Path, connection: StoreConnection) -> None:
        self._in_thread = connection.in_thread
        self._folder = folder / OBJECTS_NAME

    async def create(self, body: bytes = b"") -> str:
        """Write a new file that is durable when this returns; return its name."""
        name = uuid.uuid4().hex

        def create() -> None:
            path = self._folder / name
            descriptor = create_private(path)
            try:
                write_all(descriptor, body, 0)
            except OSError:
                path.unlink()
                raise
            finally:
                os.close(descriptor)
            sync_folder(self._folder)

        await self._in_thread(create)
        return name

    async def write(self, name: str, body: bytes, offset: int, *, is_last: bool = False) -> bool:
        """Write bytes at an offset of a file, and cut it behind them if they are its last.

        False if the file is gone or has lost bytes before the offset.
        """

        def write() -> bool:
            try:
                descriptor = os.open(self._folder / name, os.O_WRONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                return False
            try:
                if os.fstat(descriptor).st_size < offset:
                    return False
                if is_last:
                    os.ftruncate(descriptor, offset + len(body))
                write_all(descriptor, body, offset)
            finally:
                os.close(descriptor)
            return True

        return await self._in_thread(write)

    async def read(self, name: str, start: int, length: int) -> bytes | None:
        """Bytes of a file, fewer at its end; None if it is gone."""

        def read() -> bytes | None:
            try:
                descriptor = os.open(self._folder / name, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                return None
            try:
                return os.pread(descriptor, length, start)
            finally:
                os.close(descriptor)

        return await self._in_thread(read)

    async def remove(self, *names: str) -> None:
        """Remove files; those that are gone, and the name "", are ignored."""

        def remove() -> None:
            for name in names:
                (self._folder / name).unlink(missing_ok=True)

        names = tuple(filter(None, names))
        if names:
            await self._in_thread(remove)

    async def remove_strays(self, used: set[str]) -> None:
        """Remove all files but these: a process was killed before it could say to whom they belong."""

        def remove() -> None:
            for path in self._folder.iterdir():
                if path.name not in used:
                    path.unlink(missing_ok=True)

        await self._in_thread(remove)
