"""`python -m tests.chaos --seconds 60 --times 10 --rows 5000 --workers 3`: a line per run, a seed per run."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from tests.chaos.driver import ChaosError, run
from tests.chaos.plan import Plan


def main() -> int:
    """Run the plans. Return 1 if a promise was broken. The folder of a failed run stays, with all logs."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--rows", type=int, default=5_000)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1, help="of the first run; the next ones count on")
    parser.add_argument("--without-operations", action="store_true", help="operate on no batch")
    parser.add_argument("--slowness", type=float, default=1, help="factor of time-outs, on a busy machine")
    arguments = parser.parse_args()
    broken = 0
    for seed in range(arguments.seed, arguments.seed + arguments.times):
        plan = Plan(
            seed,
            arguments.seconds,
            arguments.rows,
            arguments.workers,
            operations=not arguments.without_operations,
            slowness=arguments.slowness,
        )
        folder = Path(tempfile.mkdtemp(prefix=f"rowfleet-chaos-{seed}-"))
        try:
            say(run(plan, folder).line())
            shutil.rmtree(folder)
        except ChaosError as error:
            broken += 1
            say(f"{error}\nlogs: {folder}")
    say(f"{arguments.times - broken} of {arguments.times} runs kept every promise")
    return 1 if broken else 0


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
