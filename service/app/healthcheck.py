"""Asks /livez of the service process on this machine: what a container's health check runs.

It runs twice a minute on as little as a quarter of a CPU, so it imports little.
"""

from __future__ import annotations

import http.client
import sys

from service.app.settings import load_settings
from service.domain.errors import ConfigError

TIMEOUT_S = 5.0
"""Longest wait for a connection, and for each part of the answer."""

_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 -- addresses to ask instead


def probe(host: str, port: int, *, timeout_s: float = TIMEOUT_S) -> str:
    """What is wrong with the process whose health settings these are; "" where it is alive.

    Raises ConfigError for port 0: which port was free then is known to nobody else.
    """
    if not port:
        raise ConfigError("a health check needs a fixed port: set ROWFLEET_HEALTH__PORT")
    asked = _ANYWHERE.get(host, host)
    connection = http.client.HTTPConnection(asked, port, timeout=timeout_s)
    try:
        connection.request("GET", "/livez")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return f"no answer on {asked}:{port}/livez: {error or type(error).__name__}"
    finally:
        connection.close()
    return "" if status == http.client.OK else f"{asked}:{port}/livez answers {status}"


def main() -> int:
    """`rowfleet healthcheck`: the exit code is 0 for alive, 1 for not alive, 2 for wrong settings."""
    try:
        health = load_settings().health
        trouble, code = probe(health.host, health.port), 1
    except ConfigError as error:
        trouble, code = str(error), 2
    if not trouble:
        return 0
    sys.stderr.write(f"rowfleet: {trouble}\n")
    return code
