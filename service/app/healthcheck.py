"""`rowfleet healthcheck`: ask /livez of the service process on this machine, for a container's health check.

It runs twice a minute beside the service, on as little as a quarter of a CPU. So it imports next to nothing:
it reads its two settings from the environment itself, and speaks HTTP by a socket.
"""

from __future__ import annotations

import os
import socket
import sys

TIMEOUT_S = 5.0
"""Time-out for the connection, and for each part of the response."""

PREFIX = "ROWFLEET_HEALTH__"
DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 0
"""Names and defaults of the settings `health.host` and `health.port`."""

MAX_PORT_DIGITS, MAX_STATUS_LINE = 5, 1_024
_OK = "200"

# a server that listens on every address is called on the loopback
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 -- addresses to call instead


def probe(host: str, port: int, *, timeout_s: float = TIMEOUT_S) -> str:
    """The problem of the process that serves health on `host:port`, "" if it is alive.

    Raises ConfigError for port 0, because the port that the process chose is unknown here.
    """
    if not port:
        from service.domain.errors import ConfigError  # noqa: PLC0415 -- see the module

        raise ConfigError("a health check needs a fixed port: set ROWFLEET_HEALTH__PORT")
    address = _LOOPBACK.get(host, host)
    try:
        status = _status(address, port, timeout_s)
    except (OSError, UnicodeError) as error:
        return f"no answer on {address}:{port}/livez: {error or type(error).__name__}"
    return "" if status == _OK else f"{address}:{port}/livez answers {status or 'without a status'}"


def _status(address: str, port: int, timeout_s: float) -> str:
    """The HTTP status of the answer to GET /livez, "" if the answer has none. Raises OSError."""
    # Not create_connection: it makes Python import its tables of international names.
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as connection:
        connection.settimeout(timeout_s)
        connection.connect((address, port))
        connection.sendall(f"GET /livez HTTP/1.0\r\nHost: {address}\r\n\r\n".encode("ascii", "replace"))
        line = b""
        while b"\n" not in line and len(line) < MAX_STATUS_LINE:
            part = connection.recv(MAX_STATUS_LINE)
            if not part:
                break
            line += part
    version, _, rest = line.partition(b"\n")[0].decode("latin-1").partition(" ")
    return rest[:3] if version.startswith("HTTP/") else ""


def plain_address() -> tuple[str, int] | None:
    """Host and port as the environment has them; None if it takes the settings to read or to refuse them."""
    values = [
        {
            name.upper(): value
            for name, value in os.environ.items()
            if name.upper() == PREFIX + field and value
        }
        for field in ("HOST", "PORT")
    ]
    (host, port) = (next(iter(found.values()), None) for found in values)
    is_plain = port is None or (port.isascii() and port.isdecimal() and len(port) <= MAX_PORT_DIGITS)
    if not is_plain or os.path.exists(".env"):  # noqa: PTH110 -- pathlib takes as long as all else
        return None
    number = DEFAULT_PORT if port is None else int(port)
    return (DEFAULT_HOST if host is None else host, number) if number < 2**16 else None


def main() -> int:
    """Run the command; the exit code is 0 for alive, 1 for not alive, 2 for a wrong address."""
    address = plain_address()
    if address is not None and address[1]:
        problem, code = probe(*address), 1
    else:
        problem, code = _probe_by_settings()
    if not problem:
        return 0
    sys.stderr.write(f"rowfleet: {problem}\n")
    return code


def _probe_by_settings() -> tuple[str, int]:
    """The problem, if any, and the exit code that it has."""
    from service.app.settings import load_settings  # noqa: PLC0415 -- see the module
    from service.domain.errors import ConfigError  # noqa: PLC0415

    try:
        health = load_settings().health
        return probe(health.host, health.port), 1
    except ConfigError as error:
        return str(error), 2
