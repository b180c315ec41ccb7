"""The embedded AWS endpoint: ministack in a child process that listens on 127.0.0.1, on one port, only.

The parent starts this module by `EMBEDDED_PROGRAM` and holds the child's stdin. The child binds its socket
itself, says on stdout which port answers, and ends when stdin ends: a parent that was killed takes its
endpoint with it. Credentials are not checked; anything on this machine may use it.
"""

from __future__ import annotations

import argparse
import asyncio
import errno
import functools
import importlib
import json
import logging
import os
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, Any

from service.domain.errors import ConfigError

HOST = "127.0.0.1"
REGION = "us-east-1"
ACCESS_KEY = SECRET_KEY = "test"  # noqa: S105 -- the endpoint takes any

PACKAGE_ROOT = Path(__file__).parents[2]

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 10.0

EMBEDDED_PROGRAM = (
    "import sys; root = sys.argv.pop(1); root in sys.path or sys.path.insert(0, root); "
    "from service.cli.embedded import main; sys.exit(main())"
)
"""The child's program. Its first argument is the folder that holds this package.

`python -m` would look in the current folder first, where a user may have a `service` of their own.
"""

_MAX_NAMES = 5
"""Names that the error about unsaved data lists."""

_NOT_SAVED = re.compile(r"failed to (save|persist)|error getting state", re.IGNORECASE)
_GRACEFUL_S = 0.5
"""Time for open requests to finish after the child was told to end."""


@asynccontextmanager
async def embedded_endpoint(port: int = 0, data_dir: Path | None = None) -> AsyncIterator[str]:
    """Yield the URL of a running endpoint, which keeps its data in `data_dir` for the next start.

    Port 0 takes any free port. Raises ConfigError if the port is taken, ministack is not installed, or the
    endpoint does not answer in time.
    """
    process = await asyncio.to_thread(EmbeddedProcess.start, port, data_dir)
    try:
        yield process.url
    finally:
        await asyncio.to_thread(process.stop)


class EmbeddedProcess:
    """The child process as its parent sees it. All methods block."""

    def __init__(self, child: subprocess.Popen[bytes], port: int, log: IO[bytes]) -> None:
        self._child = child
        self._log = log
        self.port = port
        self.url = f"http://{HOST}:{port}"

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._child.pid

    @classmethod
    def start(cls, port: int = 0, data_dir: Path | None = None) -> EmbeddedProcess:
        """Start the child and wait until it answers. Raises ConfigError."""
        # -P: the current folder is not searched for modules
        command = [sys.executable, "-P", "-c", EMBEDDED_PROGRAM, str(PACKAGE_ROOT), "--port", str(port)]
        if data_dir is not None:
            data_dir.mkdir(parents=True, exist_ok=True)
            command += ["--data", str(data_dir.resolve())]
        log = _open_log(data_dir)
        child = subprocess.Popen(  # noqa: S603 -- our own module
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            # Ctrl-C must reach only the parent, which drains before it ends the child
            start_new_session=True,
        )
        try:
            return cls(child, _announced_port(child, log), log)
        except BaseException:
            _stop_child(child, log)
            raise

    def stop(self) -> None:
        """Let the child save its data and end; kill it if it does not end in time.

        Raises ConfigError if the child could not save its data.
        """
        if problem := _stop_child(self._child, self._log):
            raise ConfigError(problem)


def _open_log(data_dir: Path | None) -> IO[bytes]:
    if data_dir is None:
        return tempfile.TemporaryFile()
    return (data_dir / "endpoint.log").open("w+b")


def _announced_port(child: subprocess.Popen[bytes], log: IO[bytes]) -> int:
    """Wait for the child's line on stdout. Raises ConfigError with the end of its log without one."""
    assert child.stdout is not None
    ready, _, _ = select.select([child.stdout], [], [], START_TIMEOUT_S)
    line = child.stdout.readline() if ready else b""
    try:
        message = json.loads(line)
    except ValueError:
        log.seek(0)
        tail = log.read().decode(errors="replace").strip().splitlines()[-5:]
        raise ConfigError(
            f"the embedded AWS endpoint did not start within {START_TIMEOUT_S:g} s: {' | '.join(tail)}"
        ) from None
    if "error" in message:
        raise ConfigError(str(message["error"]))
    return int(message["port"])


def _stop_child(child: subprocess.Popen[bytes], log: IO[bytes]) -> str:
    """End the child; return the error that it reported at its end, "" without one."""
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.close()  # the child ends when its stdin ends
    try:
        child.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    last = child.stdout.readline()
    child.stdout.close()
    log.close()
    return str(json.loads(last)["error"]) if last.startswith(b'{"error"') else ""


