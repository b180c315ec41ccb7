"""Shared by the benchmarks: an endpoint, roles as real processes on it, an agent, files, and a verdict.

Every role is a process of its own, so it can be killed, and wait4 gives its CPU time and memory.
"""

from __future__ import annotations

import asyncio
import csv
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

from aiohttp import web
from rich.console import Console
from rich.table import Table

from service.cli.embedded import ACCESS_KEY, HOST, REGION, SECRET_KEY, EmbeddedProcess
from service.cli.local import SPLIT_DEFAULTS

T = TypeVar("T")

COMMAND_TIMEOUT_S = 900
"""Longest time of a command; a batch that takes longer will not end."""

MAPPING = """
target: {{type: tool, name: {name}, {target}}}
output_mapping:
  type: tool
  extraction_methods: [{{method: direct, field_mappings: {{{fields}}}}}]
"""


@dataclass
class ProcessUsage:
    """Resources of a process: CPU seconds, peak resident MiB, AWS calls by name, and all its metrics."""

    cpu_s: float
    peak_mib: float
    calls: Counter[str]
    counts: Counter[str]


class Member:
    """One process of a fleet."""

    def __init__(self, command: list[str], folder: Path, environment: dict[str, str], stem: str) -> None:
        self.name = stem
        self._out, self._log = folder / f"{stem}.out", folder / f"{stem}.log"
        with self._out.open("wb") as out, self._log.open("wb") as log:
            self.process = subprocess.Popen(command, env=environment, cwd=folder, stdout=out, stderr=log)
        self.started = time.monotonic()
        self.seconds = 0.0

    def wait_until_started(self) -> None:
        """Return when the process logs that its service has started."""
        while b"service_started" not in self._log.read_bytes():
            assert self.process.poll() is None, f"{self.name} ended: {self._log.read_text('utf-8')[-2000:]}"
            time.sleep(0.05)
        self.started = time.monotonic()

    def end(self, sent: signal.Signals = signal.SIGTERM) -> ProcessUsage:
        """Send a signal, wait for the end, and return the usage; `seconds` is then the time it ran."""
        self.seconds = time.monotonic() - self.started
        self.process.send_signal(sent)
        _, status, usage = os.wait4(self.process.pid, 0)
        code = self.process.returncode = os.waitstatus_to_exitcode(status)
        assert code == 0 or -code == sent, f"{self.name} ended with {code}"
        counts = self.counts()
        prefix = "aws_calls_"
        calls = {name.removeprefix(prefix): n for name, n in counts.items() if name.startswith(prefix)}
        return ProcessUsage(usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, Counter(calls), counts)

    def counts(self) -> Counter[str]:
        """The metrics that the process has written so far, added up."""
        total: Counter[str] = Counter()
        for line in self._out.read_text("utf-8").splitlines(keepends=True):
            if line.endswith("}\n"):
                total.update({k: int(v) for k, v in json.loads(line).items() if isinstance(v, int | float)})
        return total


