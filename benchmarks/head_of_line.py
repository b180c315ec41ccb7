"""Head-of-line blocking: how much a target that never answers slows down another one in the same worker.

    python benchmarks/head_of_line.py [--rows 3000] [--stuck 3000] [--times 3] [--after-s 5]

Solo and shared runs alternate, each on an endpoint of its own with one process per role. In a shared run a
batch whose agent never answers is submitted first and holds all slots of its target; then the same rows as in
a solo run go to an agent that takes 50 ms. The queues of the endpoint are first in, first out.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from fleet import Fleet, endpoint, table_of, verdict, write_rows
from rich.console import Console

AGENTS = """
import asyncio, pathlib
async def quick(row):
    await asyncio.sleep(0.05)
    return {"name": row["name"].upper()}
async def never(row):
    with pathlib.Path("asked").open("a") as file:
        file.write("x")
    await asyncio.sleep(3600)
"""
LEAST_RATIO = 0.9
IN_FLIGHT = 64
"""Slots of each target in the worker."""


@dataclass
class Measured:
    """One run of the quick batch: rows per second, and the metrics of its worker."""

    rate: float
    counts: Counter[str]


def run(rows: int, stuck: int, after_s: float) -> Measured:
    """Run the quick batch alone, or `after_s` seconds after calls of `stuck` rows have taken all slots."""
    with endpoint() as (folder, aws), Fleet(
        folder, aws, "line", worker__max_inflight_rows=IN_FLIGHT, metrics_interval_s=1
    ) as fleet:  # fmt: skip
        (folder / "agents.py").write_text(AGENTS)
        fleet.mapping("quick", 'invoke: python, function: "agents:quick"', "name: $.name")
        timeout = "execution: {timeout_seconds: 300}\n"
        fleet.mapping("never", 'invoke: python, function: "agents:never"', "name: $.name", timeout)
        _, worker, _ = fleet.start("splitter", "worker", "aggregator")
        if stuck:
            write_rows(folder / "never.csv", ("name",), ((f"stuck {n}",) for n in range(stuck)))
            fleet.submit(folder / "never.csv", "never", wait=False)
            while not _has_bytes(folder / "asked", IN_FLIGHT):  # the agent writes a byte for each call
                time.sleep(0.05)
            time.sleep(after_s)
        write_rows(folder / "quick.csv", ("name",), ((f"name {n}",) for n in range(rows)))
        status = fleet.submit(folder / "quick.csv", "quick")
        assert status["succeeded"] == rows, status
        time.sleep(1.5)  # the worker writes its metrics once a second
        return Measured(status["rate_per_s"], worker.counts())


def _has_bytes(path: Path, size: int) -> bool:
    return path.exists() and path.stat().st_size >= size


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=3_000)
    parser.add_argument("--stuck", type=int, default=3_000)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument(
        "--after-s", type=float, default=5, help="seconds from the moment at which the first target is full"
    )
    options = parser.parse_args()
    console = Console()
    solo, shared = [], []
    for _ in range(options.times):
        solo.append(run(options.rows, 0, 0))
        shared.append(run(options.rows, options.stuck, options.after_s))
    columns = ("", *(f"run {n}" for n in range(1, options.times + 1)), "median")
    medians = [statistics.median(m.rate for m in runs) for runs in (solo, shared)]
    lines = [
        (name, *(f"{m.rate:,.0f}" for m in runs), f"{median:,.0f}")
        for name, runs, median in zip(("solo", "shared"), (solo, shared), medians, strict=True)
    ]
    for title, metric in (
        ("received", "messages_received"),
        ("receives", "aws_calls_sqs_ReceiveMessage"),
        ("turned away", "rows_turned_away_TargetFullError"),
    ):
        lines += [
            (f"{title}, {name}", *(f"{m.counts[metric]:,}" for m in runs), "")
            for name, runs in (("solo", solo), ("shared", shared))
        ]
    console.print(
        f"{options.rows:,} rows of a 50 ms agent, alone and behind {options.stuck:,} rows of one that never "
        "answers; one worker; rows/s",
        highlight=False,
    )
    console.print(table_of(columns, lines))
    ratio = medians[1] / medians[0]
    console.print(f"ratio {ratio:.2f}", highlight=False)
    verdict(console, {f"shared / solo is at least {LEAST_RATIO}": ratio >= LEAST_RATIO})


if __name__ == "__main__":
    main()
