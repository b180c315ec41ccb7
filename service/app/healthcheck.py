"""`rowfleet healthcheck`: ask /livez of the service process on this machine, for a container's health check.

It imports little because it runs twice a minute, on as little as a quarter of a CPU.
"""

from __future__ import annotations

import http.client
import sys

from service.app.settings import load_settings
from service.domain.errors import ConfigError

TIMEOUT_S = 5.0
"""Time-out for the connection, and for each part of the response."""

# a server that listens on every address is called on the loopback
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 -- addresses to call instead


def probe(host: str, port: int, *, timeout_s: float = TIMEOUT_S) -> str:
    """The problem of the process that serves health on `host:port`, "" if it is alive.

    Raises ConfigError for port 0, because the port that the process chose is unknown here.
    """
    if not port:
        raise ConfigError("a health check needs a fixed port: set ROWFLEET_HEALTH__PORT")
    address = _LOOPBACK.get(host, host)
    connection = http.client.HTTPConnection(address, port, timeout=timeout_s)
    try:
        connection.request("GET", "/livez")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return f"no answer on {address}:{port}/livez: {error or type(error).__name__}"
    finally:
        connection.close()
    return "" if status == http.client.OK else f"{address}:{port}/livez answers {status}"


def main() -> int:
    """Run the command; the exit code is 0 for alive, 1 for not alive, 2 for wrong settings."""
    try:
        health = load_settings().health
        problem, code = probe(health.host, health.port), 1
    except ConfigError as error:
        problem, code = str(error), 2
    if not problem:
        return 0
    sys.stderr.write(f"rowfleet: {problem}\n")
    return code
