"""The sample of `rowfleet estimate`: rows of the run that follows, which are called for now."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from functools import partial

from rich.console import Console

from service.app.estimates.sample_figures import SampleFigures, figures_of
from service.app.laptop.backend import LaptopBackend, open_laptop
from service.app.laptop.home import Home
from service.app.laptop.serving import Served
from service.app.laptop.start import Start, Starter, Step, progress_text
from service.cli.console import EXIT_INTERRUPTED, EXIT_OK, err, print_error
from service.cli.garbage import freeze_modules
from service.cli.running.ending import Ending
from service.cli.running.laptop import LaptopRun, serve_run, stopped_by_signals
from service.cli.running.sample import read_report, waits_only_for_approval
from service.cli.status import batch_exit_code, remedies, show_remedies
from service.cli.views.sample_view import show_figures
from service.domain.model import BatchView, HoldReason, State

_DONE = (State.SUCCEEDED, State.COMPLETED_WITH_ERRORS)


@dataclass(frozen=True, slots=True)
class SampleEnd:
    """A sample as its estimate has left it.

    `figures` is None if no row of it was run. `todo` are the commands that go on, each with its effect.
    `ending` is that of a batch that did not come to its gate, None for others; `code` is the exit code.
    """

    figures: SampleFigures | None
    todo: list[tuple[str, str]]
    ending: Ending | None
    code: int

    def show(self, console: Console) -> None:
        """Print the figures, and the commands that go on."""
        if self.figures is not None:
            console.print()
            show_figures(console, self.figures)
            console.print()
        show_remedies(console, self.todo)

    def show_problem(self) -> None:
        """Print on stderr why the batch has not come to its gate."""
        if self.ending is None:
            return
        batch = self.ending.view.batch
        self.ending.show(err, partial(remedies, batch.batch_id), as_json=False)
        if batch.error:
            print_error(f"batch {batch.batch_id} failed: {batch.error}")


async def run_sample(asked: LaptopRun) -> SampleEnd:
    """Run the sample of an estimate; its batch then waits for approval, which nobody is asked for.

    No call is made if the sample is there already, or if a run has begun with these rows. Raises UsageError,
    SourceError, RetryableError and AccessError.
    """
    stop = stopped_by_signals()
    home = Home(asked.settings.home)
    home.create()
    async with open_laptop(home, asked.settings) as backend:
        starter = Starter(backend, asked.settings.bucket)
        start = await starter.find_sample(asked.command, asked.place)
        if start.note:
            err.print(start.note, style="yellow", markup=False, highlight=False, soft_wrap=True)
        if start.step is Step.KEEP:
            return await _kept(backend, start, asked)
        freeze_modules()
        begin = partial(starter.begin, start, asked.command)
        served = await serve_run(asked, home, backend, start.record, stop, begin)
        return await _ended(backend, start, served, asked)


async def _kept(backend: LaptopBackend, start: Start, asked: LaptopRun) -> SampleEnd:
    """The end of an estimate that makes no call."""
    view = start.view
    assert view is not None
    batch, gate = view.batch, view.batch.gate
    # A file that has no more rows than its sample has ended with it, and its gate was not opened.
    is_whole = batch.state in _DONE and gate is not None and not gate.is_open
    if batch.hold(HoldReason.APPROVAL) is None and not is_whole:
        return SampleEnd(None, [], None, EXIT_OK)
    return SampleEnd(await _figures(backend, view), _todo(view, asked), None, EXIT_OK)


async def _ended(backend: LaptopBackend, start: Start, served: Served, asked: LaptopRun) -> SampleEnd:
    """The end of a sample that was served."""
    view = served.view
    if view is None or served.was_stopped:
        text = f"{progress_text(view, start.record)}; the same command goes on"
        err.print(text, highlight=False, soft_wrap=True)
        return SampleEnd(None if view is None else await _figures(backend, view), [], None, EXIT_INTERRUPTED)
    figures = await _figures(backend, view)
    if view.batch.state in _DONE or waits_only_for_approval(view.batch):
        return SampleEnd(figures, _todo(view, asked), None, EXIT_OK)
    ending = await Ending.read(
        backend.ports, view, {}, undelivered=served.undelivered, hold_s=asked.settings.sweep.hold_s
    )
    return SampleEnd(figures, [], ending, batch_exit_code(view))


async def _figures(backend: LaptopBackend, view: BatchView) -> SampleFigures | None:
    if not view.all_counts.done:
        return None
    hold = view.batch.hold(HoldReason.APPROVAL)
    return figures_of(view, None if hold is None else await read_report(backend.ports, hold))


def _todo(view: BatchView, asked: LaptopRun) -> list[tuple[str, str]]:
    """The commands that go on with the batch of a sample, or write its results."""
    batch, request = view.batch, asked.command.request
    hold = batch.hold(HoldReason.APPROVAL)
    if hold is not None:
        rest = hold.detail["sample"]["rest"]["rows"]
        return [
            (f"rowfleet approve {batch.batch_id}", f"run the other {rest:,} rows"),
            (f"rowfleet reject {batch.batch_id}", "end it, and keep the results of the sample"),
        ]
    if batch.state in _DONE:
        command = shlex.join(["rowfleet", "run", request.source, "--mapping", request.mapping])
        return [(command, "write the results, without a call")]
    return []
