"""The folder of the durable store, and what lies in it beside the store itself."""

from __future__ import annotations

import getpass
from pathlib import Path

from service.adapters.sqlite.folder import DATABASE_NAME, make_folder
from service.adapters.sqlite.lock import held_since_ms, holder_pid
from service.domain.errors import UsageError

INBOX = "inbox"
SPOOL = "spool"


class Home:
    """The folder of one store, `.rowfleet` in the current folder unless set otherwise."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def exists(self) -> bool:
        """True if there is a folder: whether it holds a store, its opening tells."""
        return self.folder.is_dir()

    @property
    def has_store(self) -> bool:
        """True if a run has made a store there."""
        return (self.folder / DATABASE_NAME).exists()

    @property
    def process(self) -> int | None:
        """The id of the process that serves batches of the store, None if there is none; for messages."""
        return holder_pid(self.folder)

    @property
    def served_since_ms(self) -> float:
        """The start of that process, in ms since 1970."""
        return held_since_ms(self.folder)

    @property
    def inbox(self) -> Path:
        """The folder of the operations that other processes ask for."""
        return self.folder / INBOX

    @property
    def spool(self) -> Path:
        """The folder of files that are read from stdin."""
        return self.folder / SPOOL

    def create(self) -> None:
        """Create the folder, which version control ignores. Raises UsageError if that is impossible."""
        try:
            make_folder(self.folder)
        except OSError as error:
            raise UsageError(
                f"cannot create the store in {self.folder}: {error.strerror}; name another folder by "
                "ROWFLEET_HOME"
            ) from None


def local_user() -> str:
    """The system's name of the user, for the log of operations."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container without a user database
        return "unknown"
