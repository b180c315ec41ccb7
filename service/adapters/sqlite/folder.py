"""The folder of a store: its files, and who may read them. Nothing in it names its place: it may be moved."""

from __future__ import annotations

import fcntl
import os
import sys
from pathlib import Path

DATABASE_NAME = "rowfleet.db"
LOG_NAME = f"{DATABASE_NAME}-wal"
"""The log of changes that are not in the database yet, as SQLite names it."""
OBJECTS_NAME = "objects"

_PRIVATE_FILE, _PRIVATE_FOLDER = 0o600, 0o700


def make_folder(folder: Path) -> None:
    """Make the folder if it is missing: its owner's only, ignored by version control. Raises OSError."""
    folder.mkdir(mode=_PRIVATE_FOLDER, parents=True, exist_ok=True)
    ignore = folder / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n", "ascii")


def prepare_folder(folder: Path) -> None:
    """Make what is missing of the folder and of the store in it. Raises OSError."""
    make_folder(folder)
    (folder / OBJECTS_NAME).mkdir(mode=_PRIVATE_FOLDER, exist_ok=True)
    # SQLite gives the files beside it the same mode
    os.close(os.open(folder / DATABASE_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _PRIVATE_FILE))


def create_private(path: Path) -> int:
    """Create a file that must not exist, and return its descriptor, open for writing. Raises OSError."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _PRIVATE_FILE)


def sync(descriptor: int) -> None:
    """Wait until the bytes of an open file are on the disk. Raises OSError."""
    if sys.platform == "darwin":
        # `fsync` leaves them in the disk's own cache there
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    else:
        os.fdatasync(descriptor)


def sync_folder(folder: Path) -> None:
    """Wait until the names of the files in a folder are on the disk. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, body: bytes, offset: int) -> None:
    """Write all bytes at an offset, and wait until they are on the disk. Raises OSError."""
    view = memoryview(body)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written
    sync(descriptor)
