"""The status of a batch as its backend has it, once or until the batch ends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from service.app.download import result_paths
from service.app.laptop.home import Home
from service.app.laptop.run_book import STDOUT, RunBook
from service.app.settings import Settings
from service.app.status import (
    WITH_RESULTS,
    can_be_redriven,
    read_batch,
    read_operations,
    sample_failures,
    status_json,
    undelivered_events,
    uses_of,
)
from service.app.submit import Reading, follow
from service.batch.outages import OutageBoard
from service.batch.role_ports import Ports
from service.cli import render
from service.cli.batches.places import Place
from service.cli.console import err, out, print_error, print_json
from service.cli.status import (
    batch_exit_code,
    holds_here,
    redrive_remedies,
    remedies,
    show_held,
    show_remedies,
)
from service.domain.errors import UsageError
from service.domain.model import Batch, BatchView, State, ms_of

_FILES = {"output": "output.csv", "failures": "failures.csv", "manifest": "manifest.json"}
"""The results in `status --json`, and their names."""

FILES_POLL_S = 0.1
"""Time between two looks at files that another process is about to write."""


async def read_status(place: Place, view: BatchView, settings: Settings) -> dict[str, Any]:
    """The object that `status --json` prints. On this machine source and results are files."""
    table, clock = place.ports.table, place.ports.clock
    status = status_json(
        view,
        clock,
        "" if view.batch.state.is_final else await OutageBoard(table, clock).read(view.batch),
        await read_operations(table, view.batch),
        await undelivered_events(table, view.batch),
        hold_s=settings.sweep.hold_s,
        budget_uses=await uses_of(table, view, clock),
    )
    if place.runs is None:
        return status
    return status | {"holds": holds_here(status["holds"])} | await _files(place.runs, view)


async def _files(runs: RunBook, view: BatchView) -> dict[str, str | None]:
    """The file of the run, and the results of this round; None for one that gave way to another result."""
    record = await runs.of_batch(view.batch.batch_id)
    if record is None:
        return dict.fromkeys(_FILES)
    found: dict[str, str | None] = {"source": record.source_place}
    paths = result_paths(Path(record.place))
    for key, name in _FILES.items():
        written = await runs.written(paths[name])
        newest = (written[-1].batch_id, written[-1].round) if written else None
        is_there = newest == (view.batch.batch_id, view.batch.round) and paths[name].exists()
        found[key] = str(paths[name]) if is_there else None
    return found


async def read_source(place: Place, batch: Batch) -> str:
    """The source of a batch as users know it: on this machine the file that `run` was called with."""
    record = None if place.runs is None else await place.runs.of_batch(batch.batch_id)
    return batch.source.url if record is None else record.source_place


async def read_remedies(
    place: Place, view: BatchView, status_object: Mapping[str, Any]
) -> list[tuple[str, str]]:
    """Commands that go on with a batch that is held or that no process serves, or run rows again."""
    batch = view.batch
    if batch.state is State.PAUSED:
        return remedies(batch.batch_id, status_object["holds"])
    if not batch.state.is_final and place.home is not None and place.home.process is None:
        return [
            (f"rowfleet resume {batch.batch_id}", "go on: no process serves it now"),
            (f"rowfleet cancel {batch.batch_id}", "end it, and write the results of what is done"),
        ]
    if not can_be_redriven(batch, place.ports.clock.now_ms()):
        return []
    failures = await sample_failures(place.ports.table, batch) if view.all_counts.failed else []
    return redrive_remedies(view, failures)


async def follow_to_end(
    place: Place, id_: str, settings: Settings, *, as_json: bool, replaces: Batch | None = None
) -> int:
    """Show the progress of a batch until it ends or is held; return its exit code.

    Raises UsageError for a batch of this machine that no process serves.
    """
    view: BatchView | None = None
    readings = follow(place.ports, id_, replaces=replaces)
    with render.progress(err, quiet=as_json) as report:
        async for reading in (
            readings if place.home is None else _while_served(readings, place.home, place.ports)
        ):
            view = reading.view
            report.update(reading)
    assert view is not None
    await _await_files(place, view)
    status_object = await read_status(place, view, settings)
    # with --json too, which has the error on stdout
    if view.batch.error:
        print_error(f"batch {id_} failed: {view.batch.error}")
    if as_json:
        print_json(status_object)
    elif view.batch.state is State.PAUSED:
        show_held(out, status_object, await read_remedies(place, view, status_object))
    elif not view.batch.error:
        files = {name: status_object[name] for name in _FILES if status_object[name]}
        render.show_finished(out, status_object, files)
        show_remedies(out, await read_remedies(place, view, status_object))
    return batch_exit_code(view)


async def _await_files(place: Place, view: BatchView) -> None:
    """Wait until the process that has just ended a local batch has written its files, or is gone.

    On AWS there is nothing to wait for.
    """
    if place.home is None or place.runs is None or view.batch.state not in WITH_RESULTS:
        return
    record, process = await place.runs.of_batch(view.batch.batch_id), place.home.process
    if record is None or record.out == STDOUT or ms_of(view.batch.finished_at) < place.home.served_since_ms:
        return
    while process is not None and place.home.process == process:
        if (await _files(place.runs, view))["output"]:
            return
        await place.ports.clock.sleep(FILES_POLL_S)


async def _while_served(readings: AsyncIterator[Reading], home: Home, ports: Ports) -> AsyncIterator[Reading]:
    """The readings while a process serves batches of this machine. Raises UsageError once there is none."""
    async for reading in readings:
        is_served = home.process is not None
        if not is_served and reading.view is not None:
            # it may have ended between the reading and its process
            view = await read_batch(ports.table, reading.view.batch.batch_id)
            if not (view.batch.state.is_final or view.batch.state is State.PAUSED):
                id_ = view.batch.batch_id
                raise UsageError(f"no process serves {id_} now: `rowfleet resume {id_}` goes on with it")
        yield reading
