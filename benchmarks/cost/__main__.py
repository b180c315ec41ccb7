"""What a run costs on AWS, computed from measured calls and a file of prices.

    python -m benchmarks.cost [--rows 1000000] [--seconds 2] [--bytes 1024] [--prices FILE]

Prints the bill of the run, the bills of docs/deploy.md beside each other, and those of a month at rest.
`--document` prints the two tables that docs/deploy.md has. Calls are those of `calls.json`
(`make bench-calls` measures them), prices those of `prices.json`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.cost.model import CALLS, PRICES, Job, Prices, load
from benchmarks.cost.tables import comparison, rest_table, run_table


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    defaults = Job()
    parser.add_argument("--rows", type=int, default=defaults.rows)
    parser.add_argument("--seconds", type=float, default=defaults.seconds, help="mean time of a call")
    parser.add_argument(
        "--bytes", type=int, default=defaults.outcome_bytes, help="of the extracted fields of a row as JSON"
    )
    parser.add_argument(
        "--input-bytes", type=int, default=defaults.input_bytes, help="of a row's input as JSON"
    )
    parser.add_argument("--tasks", type=int, default=defaults.tasks, help="workers side by side")
    parser.add_argument("--spot-percent", type=float, default=defaults.spot_percent)
    parser.add_argument("--prices", type=Path, default=PRICES)
    parser.add_argument("--document", action="store_true", help="print the tables of docs/deploy.md only")
    options = parser.parse_args()
    prices, measured = Prices(load(options.prices)), load(CALLS)
    if options.document:
        print(rest_table(prices), comparison(Job(), measured, prices), sep="\n\n")
        return
    job = Job(
        rows=options.rows,
        seconds=options.seconds,
        outcome_bytes=options.bytes,
        input_bytes=options.input_bytes,
        tasks=options.tasks,
        spot_percent=options.spot_percent,
    )
    print(f"{job.rows:,} rows, {job.seconds:g} s a call, {job.outcome_bytes:,} bytes a row")
    print(f"prices of {prices.region}, {prices.as_of}\n")
    print(run_table(job, measured, prices), "A month at rest:", rest_table(prices), sep="\n\n")


if __name__ == "__main__":
    main()
