"""The `rowfleet` command, and `python -m service` (with -P in a folder that has a `service` of its own).

The import of the commands takes most of a second. Three things are done before it: a handler for SIGTERM is
set, the health check is run, which needs none of the commands, and garbage collection is made rare.
"""

from __future__ import annotations

import os
import signal
import sys


def main() -> None:
    """Run the command line."""
    # A container's first process ignores every signal that it has no handler for.
    if os.getpid() == 1:
        signal.signal(signal.SIGTERM, _end)
    if sys.argv[1:] == ["healthcheck"]:
        from service.app.healthcheck import main as healthcheck  # noqa: PLC0415 -- see the module

        sys.exit(healthcheck())
    from service.cli.garbage import begin_seldom  # noqa: PLC0415 -- see the module

    begin_seldom()
    from service.cli.main import main as command  # noqa: PLC0415 -- see the module

    command()


def _end(number: int, _: object) -> None:
    """End the process, as SIGTERM does by default. Commands that drain replace this handler by their own."""
    os._exit(128 + number)


if __name__ == "__main__":
    main()
