"""The error of a store that cannot be used, with its remedy, from the errors of SQLite and of files."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service.domain.errors import AccessError

HOME_VARIABLE = "ROWFLEET_HOME"
"""The environment variable that names the folder of the store."""

_PRIMARY = 0xFF
"""The bits of an extended result code that say which error it is."""

_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_REFUSED = {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH}
_FULL = {errno.ENOSPC, errno.EDQUOT}
_LEAST_ROOM = 64 * 1024
"""Bytes that the files beside the database need."""


class StoreError(AccessError):
    """The store on this machine cannot be used. The text names its folder and the remedy."""


class StoreInUseError(StoreError):
    """Another process has the store. `pid` is its id, None if that is not known or of another machine."""

    def __init__(self, message: str, pid: int | None) -> None:
        super().__init__(message)
        self.pid = pid


class StoreFullError(StoreError):
    """The disk of the store is full. All that was committed before is durable."""


@contextmanager
def store_errors(folder: Path) -> Iterator[None]:
    """Raise StoreError in place of the errors of SQLite and of files in `folder`."""
    try:
        yield
    except sqlite3.Error as error:
        raise of_sqlite(error, folder) from error
    except OSError as error:
        raise of_file(error, folder) from error


def of_sqlite(error: sqlite3.Error, folder: Path) -> StoreError:
    """The error of the store for one of SQLite."""
    code = getattr(error, "sqlite_errorcode", 0) & _PRIMARY
    # SQLite takes the lack of room for some of its files for an error of the disk
    if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and _has_no_room(folder)):
        return full(folder)
    if code in _DAMAGED:
        return damaged(folder, str(error))
    if code in _REFUSED:
        return unwritable(folder, str(error))
    if code == sqlite3.SQLITE_BUSY:
        return StoreError(
            f"the store {folder} is being opened or copied by another program: run the command again"
        )
    return StoreError(
        f"the store {folder} cannot be used ({error}): look at the disk it is on, and run it again"
    )


def of_file(error: OSError, folder: Path) -> StoreError:
    """The error of the store for one of a file in it."""
    if error.errno in _FULL:
        return full(folder)
    text = error.strerror or str(error)
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
        return unwritable(folder, text)
    name = f" ({Path(error.filename).name})" if isinstance(error.filename, str) else ""
    return StoreError(f"a file of the store {folder}{name} cannot be used: {text}")


def _has_no_room(folder: Path) -> bool:
    try:
        found = os.statvfs(folder)
    except OSError:
        return False
    return found.f_bavail * found.f_frsize < _LEAST_ROOM


def full(folder: Path) -> StoreFullError:
    """The disk is full."""
    return StoreFullError(
        f"the disk of the store {folder} is full: free some space on it and run the same command again; "
        "it goes on, and all that was stored is kept"
    )


def damaged(folder: Path, reason: str) -> StoreError:
    """The file of the store is no database, or a broken one."""
    return StoreError(
        f"the store {folder} is damaged ({reason}): bring it back from a copy, or move the folder away to "
        "begin a new one"
    )


def unwritable(folder: Path, reason: str) -> StoreError:
    """The folder cannot be written."""
    return StoreError(
        f"the store {folder} cannot be written ({reason}): make the folder writable, or name another one "
        f"in {HOME_VARIABLE}"
    )


def in_use(folder: Path, holder: str, pid: int | None) -> StoreInUseError:
    """Another process has the store."""
    return StoreInUseError(
        f"the store {folder} is in use by {holder}: wait until it has ended, or name another folder in "
        f"{HOME_VARIABLE}",
        pid,
    )


def too_new(folder: Path, version: int, known: int) -> StoreError:
    """A newer version of rowfleet has written the store."""
    return StoreError(
        f"the store {folder} was written by a newer rowfleet (its format is {version}, this one knows "
        f"{known}): upgrade rowfleet, or name another folder in {HOME_VARIABLE}"
    )


def missing(folder: Path) -> StoreError:
    """There is no store to read."""
    return StoreError(
        f"there is no store in {folder}: `rowfleet run` makes one, and {HOME_VARIABLE} names another"
    )
