"""`make demo`: the service as it runs on AWS, on this machine, with a real file.

Starts an agent (an HTTP server with a delay and some failures), an embedded AWS endpoint, and splitter,
workers and aggregator as processes of their own. Drops a CSV under the S3 prefix of a mapping. Shows queues
and table while its rows are processed, then the objects, rows and messages that the run has left, and the
first results. Result files and logs stay in `demo-output/`.
"""

from __future__ import annotations

import asyncio
import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from examples.serving import agent_process  # noqa: E402 -- the script's own folder is not the root
from examples.showing import Display, Moment  # noqa: E402
from service.app.aws.backend import DEAD_LETTER_QUEUES, QUEUES, AwsBackend, aws_options, connect  # noqa: E402
from service.app.fetching import fetch_results, find_results  # noqa: E402
from service.app.settings import Settings, load_settings  # noqa: E402
from service.cli.embedded import ACCESS_KEY, REGION, SECRET_KEY, EmbeddedProcess  # noqa: E402
from service.cli.local import SPLIT_DEFAULTS  # noqa: E402
from service.domain.errors import RowfleetError  # noqa: E402
from service.domain.model import BatchView  # noqa: E402

MAPPING = "airport-agent"
CITIES = Path("examples/airports/cities.csv")
OUT = Path("demo-output/cities.csv")
LOGS = OUT.parent / "logs"
AGENT_FLAGS = ("--delay-ms", "40", "--jitter-ms", "40", "--fail-rate", "0.01")
"""Makes the agent behave like a real one: 40 to 80 ms an answer, and failures for 1 % of the inputs."""

PROCESSES = {
    "splitter": "splitter", "worker-1": "worker", "worker-2": "worker", "aggregator": "aggregator,sweeper",
}  # fmt: skip
"""The processes of the service, each a container on AWS: name -> roles."""

LOOK_S = 0.25
"""Time between two looks at queues and table."""


def main() -> int:
    """Return 0 if the results were written, failed rows or not; 1 if not, 130 after an interrupt."""
    os.chdir(ROOT)
    shutil.rmtree(OUT.parent, ignore_errors=True)
    LOGS.mkdir(parents=True)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    display = Display()
    try:
        with ExitStack() as processes:
            settings = deploy(display, processes)
            asyncio.run(run(display, settings))
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except (RowfleetError, subprocess.CalledProcessError) as error:
        display.title("The demo has failed: ", f"{error}; the logs are in {LOGS}/")
        return 1
    display.title("The first rows of the result", f", {OUT}:")
    display.results(OUT, rows=5)
    show_next(display)
    return 0


def deploy(display: Display, processes: ExitStack) -> Settings:
    """Start all processes and create the resources; return the settings that the processes have."""
    display.title("The service as on AWS, in processes on this machine", f". Their logs: {LOGS}/")
    agent_url = processes.enter_context(agent_process("examples.airports.agent", *AGENT_FLAGS))
    display.line("agent", f"{agent_url}  an HTTP server: 40 to 80 ms an answer, trouble for 1 % of the rows")
    endpoint = EmbeddedProcess.start()
    processes.callback(endpoint.stop)
    display.line("AWS", f"{endpoint.url}  an embedded endpoint: S3, SQS, DynamoDB")
    use_endpoint(endpoint.url, agent_url)
    subprocess.run(rowfleet("setup"), check=True, stdout=subprocess.DEVNULL)  # noqa: S603 -- our own command
    started = {
        name: processes.enter_context(service_process(name, roles)) for name, roles in PROCESSES.items()
    }
    for name, process in started.items():
        wait_until_started(name, process)
        display.line(name, f"process {process.pid}  rowfleet serve --roles {PROCESSES[name]}")
    return load_settings()


