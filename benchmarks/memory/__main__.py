"""Memory of each role under a load that fills it, against the bounds in docs/architecture.md.

    python benchmarks/memory [worker|splitter|aggregator|sweeper] [options of the role]

Without a role each of them is measured with its defaults. A role is a process of its own: settings are the
defaults, and ports store nothing, so that the memory is the role's own. Resident memory is the figure of the
operating system. Exits with 1 if a bound is exceeded.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys

import aggregator
import splitter
import sweeper
import worker

from service.runtime.logs import configure_logging

ROLES = {"worker": worker, "splitter": splitter, "aggregator": aggregator, "sweeper": sweeper}


def main() -> None:
    """Run, print, and exit with 1 if a bound is exceeded."""
    parser = argparse.ArgumentParser(
        prog="benchmarks/memory", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    roles = parser.add_subparsers(dest="role")
    for name, role in ROLES.items():
        options = roles.add_parser(name, help=(role.__doc__ or "").partition("\n")[0])
        for option, (default, text) in role.OPTIONS.items():
            options.add_argument(
                f"--{option.replace('_', '-')}", type=type(default), default=default, help=text
            )
    arguments = parser.parse_args()
    if not arguments.role:
        codes = [subprocess.run([sys.executable, *sys.argv, name], check=False).returncode for name in ROLES]
        sys.exit(max(codes))
    configure_logging("error", as_json=True)
    role = ROLES[arguments.role]
    used = asyncio.run(role.measure(arguments))
    grown, bound = used.peak_mib - used.idle_mib, role.bound_mib(arguments)
    load = ", ".join(f"{name} {getattr(arguments, name):,}" for name in role.OPTIONS)
    print(
        f"{arguments.role} ({load}): {used.rows:,} rows, idle {used.idle_mib:.0f} MiB, grown by "
        f"{grown:.0f} MiB (bound: {bound:.0f} MiB)"
    )
    sys.exit(grown > bound)


if __name__ == "__main__":
    main()
