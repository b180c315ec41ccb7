"""`rowfleet run` on the store of this machine: start, progress, and the end as it is printed."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console

from service.app.fetching import find_results, stream_results
from service.app.laptop.backend import LaptopBackend, open_laptop
from service.app.laptop.commands import RunCommand
from service.app.laptop.home import Home, local_user
from service.app.laptop.pipeline import Stop
from service.app.laptop.results import Replaced, describe_problem, write_results
from service.app.laptop.run_book import STDOUT, RunRecord
from service.app.laptop.serving import BatchServer, Served
from service.app.laptop.start import Start, Starter, Step, progress_text
from service.app.settings import Settings
from service.app.status import WITH_RESULTS, can_be_redriven, sample_failures
from service.catalog.folders import ReadMappingFiles
from service.cli import render
from service.cli.console import EXIT_INTERRUPTED, EXIT_USAGE, err, out, print_error
from service.cli.garbage import freeze_modules
from service.cli.running.ending import Ending
from service.cli.running.sample import ask, can_ask, read_report, show_sample, waits_only_for_approval
from service.cli.status import batch_exit_code, redrive_remedies, remedies, show_remedies
from service.domain.budgets.options import budget_options
from service.domain.model import BatchView
from service.domain.operation_requests import OperationRequest
from service.steering.operate import operate


@dataclass(frozen=True, slots=True)
class LaptopRun:
    """A run as the command line asks for it. `settings` are those of a laptop, `place` is `-` for stdout."""

    settings: Settings
    mappings: ReadMappingFiles
    command: RunCommand
    place: str
    fresh: bool = False
    force: bool = False
    as_json: bool = False

    @property
    def concurrency(self) -> int:
        """The most calls under way at a time."""
        return self.command.definition.compile().concurrency(self.settings.worker.max_inflight_rows)


async def run_on_laptop(asked: LaptopRun) -> int:
    """Run the file, or go on with what the same command has left; return the exit code."""
    stop = stopped_by_signals()
    home = Home(asked.settings.home)
    home.create()
    async with open_laptop(home, asked.settings) as backend:
        starter = Starter(backend, asked.settings.bucket)
        start = await starter.find(asked.command, asked.place, fresh=asked.fresh, force=asked.force)
        if start.note:
            err.print(start.note, style="yellow", markup=False, highlight=False, soft_wrap=True)
        report = EndReport(backend, asked.settings, as_json=asked.as_json, concurrency=asked.concurrency)
        if start.step is Step.WRITE:
            return await report.show(Served(start.view), start.record, start.replaced)
        freeze_modules()
        if start.view is not None and waits_only_for_approval(start.view.batch):
            # The same command has stopped at its sample before.
            served = Served(start.view)
        else:
            begin = partial(starter.begin, start, asked.command)
            served = await serve_run(asked, home, backend, start.record, stop, begin)
        report.went_on_from(start)
        decision = await _decision_on_sample(asked, backend, start, served, stop)
        if decision is None:
            return await report.show(served, start.record, start.replaced)
    # Opened again: the queues of the first pipeline have ended with it.
    async with open_laptop(home, asked.settings) as backend:
        # A sample may have waited for long, and its run may have named another place.
        await backend.runs.keep(start.record)
        # Before the sweeper of the pipeline, which ends holds that have lasted too long.
        await operate(backend.ports, _request(decision, asked, start))
        served = await serve_run(asked, home, backend, start.record, stop)
        report = EndReport(backend, asked.settings, as_json=asked.as_json, concurrency=asked.concurrency)
        return await report.show(served, start.record, start.replaced)


def _request(decision: str, asked: LaptopRun, start: Start) -> OperationRequest:
    """The operation on the sample; the budget of a run that goes on with an estimate's is the batch's."""
    args = budget_options(asked.command.request.budget) if start.is_approved else {}
    return OperationRequest(decision, start.record.batch_id, uuid.uuid4().hex, local_user(), args)


async def serve_run(
    asked: LaptopRun,
    home: Home,
    backend: LaptopBackend,
    record: RunRecord,
    stop: Stop,
    begin: Callable[[], Awaitable[object]] | None = None,
) -> Served:
    """Run the pipeline for the batch, with its progress, until it ends, is held, or the user stops it.

    Without `begin` the messages of the batch are in the queues already.
    """
    with render.progress(err, quiet=asked.as_json, estimate=record.records) as progress:
        server = BatchServer(home, backend, asked.settings, asked.mappings, stop, progress.update)
        return await server.serve(record.batch_id, begin)


async def _decision_on_sample(
    asked: LaptopRun, backend: LaptopBackend, start: Start, served: Served, stop: Stop
) -> str | None:
    """Show a sample that waits for approval, and ask on a terminal; that of an estimate is approved.

    Return the operation, None if nobody has decided.
    """
    batch = None if served.view is None else served.view.batch
    if batch is None or not waits_only_for_approval(batch):
        return None
    if start.is_approved and not stop.asked.is_set():
        text = f"`rowfleet estimate` has run its sample, which counts as approved by {local_user()}"
        err.print(text, style="yellow", markup=False, highlight=False, soft_wrap=True)
        return "approve"
    if start.is_approved or asked.as_json:
        return None
    (hold,) = batch.holds
    report = await read_report(backend.ports, hold)
    if report is None:
        return None
    show_sample(err, report)
    if not can_ask(err):
        return None
    answer = await ask(err, report["rest"]["rows"], stop)
    return None if answer is None else "approve" if answer else "reject"


def stopped_by_signals() -> Stop:
    """The wish to stop, as SIGINT and SIGTERM say it: the first asks, the second cuts calls."""
    stop = Stop()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.signal)
    return stop


class EndReport:
    """Writes the results of a batch that was served, unless not `writes`, and says how it has ended."""

    def __init__(
        self,
        backend: LaptopBackend,
        settings: Settings,
        *,
        as_json: bool,
        concurrency: int | None = None,
        writes: bool = True,
    ) -> None:
        self._backend = backend
        self._settings = settings
        self._as_json = as_json
        self._concurrency = concurrency
        self._writes = writes
        self._began_at = time.monotonic()
        self._done_before: int | None = None

    def went_on_from(self, start: Start) -> None:
        """Note the rows that were done before this process began."""
        if start.step is not Step.OPEN and start.view is not None:
            self._done_before = start.view.all_counts.done

    async def show(self, served: Served, record: RunRecord, replaced: Replaced | None = None) -> int:
        """Write the results to the place of the run, and print the end; return the exit code."""
        view = served.view
        files, problem = dict[str, Path](), ""
        if self._writes and view is not None and view.batch.state in WITH_RESULTS:
            files, problem = await self._write(view, record, replaced)
        if problem:
            print_error(problem)
        if view is not None:
            await self._print(view, served, files, Console(stderr=True) if record.out == STDOUT else out)
        if view is not None and view.batch.error:
            print_error(f"batch {view.batch.batch_id} failed: {view.batch.error}")
        if served.was_stopped or view is None:
            text = f"{progress_text(view, record)}; the same command goes on"
            err.print(text, highlight=False, soft_wrap=True)
            return EXIT_INTERRUPTED
        return EXIT_USAGE if problem else batch_exit_code(view)

    async def _write(
        self, view: BatchView, record: RunRecord, replaced: Replaced | None
    ) -> tuple[dict[str, Path], str]:
        """Write the results; return the files by name, and the problem in words, "" if there is none."""
        objects, batch = self._backend.ports.objects, view.batch
        try:
            if record.out == STDOUT:
                results = await find_results(objects, batch, batch.round)
                await stream_results(objects, results, sys.stdout.buffer)
                return {}, ""
            files = await write_results(objects, self._backend.runs, view, Path(record.out))
        except OSError as error:
            return {}, describe_problem(error, batch.batch_id)
        if replaced is not None and (replaced.batch_id, replaced.round) != (batch.batch_id, batch.round):
            which = f"round {replaced.round} of {replaced.batch_id}"
            err.print(
                f"replaced the result of {which}, which stays in the store: {replaced.command}",
                markup=False, highlight=False, soft_wrap=True,
            )  # fmt: skip
        return files, ""

    async def _print(self, view: BatchView, served: Served, files: dict[str, Path], console: Console) -> None:
        ports, batch = self._backend.ports, view.batch
        ending = await Ending.read(
            ports, view, files, undelivered=served.undelivered, hold_s=self._settings.sweep.hold_s
        )
        ending.show(console, partial(remedies, batch.batch_id), as_json=self._as_json, pace=self._pace(view))
        is_over = batch.state in WITH_RESULTS and can_be_redriven(batch, ports.clock.now_ms())
        if is_over and not self._as_json:
            failures = await sample_failures(ports.table, batch) if view.all_counts.failed else []
            show_remedies(console, redrive_remedies(view, failures))

    def _pace(self, view: BatchView) -> str:
        """The rows and seconds of this process if it has gone on with a batch, and its calls at a time."""
        calls = f"at most {self._concurrency} calls at a time" if self._concurrency else ""
        if self._done_before is None:
            return calls
        seconds = time.monotonic() - self._began_at
        rows = view.all_counts.done - self._done_before
        return f"{rows:,} of them now, in {seconds:,.1f} s, {calls}".removesuffix(", ")