def use_endpoint(url: str, agent_url: str) -> None:
    """Set the variables of this process and its children, as those of a container; drop the user's own."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "ROWFLEET_"))]:
        del os.environ[name]
    os.environ |= {
        "AWS_ENDPOINT_URL": url, "AWS_REGION": REGION, "AGENT_URL": agent_url,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        # calls of the embedded endpoint take longer the more messages wait
        **{f"ROWFLEET_SPLIT__{name.upper()}": str(value) for name, value in SPLIT_DEFAULTS.items()},
        **{f"ROWFLEET_{queue}__POLL_WAIT_S": "1" for queue in ("INGEST", "ROWS", "RESULTS")},
    }  # fmt: skip


def rowfleet(*arguments: str) -> list[str]:
    """The command line of a command of rowfleet, which need not be installed."""
    return [sys.executable, "-m", "service", *arguments]


@contextmanager
def service_process(name: str, roles: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process of the service while the block runs; its log is a file."""
    with (LOGS / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(rowfleet("serve", "--roles", roles), stdout=log, stderr=log)  # noqa: S603 -- our own command
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def wait_until_started(name: str, process: subprocess.Popen[bytes]) -> None:
    """Return when the process logs that its roles run. Raises CalledProcessError if it ends instead."""
    log = LOGS / f"{name}.log"
    while b"service_started" not in log.read_bytes():
        if process.poll() is not None:
            raise subprocess.CalledProcessError(
                process.returncode, f"rowfleet serve --roles {PROCESSES[name]}"
            )
        time.sleep(LOOK_S)


async def run(display: Display, settings: Settings) -> None:
    """Drop the file, follow its batch to the end, show what it has left, and download the results."""
    key = f"{settings.incoming_prefix}{MAPPING}/{CITIES.name}"
    display.title("A file is dropped in S3", ", which tells the ingest queue. Nothing else starts a run:")
    display.command("aws s3 cp", str(CITIES), f"s3://{settings.bucket}/{key}")
    async with connect(settings, aws_options(settings)) as backend:
        await backend.ports.objects.put(settings.bucket, key, CITIES.read_bytes(), content_type="text/csv")
        with CITIES.open(encoding="utf-8", newline="") as file:
            display.moments(sum(1 for _ in csv.DictReader(file)))
        view = await follow(display, backend)
        await show_left(display, backend, view, settings)
        objects = backend.ports.objects
        await fetch_results(objects, await find_results(objects, view.batch), OUT)


async def follow(display: Display, backend: AwsBackend) -> BatchView:
    """Look at queues and table until the batch has ended."""
    table, queues = backend.ports.table, backend.ports.queues
    while True:
        depths = (queue.depth() for queue in (queues.ingest, queues.rows, queues.aggregate))
        batches = await table.recent(1)
        view = await table.read(batches[0].batch_id) if batches else None
        display.moment(Moment(tuple(await asyncio.gather(*depths)), view))
        if view is not None and view.batch.state.is_final:
            return view
        await asyncio.sleep(LOOK_S)


async def show_left(display: Display, backend: AwsBackend, view: BatchView, settings: Settings) -> None:
    """Print what lies in the bucket, the table and the queues."""
    display.title("What lies where", " now:")
    found = await backend.ports.objects.listing(settings.bucket, "")
    display.objects(settings.bucket, {source.key: source.size for source in found.sources})
    succeeded, failed = view.all_counts.succeeded, view.all_counts.failed
    display.line("table", f"{settings.table}: the batch {view.batch.batch_id}, {view.batch.state},")
    display.line("", f"and the outcome of each row: {succeeded:,} SUCCESS, {failed:,} FAILED")
    await backend.find_queues(DEAD_LETTER_QUEUES)
    for title, names in (("queues", QUEUES), ("", DEAD_LETTER_QUEUES)):
        queues = [backend.queues[name] for name in names]
        depths = await asyncio.gather(*(queue.depth() for queue in queues))
        texts = (f"{queue.name} {depth}" for queue, depth in zip(queues, depths, strict=True))
        display.line(title, ", ".join(texts))


def show_next(display: Display) -> None:
    """Print the commands for a file of one's own."""
    command = Path(sys.executable).with_name("rowfleet")
    shown = command.relative_to(ROOT) if command.is_relative_to(ROOT) else command
    display.title(
        "A file of your own",
        " needs none of these processes. One command has all roles, and goes on after Ctrl-C:",
    )
    display.command(f"{shown} run FILE.csv --mapping NAME --out RESULT.csv")


if __name__ == "__main__":
    sys.exit(main())
