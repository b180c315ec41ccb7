"""The lock of a store: who has it, for messages and for requests to that process."""

import os
import socket
import subprocess
import sys

import pytest

from service.adapters.sqlite.errors import StoreInUseError
from service.adapters.sqlite.lock import LOCK_NAME, StoreLock, held_since_ms, holder_pid


def test_the_holder_is_known_while_it_has_the_lock(tmp_path):
    """A second process is refused with its id; afterwards nobody has the lock."""
    assert holder_pid(tmp_path) is None
    lock = StoreLock.acquire(tmp_path)
    assert holder_pid(tmp_path) == os.getpid()
    with pytest.raises(StoreInUseError, match=f"in use by process {os.getpid()}: wait") as caught:
        StoreLock.acquire(tmp_path)
    assert caught.value.pid == os.getpid()
    lock.release()
    assert holder_pid(tmp_path) is None
    StoreLock.acquire(tmp_path).release()


def test_a_holder_that_was_killed_is_gone(tmp_path):
    """Its id stays in the file."""
    program = (
        "import os, sys, pathlib; from service.adapters.sqlite.lock import StoreLock; "
        "StoreLock.acquire(pathlib.Path(sys.argv[1])); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    assert (tmp_path / LOCK_NAME).read_text().endswith(f" {socket.gethostname()}\n")
    assert holder_pid(tmp_path) is None


@pytest.mark.parametrize("text", ["", "4711 another-machine\n", "nonsense", f"x {socket.gethostname()}\n"])
def test_a_text_that_names_no_process_of_this_machine(tmp_path, text):
    """No request can be sent to it."""
    (tmp_path / LOCK_NAME).write_text(text)
    assert holder_pid(tmp_path) is None


def test_a_holder_of_another_machine_is_named_without_an_id(tmp_path):
    """It is in the message; its id says nothing here."""
    lock = StoreLock.acquire(tmp_path)
    (tmp_path / LOCK_NAME).write_text("4711 another-machine\n")
    with pytest.raises(StoreInUseError, match="process 4711 on another-machine") as caught:
        StoreLock.acquire(tmp_path)
    assert caught.value.pid is None
    lock.release()


@pytest.mark.parametrize(
    "text",
    ["", "1 another-machine\n", f"{os.getpid()} {socket.gethostname()}\n", "\xff" * 600],
    ids=["empty", "elsewhere", "here", "broken"],
)
def test_a_text_alone_locks_nothing(tmp_path, text):
    """Its process is gone, or it was copied from elsewhere; it is overwritten."""
    (tmp_path / "lock").write_text(text, "latin-1")
    lock = StoreLock.acquire(tmp_path)
    assert (tmp_path / "lock").read_text() == f"{os.getpid()} {socket.gethostname()}\n"
    lock.release()


def test_a_child_does_not_keep_the_lock(tmp_path):
    """An agent that is a command may outlive the process that has begun it."""
    lock = StoreLock.acquire(tmp_path)
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, close_fds=False)
    try:
        lock.release()
        StoreLock.acquire(tmp_path).release()
    finally:
        child.communicate(b"\n")


def test_the_time_of_the_holder_is_known(tmp_path):
    """Whoever waits for what it is about to do knows by it what it has done."""
    assert held_since_ms(tmp_path) == 0
    lock = StoreLock.acquire(tmp_path)
    os.utime(tmp_path / LOCK_NAME, (5.0, 5.0))
    assert held_since_ms(tmp_path) == 5_000
    lock.release()
