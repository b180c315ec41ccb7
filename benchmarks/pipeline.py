"""How fast, how cheap and how flat the pipeline is: ratios in one run, against a loop that keeps no promise.

    python benchmarks/pipeline.py [--rows 10000] [--delay-ms 50] [--concurrency 64]

Every role is a process of its own on one embedded endpoint, so that CPU and memory are each role's own
(from wait4). The baseline is what a script would do: read the CSV, call the same agent with the same
concurrency, write a CSV; it loses everything when it dies. At the end the result is compared with the
baseline's, cell by cell.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from service.embedded import ACCESS_KEY, REGION, SECRET_KEY, EmbeddedProcess
from service.local import SPLIT

AGENT = """
import asyncio
async def answer(row):
    await asyncio.sleep({delay_s})
    return {{"name": row["name"].title(), "square": int(row["number"]) ** 2}}
"""
MAPPING = """
target: {type: tool, name: bench, invoke: python, function: "bench_agent:answer"}
output_mapping:
  type: tool
  extraction_methods:
    - method: direct
      field_mappings: {name: "$.name", square: "$.square"}
"""
ROLES = ("splitter", "worker", "aggregator")


@dataclass
class Used:
    """What a process took: CPU seconds, peak resident MiB, and its AWS calls by name."""

    cpu_s: float
    peak_mib: float
    calls: Counter[str]


@dataclass
class Measured:
    """One run: wall seconds from submission to the manifest, and each role's use."""

    rows: int
    seconds: float
    roles: dict[str, Used]


def write_input(path: Path, rows: int) -> None:
    """Rows with a quoted comma now and then."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "number", "note"])
        writer.writerows([f"row number {n}", n, "a, b" if n % 7 == 0 else "é"] for n in range(1, rows + 1))


async def bare_loop(source: Path, target: Path, delay_s: float, concurrency: int) -> tuple[float, float]:
    """The script that users write today; wall and CPU seconds."""
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


def run_fleet(folder: Path, source: Path, concurrency: int, url: str, prefix: str) -> Measured:
    """Every role as a process; one batch; then SIGTERM and what each one took."""
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith("ROWFLEET_")},
        "AWS_ENDPOINT_URL": url, "AWS_REGION": REGION,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "ROWFLEET_PREFIX": prefix, "ROWFLEET_TABLE": prefix, "ROWFLEET_BUCKET": prefix,
        "ROWFLEET_WORKER__MAX_INFLIGHT_ROWS": str(concurrency), "ROWFLEET_LOG_FORMAT": "json",
        "ROWFLEET_INGEST__POLL_WAIT_S": "1", "ROWFLEET_ROWS__POLL_WAIT_S": "1",
        "ROWFLEET_RESULTS__POLL_WAIT_S": "1", "ROWFLEET_METRICS_INTERVAL_S": "3600",
        **{f"ROWFLEET_SPLIT__{name.upper()}": str(value) for name, value in SPLIT.items()},
    }  # fmt: skip
    rowfleet = [sys.executable, "-m", "service"]
    subprocess.run([*rowfleet, "setup"], env=environment, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    fleet = {
        role: subprocess.Popen(
            [*rowfleet, "serve", "--roles", role], env=environment, cwd=folder,
            stdout=(folder / f"{role}.out").open("wb"), stderr=(folder / f"{role}.log").open("wb"),
        )
        for role in ROLES
    }  # fmt: skip
    for role in ROLES:
        while b"service_started" not in (folder / f"{role}.log").read_bytes():
            time.sleep(0.05)
    submitted = subprocess.run(
        [*rowfleet, "submit", str(source), "--mapping", "bench", "--wait", "--json"],
        env=environment, cwd=folder, check=True, capture_output=True,
    )  # fmt: skip
    status = json.loads(submitted.stdout)
    used = {}
    for role, process in fleet.items():
        process.send_signal(signal.SIGTERM)
        _, code, rusage = os.wait4(process.pid, 0)
        assert code == 0, f"{role} ended with {code}"
        used[role] = _used(rusage, folder / f"{role}.out")
    fetch = ["aws", "s3", "cp", "--quiet", status["output"], str(folder / "fleet.csv")]
    subprocess.run([Path(sys.executable).parent / fetch[0], *fetch[1:]], env=environment, check=True)
    seconds = status["total"] / status["rate_per_s"]
    return Measured(status["total"], seconds, used)


def _used(rusage: resource.struct_rusage, out: Path) -> Used:
    calls: Counter[str] = Counter()
    for line in out.read_text("utf-8").splitlines():
        for name, value in json.loads(line).items():
            if name.startswith("aws_calls_"):
                calls[name.removeprefix("aws_calls_")] += int(value)
    return Used(rusage.ru_utime + rusage.ru_stime, rusage.ru_maxrss / 1024, calls)


def compare(ours: Path, theirs: Path) -> int:
    """Cells compared; fails on the first difference."""
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
    options = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "bench_agent.py").write_text(AGENT.format(delay_s=options.delay_ms / 1000))
        (folder / "mappings").mkdir()
        (folder / "mappings" / "bench.yaml").write_text(MAPPING)
        endpoint = EmbeddedProcess.start()
        try:
            small, large = folder / "small.csv", folder / "large.csv"
            write_input(small, max(100, options.rows // 5))
            write_input(large, options.rows)
            wall, cpu = asyncio.run(
                bare_loop(large, folder / "bare.csv", options.delay_ms / 1000, options.concurrency)
            )
            first = run_fleet(folder, small, options.concurrency, endpoint.url, "small")
            second = run_fleet(folder, large, options.concurrency, endpoint.url, "large")
        finally:
            endpoint.stop()
        cells = compare(folder / "fleet.csv", folder / "bare.csv")
    report(console, options.rows, wall, cpu, first, second)
    console.print(f"{cells:,} cells equal those of the bare loop")


def report(console: Console, rows: int, wall: float, cpu: float, small: Measured, large: Measured) -> None:
    """The figures of the large run, with ratios to the bare loop and to the small run."""
    console.print(
        f"{rows:,} rows: {rows / large.seconds:,.0f} rows/s; bare loop {rows / wall:,.0f} rows/s with "
        f"{cpu * 1000 / rows:.2f} CPU s per 1,000 rows; ratio {wall / large.seconds:.2f}",
        highlight=False,
    )
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in (
        "role",
        "CPU s / 1,000 rows",
        "peak MiB",
        f"of it at {small.rows:,} rows",
        "AWS calls / row",
    ):
        table.add_column(title, justify="left" if title == "role" else "right")
    total: Counter[str] = Counter()
    for role, used in large.roles.items():
        total += used.calls
        table.add_row(
            role,
            f"{used.cpu_s * 1000 / rows:.2f}",
            f"{used.peak_mib:,.0f}",
            f"{small.roles[role].peak_mib / used.peak_mib:.2f}",
            f"{used.calls.total() / rows:.3f}",
        )
    table.add_row("all", "", "", "", f"{total.total() / rows:.3f}")
    console.print(table)
    for call, count in total.most_common(8):
        console.print(f"  {count / rows:.4f}  {call}", highlight=False)


if __name__ == "__main__":
    main()
