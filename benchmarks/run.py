"""`rowfleet run` beside a plain asyncio script: rows per second, CPU, start-up and memory, as ratios.

    python benchmarks/run.py [--rows 10000] [--delay-ms 50] [--concurrency 100] [--profile FILE]

Both call the same HTTP agent, whose replies have 1 KB and which is a process of its own. The script reads the
CSV, makes the calls with aiohttp, and writes a CSV; it loses everything when it dies. CPU and memory come
from wait4. At the end the results are compared, cell by cell.
"""

from __future__ import annotations

import argparse
import asyncio
import compileall
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from rich.console import Console
from rich.table import Table

HOST = "127.0.0.1"

MAPPING = """
target: {type: tool, name: bench, invoke: http, url: "${AGENT_URL}"}
output_mapping:
  type: tool
  extraction_methods: [{method: direct, field_mappings: {label: $.label, score: $.score}}]
"""

PADDING = "x" * 900


class Agent(asyncio.Protocol):
    """A server that answers each POST after a delay, with as little CPU as Python allows."""

    def __init__(self, delay_s: float, first: list[float]) -> None:
        self._delay_s = delay_s
        self._first = first
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the connection."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer a request once it is complete. A client waits for its answer before it sends another."""
        self._data += data
        head, separator, body = self._data.partition(b"\r\n\r\n")
        if not separator:
            return
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        if len(body) < length:
            return
        self._data = b""
        if not self._first:
            self._first.append(time.time())
        name = json.loads(body)["name"]
        reply = json.dumps({"label": name.title(), "score": len(name), "note": PADDING}).encode()
        answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(
            reply
        )
        asyncio.get_running_loop().call_later(self._delay_s, self._transport.write, answer + reply)  # type: ignore[attr-defined]


async def serve_agent(delay_s: float) -> None:
    """Print the port; then print the time of the first call, once there is one, whenever a line comes."""
    first: list[float] = []
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Agent(delay_s, first), HOST, 0)
    print(server.sockets[0].getsockname()[1], flush=True)

    def asked() -> None:
        if not sys.stdin.readline():
            loop.stop()
            return
        print(first.pop() if first else 0.0, flush=True)

    loop.add_reader(sys.stdin.fileno(), asked)
    await asyncio.Event().wait()


async def plain_script(url: str, source: Path, target: Path, concurrency: int) -> None:
    """The baseline."""
    with source.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    limit = asyncio.Semaphore(concurrency)
    connector = aiohttp.TCPConnector(limit=concurrency)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def one(row: dict[str, str]) -> dict[str, str]:
            async with limit, session.post(url, json=row) as response:
                response.raise_for_status()
                reply = await response.json()
            output = {"output_label": reply["label"], "output_score": str(reply["score"])}
            return {f"input_{name}": cell for name, cell in row.items()} | output

        done = await asyncio.gather(*(one(row) for row in rows))
    with target.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(done[0]))
        writer.writeheader()
        writer.writerows(done)


@dataclass(frozen=True)
class Measured:
    """One run: seconds in all and until the first call, CPU seconds, and peak resident MiB."""

    seconds: float
    start_s: float
    cpu_s: float
    peak_mib: float


class AgentProcess:
    """The agent as a process of its own."""

    def __init__(self, delay_ms: float) -> None:
        command = [sys.executable, __file__, "agent", str(delay_ms / 1000)]
        self._child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._stdin, self._stdout = self._child.stdin, self._child.stdout
        self.url = f"http://{HOST}:{self._stdout.readline().strip()}/"

    def first_call(self) -> float:
        """When the first call since the last question came, in seconds since 1970."""
        self._stdin.write("?\n")
        self._stdin.flush()
        return float(self._stdout.readline())

    def stop(self) -> None:
        """End it."""
        self._stdin.close()
        self._child.kill()
        self._child.wait()


def measure(agent: AgentProcess, command: list[str], folder: Path, **variables: str) -> Measured:
    """Run a command to its end."""
    environment = os.environ | variables
    # an installed package has its bytecode
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    began = time.time()
    child = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    ended = time.time()
    assert status == 0, f"{command} ended with {status}"
    cpu_s = usage.ru_utime + usage.ru_stime
    return Measured(ended - began, agent.first_call() - began, cpu_s, usage.ru_maxrss / 1024)


def write_input(path: Path, rows: int) -> None:
    """Write a CSV of 100-byte rows, in which some cells have a quoted comma."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("name", "number", "note"))
        writer.writerows(
            (f"row number {n}", n, "a, b" if n % 7 == 0 else "é" * 40) for n in range(1, rows + 1)
        )


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
    if sys.argv[1:2] == ["agent"]:
        asyncio.run(serve_agent(float(sys.argv[2])))
        return
    if sys.argv[1:2] == ["script"]:
        url, source, target, concurrency = sys.argv[2:]
        asyncio.run(plain_script(url, Path(source), Path(target), int(concurrency)))
        return
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--delay-ms", type=float, default=50)
    parser.add_argument("--concurrency", type=int, default=100)
    parser.add_argument("--profile", type=Path, help="write a cProfile of the run, which is slow then")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rowfleet-bench-") as name:
        run(options, Path(name))


def run(options: argparse.Namespace, folder: Path) -> None:
    """Measure the script and `rowfleet run` on one file, in a folder."""
    (folder / "mappings").mkdir()
    (folder / "mappings" / "bench.yaml").write_text(MAPPING)
    write_input(folder / "in.csv", options.rows)
    agent = AgentProcess(options.delay_ms)
    profile = ["-m", "cProfile", "-o", str(options.profile.resolve())] if options.profile else []
    concurrency = str(options.concurrency)
    try:
        script = [sys.executable, __file__, "script", agent.url, "in.csv", "plain.csv", concurrency]
        plain = measure(agent, script, folder)
        ours = [
            sys.executable, *profile, "-m", "service", "run", "in.csv", "-m", "bench", "-c", concurrency,
            "--out", "ours.csv",
        ]  # fmt: skip
        # the source tree stands before an installed package
        path = str(Path(__file__).parents[1])
        compileall.compile_dir(f"{path}/service", quiet=1)
        run_ = measure(agent, ours, folder, AGENT_URL=agent.url, PYTHONPATH=path)
    finally:
        agent.stop()
    cells = compare(folder / "ours.csv", folder / "plain.csv")
    report(options, plain, run_, cells)


def report(options: argparse.Namespace, plain: Measured, ours: Measured, cells: int) -> None:
    """Print both, and the ratios."""
    console = Console()
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("", "rows/s", "CPU ms / row", "first call after", "peak MiB"):
        table.add_column(column, justify="left" if not column else "right")
    for name, one in (("plain script", plain), ("rowfleet run", ours)):
        table.add_row(
            name,
            f"{options.rows / one.seconds:,.0f}",
            f"{one.cpu_s * 1000 / options.rows:.2f}",
            f"{one.start_s:.2f} s",
            f"{one.peak_mib:,.0f}",
        )
    table.add_row(
        "ratio",
        f"{plain.seconds / ours.seconds:.2f}",
        f"{ours.cpu_s / plain.cpu_s:.2f}",
        "",
        f"{ours.peak_mib / plain.peak_mib:.2f}",
    )
    console.print(table)
    load = os.getloadavg()[0]
    console.print(
        f"{options.rows:,} rows, {options.delay_ms:g} ms, {options.concurrency} calls at a time; "
        f"load {load:.1f} on {os.cpu_count()} cores; {cells:,} cells are equal",
        highlight=False,
        soft_wrap=True,
    )


if __name__ == "__main__":
    main()
