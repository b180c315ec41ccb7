"""The status of a batch as its backend has it, once or until the batch ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.app.aws.backend import AwsBackend
from service.app.settings import Settings
from service.app.status import (
    can_be_redriven,
    read_operations,
    sample_failures,
    status_json,
    undelivered_events,
)
from service.app.submit import follow
from service.batch.outages import OutageBoard
from service.cli import render
from service.cli.console import err, out, print_error, print_json
from service.cli.status import batch_exit_code, redrive_remedies, remedies, show_held, show_remedies
from service.domain.model import Batch, BatchView, State


async def read_status(backend: AwsBackend, view: BatchView, settings: Settings) -> dict[str, Any]:
    """The object that `status --json` prints."""
    table, clock = backend.ports.table, backend.ports.clock
    return status_json(
        view,
        clock,
        "" if view.batch.state.is_final else await OutageBoard(table, clock).read(view.batch),
        await read_operations(table, view.batch),
        await undelivered_events(table, view.batch),
        hold_s=settings.sweep.hold_s,
    )


async def read_remedies(
    backend: AwsBackend, view: BatchView, status_object: Mapping[str, Any]
) -> list[tuple[str, str]]:
    """Commands that go on with a held batch, or run rows of an ended one again."""
    batch = view.batch
    if batch.state is State.PAUSED:
        return remedies(batch.batch_id, status_object["holds"])
    if not can_be_redriven(batch, backend.ports.clock.now_ms()):
        return []
    failures = await sample_failures(backend.ports.table, batch) if view.all_counts.failed else []
    return redrive_remedies(view, failures)


async def follow_to_end(
    backend: AwsBackend, id_: str, settings: Settings, *, as_json: bool, replaces: Batch | None = None
) -> int:
    """Show the progress of a batch until it ends or is held; return its exit code."""
    view: BatchView | None = None
    with render.progress(err, quiet=as_json) as report:
        async for reading in follow(backend.ports, id_, replaces=replaces):
            view = reading.view
            report.update(reading)
    assert view is not None
    status_object = await read_status(backend, view, settings)
    # with --json too, which has the error on stdout
    if view.batch.error:
        print_error(f"batch {id_} failed: {view.batch.error}")
    if as_json:
        print_json(status_object)
    elif view.batch.state is State.PAUSED:
        show_held(out, status_object, await read_remedies(backend, view, status_object))
    elif not view.batch.error:
        names = ("output", "failures", "manifest")
        files = {name: status_object[name] for name in names if status_object[name]}
        render.show_finished(out, status_object, files)
        show_remedies(out, await read_remedies(backend, view, status_object))
    return batch_exit_code(view)
