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
        except BlockingIOError:
            holder = _holder(os.read(descriptor, 500).decode(errors="replace"))
            os.close(descriptor)
            raise in_use(folder, holder) from None
        except OSError:
            os.close(descriptor)
            raise
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()} {socket.gethostname()}\n".encode(), 0)
        return cls(descriptor)

    def release(self) -> None:
        """Let another process have the store. Harmless if it was released."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _holder(text: str) -> str:
    """`process 4711`, with its host if that is another one."""
    pid, _, host = text.strip().partition(" ")
    if not pid:  # it has locked the file and not written it yet
        return "another process"
    return f"process {pid}" if host == socket.gethostname() else f"process {pid} on {host}"
