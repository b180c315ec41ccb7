"""A process that has imported rowfleet and forks a process for each command.

The import takes most of the CPU time of a short command. A forked process runs `service.__main__.main` with
its own arguments, environment, folder and files, and ends as the installed command does.

Run as a program with the path of a socket. Each connection sends one command as JSON, with two file
descriptors for stdout and stderr. It gets the process id at once and the wait status at the end, a line each.
The server ends when its stdin does.
"""

from __future__ import annotations

import functools
import gc
import json
import os
import pkgutil
import select
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

import botocore.session

_MAX_REQUEST = 1_000_000


# -- the server ----------------------------------------------------------------------------------------


def serve(path: str) -> bool:
    """Fork a process for each request. Returns True in a forked process, False at the end of stdin."""
    with socket.socket(socket.AF_UNIX) as listener, selectors.DefaultSelector() as selector:
        listener.bind(path)
        listener.listen(64)
        selector.register(listener, selectors.EVENT_READ)
        selector.register(sys.stdin.fileno(), selectors.EVENT_READ)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            for key, _ in selector.select():
                if key.fileobj == sys.stdin.fileno():
                    return False
                if key.data is not None:
                    selector.unregister(key.fd)
                    _report_end(key.fd, *key.data)
                    continue
                connection, _ = listener.accept()
                request, files = _receive(connection)
                alive, held = os.pipe()
                pid = os.fork()
                if pid == 0:
                    for other in (alive, connection.detach(), *_open_ends(selector)):
                        os.close(other)
                    _become(request, files)
                    return True
                for file in (held, *files):
                    os.close(file)
                connection.sendall(b"%d\n" % pid)
                # The process holds the other end until it ends: then this one can be read.
                selector.register(alive, selectors.EVENT_READ, (pid, connection))


def _receive(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    data, files, _, _ = socket.recv_fds(connection, _MAX_REQUEST, 2)
    while not data.endswith(b"\n"):
        data += connection.recv(_MAX_REQUEST)
    return json.loads(data), files


def _report_end(alive: int, pid: int, connection: socket.socket) -> None:
    os.close(alive)
    _, status = os.waitpid(pid, 0)
    with connection:
        try:
            connection.sendall(b"%d\n" % status)
        except OSError:
            return  # nobody waits for it


def _open_ends(selector: selectors.BaseSelector) -> list[int]:
    ends = []
    for key in selector.get_map().values():
        if key.data is not None:
            _, connection = key.data
            ends += [key.fd, connection.detach()]
    return ends


def _become(request: dict[str, Any], files: list[int]) -> None:
    """Take over what a new process is started with."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, file in enumerate((nothing, *files)):
        os.dup2(file, number)
        os.close(file)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["env"])
    time.tzset()
    sys.argv = request["command"]
    sys.path.insert(0, str(Path(request["command"][0]).parent))


def _parse_descriptions() -> None:
    """Let botocore parse its descriptions of AWS's services once for all processes."""
    botocore.session.create_loader = functools.cache(botocore.session.create_loader)
    session = botocore.session.get_session()
    for service in ("dynamodb", "s3", "sqs"):
        session.create_client(service, "us-east-1", aws_access_key_id="none", aws_secret_access_key="none")


def _run(path: str) -> None:
    """Import all of the command line, and serve; in a forked process, run its command."""
    from service.__main__ import main
    from service.cli import commands

    for module in pkgutil.iter_modules(commands.__path__):
        import_module(f"{commands.__name__}.{module.name}")
    _parse_descriptions()
    # The collector of a forked process would write to the pages of all these objects, and so copy them.
    gc.collect()
    gc.freeze()
    if serve(path):
        main()


# -- its clients ---------------------------------------------------------------------------------------


class ForkedProcess:
    """A process of a fork server, with the methods of `subprocess.Popen` that tests use."""

    def __init__(self, connection: socket.socket) -> None:
        self._lines = connection.makefile("rb")
        self._connection = connection
        self.pid = int(self._lines.readline())
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit code, None while the process runs."""
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end of the process. Returns the exit code, or minus the number of the fatal signal.

        Raises TimeoutExpired after `timeout` seconds.
        """
        if self.returncode is None:
            if timeout is not None and not select.select([self._connection], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout)
            line = self._lines.readline()
            assert line, "the fork server ended before its process"
            self.returncode = os.waitstatus_to_exitcode(int(line))
            self._lines.close()
            self._connection.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, if the process still runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)


class ForkServer:
    """A running fork server, of the same environment as the tests."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._path = f"{self._folder.name}/socket"
        # The variables that decide about the text encoding are those of the commands.
        env = {"PATH": os.environ["PATH"], "HOME": self._folder.name}
        self._server = subprocess.Popen(
            [sys.executable, "-P", __file__, self._path],
            cwd=self._folder.name,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._server.stdout is not None
        assert self._server.stdout.readline() == b"ready\n"

    def start(
        self, command: list[str], folder: Path, env: dict[str, str], out: BinaryIO, err: BinaryIO
    ) -> ForkedProcess:
        """Run the installed command, whose path and arguments `command` has."""
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(self._path)
        request = {"command": command, "folder": str(folder), "env": env}
        data = json.dumps(request).encode() + b"\n"
        sent = socket.send_fds(connection, [data], [out.fileno(), err.fileno()])
        connection.sendall(data[sent:])
        return ForkedProcess(connection)

    def stop(self) -> None:
        """End the server. Its processes run on."""
        self._server.communicate()
        self._folder.cleanup()


if __name__ == "__main__":
    _run(sys.argv[1])
