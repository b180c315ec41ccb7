"""Errors of SQLite and of files, in words."""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path

import pytest

from service.adapters.sqlite.errors import StoreError, StoreFullError, of_file, of_sqlite, store_errors

FOLDER = Path("/home/ada/.rowfleet")


class Failure(sqlite3.OperationalError):
    """An error with an extended result code of SQLite."""

    def __init__(self, code: int) -> None:
        super().__init__("reason")
        self.sqlite_errorcode = code


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (sqlite3.SQLITE_FULL, "is full: free some space"),
        (sqlite3.SQLITE_CORRUPT_INDEX, "is damaged (reason): bring it back from a copy"),
        (sqlite3.SQLITE_NOTADB, "is damaged (reason)"),
        (sqlite3.SQLITE_READONLY_DBMOVED, "cannot be written (reason): make the folder writable"),
        (sqlite3.SQLITE_CANTOPEN_ISDIR, "cannot be written (reason)"),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, "by another program: run the command again"),
        (sqlite3.SQLITE_IOERR_READ, "cannot be used (reason): look at the disk"),
        (0, "cannot be used (reason)"),
    ],
)
def test_each_error_of_sqlite_has_its_remedy(code: int, text: str) -> None:
    """With the folder of the store; extended codes are read as what they extend."""
    error = of_sqlite(Failure(code), FOLDER)
    assert text in str(error)
    assert str(FOLDER) in str(error)
    assert isinstance(error, StoreFullError) == (code == sqlite3.SQLITE_FULL)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (errno.ENOSPC, "is full: free some space"),
        (errno.EDQUOT, "is full: free some space"),
        (errno.EACCES, f"cannot be written ({os.strerror(errno.EACCES)})"),
        (errno.EROFS, f"cannot be written ({os.strerror(errno.EROFS)})"),
        (errno.EIO, f"a file of the store {FOLDER} (lock) cannot be used: {os.strerror(errno.EIO)}"),
    ],
)
def test_each_error_of_a_file_has_its_remedy(number: int, text: str) -> None:
    """A quota is a full disk as well."""
    error = of_file(OSError(number, os.strerror(number), str(FOLDER / "lock")), FOLDER)
    assert text in str(error)
    assert str(FOLDER) in str(error)


def test_other_errors_pass() -> None:
    """They are bugs, and keep their traceback."""
    with pytest.raises(KeyError), store_errors(FOLDER):
        raise KeyError("x")
    with pytest.raises(StoreError), store_errors(FOLDER):
        raise OSError(errno.EIO, "x")
