"""The lock of a store: one process writes to it."""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path

from service.adapters.sqlite.errors import in_use

LOCK_NAME = "lock"


class StoreLock:
    """A locked file with the pid and the host of its holder.

    The kernel frees the lock when the process ends, however it ends. Its text alone locks nothing: that of a
    process which is gone, or on another machine, is overwritten.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def acquire(cls, folder: Path) -> StoreLock:
        """Lock the store in `folder`. Raises StoreError that names the holder, and OSError."""
        descriptor = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()} {socket.gethostname()}\n".encode(), 0)
        except BlockingIOError:
            text = os.read(descriptor, 500).decode(errors="replace")
            os.close(descriptor)
            raise in_use(folder, _holder(text), _local_pid(text)) from None
        except OSError:
            os.close(descriptor)
            raise
        return cls(descriptor)

    def release(self) -> None:
        """Let another process have the store. Harmless if it was released."""
        if self._descriptor >= 0:
            os.ftruncate(self._descriptor, 0)
            # not by closing alone: a child that is just being started still has the file open
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            os.close(self._descriptor)
            self._descriptor = -1


def held_since_ms(folder: Path) -> float:
    """The time at which the last holder took the lock, in ms since 1970; 0 if nobody ever has."""
    try:
        return (folder / LOCK_NAME).stat().st_mtime * 1000
    except OSError:
        return 0.0


def holder_pid(folder: Path) -> int | None:
    """The process of this machine that has the store, as far as its lock tells; None if there is none.

    For messages only: a process that was killed leaves its id, which another process may have by now.
    """
    try:
        pid = _local_pid((folder / LOCK_NAME).read_text("utf-8", "replace"))
        if pid is not None:
            os.kill(pid, 0)  # no signal: an error if there is no such process
    except (FileNotFoundError, ProcessLookupError):
        return None
    except PermissionError:  # it is there, and of another user
        pass
    return pid


def _local_pid(text: str) -> int | None:
    pid, _, host = text.strip().partition(" ")
    return int(pid) if pid.isdigit() and host == socket.gethostname() else None


def _holder(text: str) -> str:
    """`process 4711`, with its host if that is another one."""
    pid, _, host = text.strip().partition(" ")
    if not pid:  # it has locked the file and not written it yet
        return "another process"
    return f"process {pid}" if host == socket.gethostname() else f"process {pid} on {host}"
