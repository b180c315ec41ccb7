"""The `rowfleet` command, and `python -m service`.

What comes before the commands are imported, which takes most of a second: a handler for SIGTERM, because a
container's first process ignores every signal that it has no handler for, and the health check, which needs
none of the commands.
"""

from __future__ import annotations

import os
import signal
import sys


def main() -> None:
    """Run the command line."""
    if os.getpid() == 1:
        signal.signal(signal.SIGTERM, _end)
    if sys.argv[1:] == ["healthcheck"]:
        from service.app.healthcheck import main as healthcheck  # noqa: PLC0415 -- see the module

        sys.exit(healthcheck())
    from service.cli.main import main as command  # noqa: PLC0415 -- see the module

    command()


def _end(number: int, _: object) -> None:
    """What the signal does to every other process; commands that drain put their own handler in its place."""
    os._exit(128 + number)


if __name__ == "__main__":
    main()