def main() -> int:
    """Run the child. It writes its port, or an error, as a line on stdout for `EmbeddedProcess`."""
    parser = argparse.ArgumentParser(prog="python -m service.cli.embedded", description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--data", type=Path, default=None)
    arguments = parser.parse_args()
    stdout = os.fdopen(os.dup(1), "w")
    # Other output goes to stderr: the parent does not read it from stdout, and a full pipe would stop the
    # child.
    os.dup2(2, 1)
    try:
        listener = _listen(arguments.port)
        with tempfile.TemporaryDirectory(prefix="rowfleet-endpoint-") as scratch:
            _configure(listener.getsockname()[1], Path(scratch), arguments.data)
            save_errors = _SaveErrors()
            logging.getLogger().addHandler(save_errors)
            asyncio.run(_serve(_application(), listener, stdout))
        problem = save_errors.text(arguments.data)
    except ConfigError as error:
        problem = str(error)
    if problem:
        _write_line(stdout, {"error": problem})
        return 2
    return 0


def _listen(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        # with SO_REUSEADDR a second process could bind as well until this one listens
        listener.listen(128)
    except (OSError, OverflowError) as error:
        listener.close()
        if getattr(error, "errno", None) == errno.EADDRINUSE:
            raise ConfigError(f"port {port} is in use: choose another with --port") from None
        raise ConfigError(f"cannot listen on {HOST}:{port}: {error}") from None
    return listener


def _configure(port: int, scratch: Path, data_dir: Path | None) -> None:
    """Set the environment variables that ministack reads when it is imported."""
    keep = data_dir is not None
    home = data_dir or scratch
    os.environ |= {
        "AUTH": "false",
        "BIND_HOST": HOST,
        "GATEWAY_PORT": str(port),
        "MINISTACK_HOST": HOST,
        "USE_SSL": "0",
        "IOT_MTLS_ENABLED": "0",  # otherwise an MQTT port opens on every interface
        "SFTP_ENABLED": "0",
        # ministack must not touch the containers of this machine
        "DOCKER_HOST": f"unix://{scratch}/no-docker.sock",
        "LOG_LEVEL": "WARNING",
        "PERSIST_STATE": str(int(keep)),
        "S3_PERSIST": str(int(keep)),
        "STATE_DIR": str(home / "state"),
        "S3_DATA_DIR": str(home / "s3"),
        "TMPDIR": str(scratch),
    }
    os.environ.pop("LOCALSTACK_PERSISTENCE", None)
    os.environ.pop("SERVICES", None)
    tempfile.tempdir = None  # read TMPDIR again


class _SaveErrors(logging.Handler):
    """Collects the data that ministack could not save, which it only logs.

    `reasons` is by the name of the data.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.reasons: dict[str, str] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the arguments of a log message about unsaved data: its name and, last, the reason."""
        if _NOT_SAVED.search(str(record.msg)) and isinstance(record.args, tuple):
            *name, reason = map(str, record.args)
            self.reasons["/".join(name)] = reason

    def text(self, folder: Path | None) -> str:
        """The error in one line, "" if everything was saved."""
        if not self.reasons:
            return ""
        names = sorted(self.reasons)
        more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
        return (
            f"the embedded AWS endpoint could not save {', '.join(names[:_MAX_NAMES])}{more} in {folder} "
            f"({self.reasons[names[0]]}): there they are as they were before, or missing; make room, or name "
            "another folder with --data, and submit again"
        )


def _application() -> Any:
    try:
        importlib.import_module("hypercorn")
        _cache_syntax_checks(importlib.import_module("ministack.services.dynamodb"))
        return importlib.import_module("ministack.app").app
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"the embedded AWS endpoint needs the package {error.name}: pip install 'rowfleet[local]'"
        ) from None


def _cache_syntax_checks(dynamodb: Any) -> None:
    # ministack checks an expression's syntax for every item, which takes three fifths of a query's time
    check = getattr(dynamodb, "_condition_syntax_error", None)
    if check is not None:
        dynamodb._condition_syntax_error = functools.lru_cache(maxsize=256)(check)  # noqa: SLF001 -- its own


async def _serve(application: Any, listener: socket.socket, stdout: IO[str]) -> None:
    from hypercorn.asyncio import serve  # noqa: PLC0415 -- an optional dependency
    from hypercorn.config import Config  # noqa: PLC0415

    config = Config()
    config.bind = [f"fd://{listener.detach()}"]
    config.keep_alive_timeout = 75
    config.graceful_timeout = _GRACEFUL_S
    config.loglevel = "WARNING"
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    loop.add_signal_handler(signal.SIGINT, ended.set)
    loop.add_reader(sys.stdin.fileno(), _on_stdin, ended)
    port = int(os.environ["GATEWAY_PORT"])
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(serve(application, config, shutdown_trigger=ended.wait))
        announce = tasks.create_task(_announce(port, stdout))
        await ended.wait()
        announce.cancel()


def _on_stdin(ended: asyncio.Event) -> None:
    if not os.read(sys.stdin.fileno(), 4096):
        asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        ended.set()


async def _announce(port: int, stdout: IO[str]) -> None:
    """Write the port to stdout as soon as the endpoint answers a request."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            if await asyncio.wait_for(_is_healthy(port), timeout=5):
                _write_line(stdout, {"port": port})
                return
        except OSError:
            await asyncio.sleep(0.02)


async def _is_healthy(port: int) -> bool:
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        writer.write(
            f"GET /_ministack/health HTTP/1.1\r\nHost: {HOST}:{port}\r\nConnection: close\r\n\r\n".encode()
        )
        return (await reader.readline()).startswith(b"HTTP/1.1 200")
    finally:
        writer.close()


def _write_line(stdout: IO[str], line: dict[str, Any]) -> None:
    print(json.dumps(line), file=stdout, flush=True)


if __name__ == "__main__":
    sys.exit(main())