class Fleet:
    """A deployment on an endpoint, with its mappings in `folder`. Leaving it kills running processes."""

    def __init__(self, folder: Path, url: str, prefix: str, **settings: object) -> None:
        self.folder = folder
        self._members: list[Member] = []
        self._environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("ROWFLEET_")},
            "AWS_ENDPOINT_URL": url, "AWS_REGION": REGION, "AWS_DEFAULT_REGION": REGION,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "ROWFLEET_PREFIX": prefix, "ROWFLEET_TABLE": prefix, "ROWFLEET_BUCKET": prefix,
            "ROWFLEET_INGEST__POLL_WAIT_S": "1", "ROWFLEET_ROWS__POLL_WAIT_S": "1",
            "ROWFLEET_RESULTS__POLL_WAIT_S": "1", "ROWFLEET_METRICS_INTERVAL_S": "3600",
            "ROWFLEET_LOG_FORMAT": "json",
            **{f"ROWFLEET_SPLIT__{name.upper()}": str(value) for name, value in SPLIT_DEFAULTS.items()},
            **{f"ROWFLEET_{name.upper()}": str(value) for name, value in settings.items()},
        }  # fmt: skip
        self.command("setup")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for member in self._members:
            if member.process.poll() is None:
                member.process.kill()
                member.process.wait()

    def mapping(self, name: str, target: str, fields: str, more: str = "") -> None:
        """Write a mapping that extracts `fields` from the reply. Call it before the splitter is started."""
        (self.folder / "mappings").mkdir(exist_ok=True)
        text = MAPPING.format(name=name, target=target, fields=fields) + more
        (self.folder / "mappings" / f"{name}.yaml").write_text(text, "utf-8")

    def start(self, *roles: str) -> list[Member]:
        """Start a process for each role, and return them when all have started."""
        command = [sys.executable, "-m", "service", "serve", "--roles"]
        first = len(self._members)
        for number, role in enumerate(roles, first):
            stem = f"{self._environment['ROWFLEET_PREFIX']}-{number}-{role}"
            self._members.append(Member([*command, role], self.folder, self._environment, stem))
        for member in self._members[first:]:
            member.wait_until_started()
        return self._members[first:]

    def submit(self, source: Path, mapping: str, *, wait: bool = True) -> dict[str, Any]:
        """Start a batch. Return its status at the end, or its id with `wait=False`."""
        options = ["--wait"] if wait else []
        submitted = self.command("submit", str(source), "--mapping", mapping, "--json", *options)
        printed: dict[str, Any] = json.loads(submitted)
        return printed

    def fetch(self, status: dict[str, Any], target: Path) -> list[dict[str, str]]:
        """Download the output of a batch to `target`, and return its rows."""
        command = [str(Path(sys.executable).parent / "aws"), "s3", "cp", "--quiet", status["output"]]
        subprocess.run([*command, str(target)], env=self._environment, check=True)
        return read_rows(target)

    def command(self, *arguments: str) -> bytes:
        """Run a command to its end, and return its output."""
        command = [sys.executable, "-m", "service", *arguments]
        return subprocess.run(
            command, env=self._environment, cwd=self.folder, check=True, stdout=subprocess.PIPE,
            timeout=COMMAND_TIMEOUT_S,
        ).stdout  # fmt: skip


@contextmanager
def endpoint() -> Iterator[tuple[Path, str]]:
    """Give a temporary folder and the URL of a new endpoint; both are removed afterwards."""
    with tempfile.TemporaryDirectory() as name:
        running = EmbeddedProcess.start()
        try:
            yield Path(name), running.url
        finally:
            running.stop()


def run_with_agent(handle: Callable[[web.Request], Awaitable[web.Response]], work: Callable[[str], T]) -> T:
    """Serve `handle` over HTTP while `work` runs on another thread with the URL; return its result."""

    async def serve() -> T:
        app = web.Application()
        app.router.add_post("/", handle)
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, HOST, 0).start()
        try:
            return await asyncio.to_thread(work, f"http://{HOST}:{runner.addresses[0][1]}/")
        finally:
            await runner.cleanup()

    return asyncio.run(serve())


def write_rows(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file as dicts by column."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def table_of(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A table without borders: the first column has the labels of the rows, the others have numbers."""
    table = Table(box=None, pad_edge=False, header_style="dim", show_header=any(columns))
    for number, title in enumerate(columns):
        table.add_column(title, justify="right" if number else "left")
    for row in rows:
        table.add_row(*row)
    return table


def verdict(console: Console, criteria: dict[str, bool]) -> None:
    """Print for each criterion if it is met; exit with 1 if one is not."""
    for text, is_met in criteria.items():
        console.print(f"{'[green]met[/]   ' if is_met else '[red]missed[/]'}  {text}", highlight=False)
    sys.exit(0 if all(criteria.values()) else 1)
