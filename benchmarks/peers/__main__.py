"""The same job by a plain script, by queues of tasks, and by rowfleet: one table, ratios to the plain script.

    python benchmarks/peers [--python …/bin/python] [--rows 5000] [--delay-ms 50 0] [--only NAME ...]

A CSV goes row by row to an HTTP agent that answers with 1 KB of JSON, 100 calls are in flight, and the
replies are written to a CSV, which is checked. Taskiq, arq, dramatiq and Celery have a Redis of their own
as broker and for results (`redis-server` on the PATH), one worker process that is warm when the clock
starts, and their own clients with keep-alive connections. `rowfleet run` and the plain script start within
their time. CPU time is that of clients and workers with their children, start-up included; that of Redis and
of the embedded endpoint is shown beside it.
"""

from __future__ import annotations

import argparse
import compileall
import csv
import json
import os
import platform
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from fleet import Fleet, table_of, write_rows  # noqa: E402 -- beside this folder

from service.cli.embedded import EmbeddedProcess  # noqa: E402

HOST = "127.0.0.1"
CONCURRENCY = 100
END_S = 30.0
"""Time for a process to end after SIGTERM."""


@dataclass
class Measured:
    """Seconds of the job, CPU seconds of clients and workers, and those of the broker."""

    rows: int
    seconds: float = 0.0
    cpu_s: float = 0.0
    broker_s: float = 0.0


@dataclass
class Bench:
    """Where a measurement runs."""

    folder: Path
    source: Path
    rows: int
    agent_url: str
    python: Path
    environment: dict[str, str] = field(default_factory=dict)

    def run(self, command: list[str], measured: Measured) -> str:
        """Run a command to its end, add its usage, and return what it printed."""
        with (self.folder / "client.log").open("wb") as log:
            process = subprocess.Popen(
                command, env=self.environment, cwd=self.folder, stdout=subprocess.PIPE, stderr=log
            )
            assert process.stdout is not None
            printed = process.stdout.read().decode()
        _end(process, measured)
        assert process.returncode == 0, (self.folder / "client.log").read_text("utf-8")[-2000:]
        return printed


def _end(process: subprocess.Popen[bytes], measured: Measured, *, is_broker: bool = False) -> None:
    """Wait for the end of a process and add its usage, which is that of its children as well."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    cpu_s = usage.ru_utime + usage.ru_stime
    if is_broker:
        measured.broker_s += cpu_s
    else:
        measured.cpu_s += cpu_s


@contextmanager
def running(
    command: list[str], bench: Bench, measured: Measured, *, is_broker: bool = False
) -> Iterator[None]:
    """A process beside the job; its usage is added when it has ended."""
    with (bench.folder / "worker.log").open("ab") as log:
        process = subprocess.Popen(command, env=bench.environment, cwd=bench.folder, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        ends = time.monotonic() + END_S
        while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            if time.monotonic() > ends:
                process.kill()
            time.sleep(0.05)
        _end(process, measured, is_broker=is_broker)


@contextmanager
def agent(delay_s: float) -> Iterator[str]:
    """The URL of an agent in a process of its own."""
    command = [sys.executable, str(HERE / "agent.py"), str(delay_s)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        yield f"http://{HOST}:{int(process.stdout.readline())}/"
    finally:
        process.kill()
        process.wait()


def plain(bench: Bench) -> Measured:
    """The plain script."""
    measured = Measured(bench.rows)
    started = time.monotonic()
    bench.run([str(bench.python), str(HERE / "plain_job.py")], measured)
    measured.seconds = time.monotonic() - started
    return measured


@dataclass(frozen=True)
class TaskQueue:
    """A library with a broker in Redis: its client is `{name}_job.py`, `worker` the command of its worker."""

    name: str
    worker: tuple[str, ...]

    def __call__(self, bench: Bench) -> Measured:
        """Do the job."""
        measured = Measured(bench.rows)
        with socket.socket() as free:
            free.bind((HOST, 0))
            port = free.getsockname()[1]
        redis = ["redis-server", "--bind", HOST, "--port", str(port), "--save", "", "--appendonly", "no"]
        bench.environment["REDIS_URL"] = f"redis://{HOST}:{port}/0"
        with running(redis, bench, measured, is_broker=True):
            _wait_for(port)
            command = [str(bench.python.parent / self.worker[0]), *self.worker[1:]]
            with running(command, bench, measured):
                printed = bench.run([str(bench.python), str(HERE / f"{self.name}_job.py")], measured)
        measured.seconds = json.loads(printed)["seconds"]
        return measured


def _wait_for(port: int) -> None:
    """Return once a server accepts connections."""
    while True:
        try:
            socket.create_connection((HOST, port)).close()
        except ConnectionRefusedError:
            time.sleep(0.02)
        else:
            return


MAPPING = """
target: {{type: agent, name: peer, invoke: http, url: "{url}"}}
execution: {{max_concurrency: {concurrency}}}
output_mapping:
  type: agent
  extraction_methods: [{{method: direct, field_mappings: {{id: $.id, answer: $.answer}}}}]
