"""Throughput, cost and memory of the pipeline: ratios in one run, compared with a bare asyncio loop.

    python benchmarks/pipeline.py [--rows 10000] [--delay-ms 50] [--concurrency 64] [--aiobotocore]

Every role is a process of its own on one embedded endpoint, so wait4 gives CPU time and memory of each role.
A run of a fifth of the rows comes first: `more rows` is the CPU time of 1,000 more, without the start-up.
The baseline is a script: it reads the CSV, calls the same agent with the same concurrency, and writes a CSV;
it loses everything when it dies. At the end the two results are compared, cell by cell. With `--aiobotocore`
every call of AWS goes through aiobotocore (setting `aws.direct_calls`).
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from fleet import Fleet, ProcessUsage, endpoint, table_of, write_rows
from rich.console import Console

AGENT = """
import asyncio
async def answer(row):
    await asyncio.sleep({delay_s})
    return {{"name": row["name"].title(), "square": int(row["number"]) ** 2}}
"""
FIELDS = "name: $.name, square: $.square"
ROLES = ("splitter", "worker", "aggregator")


@dataclass
class Measured:
    """One run: wall seconds from submission to the manifest, and the usage of each role."""

    rows: int
    seconds: float
    roles: dict[str, ProcessUsage]


def write_input(path: Path, rows: int) -> None:
    """Write a CSV in which some cells have a quoted comma."""
    numbers = range(1, rows + 1)
    cells = ((f"row number {n}", n, "a, b" if n % 7 == 0 else "é") for n in numbers)
    write_rows(path, ("name", "number", "note"), cells)


async def bare_loop(source: Path, target: Path, delay_s: float, concurrency: int) -> tuple[float, float]:
    """The baseline script; return its wall seconds and CPU seconds."""
    started, cpu = time.monotonic(), time.process_time()
    with source.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    limit = asyncio.Semaphore(concurrency)

    async def one(row: dict[str, str]) -> dict[str, str]:
        async with limit:
            await asyncio.sleep(delay_s)
        output = {"output_name": row["name"].title(), "output_square": str(int(row["number"]) ** 2)}
        return {f"input_{k}": v for k, v in row.items()} | output

    done = await asyncio.gather(*(one(row) for row in rows))
    with target.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(done[0]))
        writer.writeheader()
        writer.writerows(done)
    return time.monotonic() - started, time.process_time() - cpu


def run_fleet(folder: Path, source: Path, url: str, prefix: str, **settings: object) -> Measured:
    """Run one batch with a process for every role, stop them with SIGTERM, and return their usage."""
    with Fleet(folder, url, prefix, **settings) as fleet:
        fleet.mapping("bench", 'invoke: python, function: "bench_agent:answer"', FIELDS)
        members = fleet.start(*ROLES)
        status = fleet.submit(source, "bench")
        used = {role: member.end() for role, member in zip(ROLES, members, strict=True)}
        fleet.fetch(status, folder / "fleet.csv")
    return Measured(status["total"], status["total"] / status["rate_per_s"], used)


def compare(ours: Path, theirs: Path) -> int:
    """Compare two outputs. Return the number of cells; fail at the first difference."""
    cells = 0
    with ours.open(encoding="utf-8", newline="") as left, theirs.open(encoding="utf-8", newline="") as right:
        pairs = zip(csv.DictReader(left), csv.DictReader(right), strict=True)
        for number, (mine, expected) in enumerate(pairs, 1):
            for name, value in expected.items():
                assert mine[name] == value, f"row {number}, {name}: {mine[name]!r} instead of {value!r}"
                cells += 1
    return cells


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--delay-ms", type=float, default=50)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--aiobotocore", action="store_true")
    options = parser.parse_args()
    settings = {
        "worker__max_inflight_rows": options.concurrency,
        "aws__direct_calls": not options.aiobotocore,
    }
    console = Console()
    with endpoint() as (folder, url):
        (folder / "bench_agent.py").write_text(AGENT.format(delay_s=options.delay_ms / 1000))
        small, large = folder / "small.csv", folder / "large.csv"
        write_input(small, max(100, options.rows // 5))
        write_input(large, options.rows)
        wall, cpu = asyncio.run(
            bare_loop(large, folder / "bare.csv", options.delay_ms / 1000, options.concurrency)
        )
        first = run_fleet(folder, small, url, "small", **settings)
        second = run_fleet(folder, large, url, "large", **settings)
        cells = compare(folder / "fleet.csv", folder / "bare.csv")
    report(console, options.rows, wall, cpu, first, second)
    console.print(f"{cells:,} cells equal those of the bare loop")


def report(console: Console, rows: int, wall: float, cpu: float, small: Measured, large: Measured) -> None:
    """Print the figures of the large run, with ratios to the bare loop and to the small run."""
    console.print(
        f"{rows:,} rows: {rows / large.seconds:,.0f} rows/s; bare loop {rows / wall:,.0f} rows/s with "
        f"{cpu * 1000 / rows:.2f} CPU s per 1,000 rows; ratio {wall / large.seconds:.2f}",
        highlight=False,
    )
    columns = (
        "role",
        "CPU s / 1,000 rows",
        "more rows",
        "peak MiB",
        f"of it at {small.rows:,} rows",
        "AWS calls / row",
    )
    total = sum((used.calls for used in large.roles.values()), Counter[str]())
    lines = [
        (
            role,
            f"{used.cpu_s * 1000 / rows:.2f}",
            f"{(used.cpu_s - small.roles[role].cpu_s) * 1000 / (rows - small.rows):.2f}",
            f"{used.peak_mib:,.0f}",
            f"{small.roles[role].peak_mib / used.peak_mib:.2f}",
            f"{used.calls.total() / rows:.3f}",
        )
        for role, used in large.roles.items()
    ]
    console.print(table_of(columns, [*lines, ("all", "", "", "", "", f"{total.total() / rows:.3f}")]))
    for call, count in total.most_common(8):
        console.print(f"  {count / rows:.4f}  {call}", highlight=False)


if __name__ == "__main__":
    main()