"""


def _mapping(bench: Bench, folder: Path) -> None:
    (folder / "mappings").mkdir(parents=True, exist_ok=True)
    text = MAPPING.format(url=bench.agent_url, concurrency=CONCURRENCY)
    (folder / "mappings" / "peer.yaml").write_text(text, "utf-8")


def rowfleet_run(bench: Bench) -> Measured:
    """`rowfleet run`, from its start to its end."""
    measured = Measured(bench.rows)
    _mapping(bench, bench.folder)
    command = [sys.executable, "-P", "-m", "service", "run", str(bench.source), "-m", "peer"]
    started = time.monotonic()
    bench.run([*command, "-c", WORKERS, "-o", bench.environment["TARGET"]], measured)
    measured.seconds = time.monotonic() - started
    return measured


def rowfleet_service(bench: Bench) -> Measured:
    """One process with all roles on the embedded AWS endpoint."""
    measured = Measured(bench.rows)
    endpoint = EmbeddedProcess.start()
    try:
        settings = {"worker__max_inflight_rows": CONCURRENCY}
        with Fleet(bench.folder, endpoint.url, "peers", **settings) as fleet:
            _mapping(bench, bench.folder)
            (member,) = fleet.start("splitter,worker,aggregator")
            started = time.monotonic()
            status = fleet.submit(bench.source, "peer")
            measured.seconds = time.monotonic() - started
            fleet.fetch(status, Path(bench.environment["TARGET"]))
            usage = member.end()
        measured.cpu_s = usage.cpu_s
        times = Path(f"/proc/{endpoint.pid}/stat").read_text("ascii").rpartition(")")[2].split()
        measured.broker_s = (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")
    finally:
        endpoint.stop()
    return measured


WORKERS = str(CONCURRENCY)
PEERS = {
    "plain script": plain,
    "taskiq": TaskQueue(
        "taskiq",
        ("taskiq", "worker", "--workers", "1", "--max-async-tasks", WORKERS, "--log-level", "WARNING",
         "taskiq_job:broker"),
    ),
    "arq": TaskQueue("arq", ("arq", "arq_job.WorkerSettings")),
    "dramatiq": TaskQueue(
        "dramatiq", ("dramatiq", "--processes", "1", "--threads", WORKERS, "dramatiq_job")
    ),
    "celery": TaskQueue(
        "celery",
        ("celery", "-A", "celery_job", "worker", "--pool", "threads", "--concurrency", WORKERS,
         "--loglevel", "WARNING", "--without-gossip", "--without-mingle", "--without-heartbeat"),
    ),
    "rowfleet run": rowfleet_run,
    "rowfleet, one process on the embedded endpoint": rowfleet_service,
}  # fmt: skip
"""Each does the job, with as few frills as its documentation allows."""


def check(bench: Bench) -> None:
    """Fail unless the result has every row with its answer."""
    with Path(bench.environment["TARGET"]).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    own = "input_id" in rows[0]
    found = {
        row["input_id" if own else "id"]: row["output_answer" if own else "answer"]
        for row in rows
        if not own or row["output_id"] == row["input_id"]
    }
    assert len(found) == len(rows) == bench.rows, f"{len(found)} of {bench.rows} rows"
    assert set(found.values()) == {"word " * 200}


def measure(name: str, rows: int, delay_s: float, python: Path) -> Measured:
    """Measure one peer with an agent and a folder of its own."""
    with tempfile.TemporaryDirectory() as place, agent(delay_s) as url:
        folder = Path(place)
        compileall.compile_dir(HERE.parent.parent / "service", quiet=1)
        source, target = folder / "in.csv", folder / "out.csv"
        write_rows(source, ("id", "text"), ((str(n), f"text of row {n}") for n in range(1, rows + 1)))
        environment = os.environ | {
            "AGENT_URL": url, "CONCURRENCY": WORKERS, "SOURCE": str(source), "TARGET": str(target),
            "PYTHONPATH": f"{HERE}:{HERE.parent.parent}",
        }  # fmt: skip
        # an installed package has its bytecode
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        bench = Bench(folder, source, rows, url, python, environment)
        measured = PEERS[name](bench)
        check(bench)
    return measured


def machine() -> str:
    """The machine in words."""
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text("utf-8"))
    model = found[1] if found else platform.machine()
    load = os.getloadavg()[0]
    return f"{os.cpu_count()} cores of {model}, Python {platform.python_version()}, load before {load:.1f}"


def versions(python: Path) -> str:
    """The versions of the libraries in an environment."""
    code = (
        "import importlib.metadata as m\n"
        "found = {d.name.lower(): d.version for d in m.distributions()}\n"
        "names = 'taskiq', 'taskiq-redis', 'arq', 'dramatiq', 'celery', 'redis', 'aiohttp'\n"
        "print(', '.join(f'{n} {found[n]}' for n in names if n in found))"
    )
    return subprocess.run([python, "-c", code], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def median(measured: list[Measured]) -> Measured:
    """The medians of several measurements."""
    return Measured(
        measured[0].rows,
        statistics.median(one.seconds for one in measured),
        statistics.median(one.cpu_s for one in measured),
        statistics.median(one.broker_s for one in measured),
    )


def report(console: Console, found: dict[str, Measured], delay_ms: float) -> None:
    """Print the table of one delay; ratios are to the plain script."""
    base = found.get("plain script")
    lines = []
    for name, one in found.items():
        of = [""] * 2
        if base:
            of = [f"{base.seconds / one.seconds:.2f}", f"{one.cpu_s / base.cpu_s:.1f}"]
        lines.append(
            (
                name, f"{one.rows / one.seconds:,.0f}", of[0], f"{one.cpu_s * 1000 / one.rows:.2f}", of[1],
                f"{one.broker_s * 1000 / one.rows:.2f}",
            )
        )  # fmt: skip
    columns = (
        f"agent takes {delay_ms:g} ms",
        "rows/s",
        "ratio",
        "CPU ms a row",
        "ratio",
        "+ broker",
    )
    console.print(table_of(columns, lines))
    console.print()


def _absolute(path: str) -> Path:
    # Not resolved: the link of an environment tells Python which one it is.
    return Path(path).absolute()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=5_000)
    parser.add_argument("--times", type=int, default=3, help="rounds, of which the medians are shown")
    parser.add_argument("--delay-ms", type=float, nargs="+", default=[50, 0])
    parser.add_argument(
        "--python", type=_absolute, default=Path(sys.executable), help="of an environment with the libraries"
    )
    parser.add_argument("--arq-python", type=_absolute, help="of one with arq, which needs an older redis-py")
    parser.add_argument("--only", nargs="+", choices=PEERS, default=list(PEERS))
    options = parser.parse_args()
    if shutil.which("redis-server") is None:
        sys.exit("there is no redis-server on the PATH: install it (apt-get install redis-server)")
    console = Console(width=120, highlight=False)
    pythons = {"arq": options.arq_python or options.python}
    console.print(f"{options.rows:,} rows; {machine()}", soft_wrap=True)
    for python in {options.python, *pythons.values()}:
        console.print(versions(python), soft_wrap=True)
    for delay_ms in options.delay_ms:
        found: dict[str, list[Measured]] = {name: [] for name in options.only}
        for _ in range(options.times):
            for name, measured in found.items():
                python = pythons.get(name, options.python)
                measured.append(measure(name, options.rows, delay_ms / 1000, python))
        report(console, {name: median(measured) for name, measured in found.items()}, delay_ms)


if __name__ == "__main__":
    main()
