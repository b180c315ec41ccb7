"""Commands about batches: `submit`, `status`, `watch`, `list`, `errors`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any, TypeVar

import typer

from service.app.aws_backend import DEAD_LETTER_QUEUES, AwsBackend, aws_options, connect
from service.app.dead_letters import DeadLetterQueues, count_or_none
from service.app.settings import Settings
from service.app.status import (
    can_be_redriven,
    group_failures,
    read_batch,
    read_failed_row,
    read_operations,
    sample_failures,
    status_json,
    undelivered_events,
)
from service.app.submit import SubmitRequest, check_request, follow, submit
from service.app.wiring.limits import reserved_places
from service.batch.outages import OutageBoard
from service.cli import render
from service.cli.console import (
    BATCH_CODES,
    COMMAND_CODES,
    EXIT_OK,
    batch_exit_code,
    err,
    exit_with,
    out,
    print_error,
    print_json,
    print_line,
    run_async,
)
from service.cli.options import (
    BatchArgument,
    DeadlineOption,
    DelimiterOption,
    EncodingOption,
    EndpointOption,
    HoldOption,
    JsonOption,
    LimitOption,
    MappingOption,
    PriorityOption,
    RegionOption,
    TolerateOption,
    TroublePauseOption,
    WeightOption,
    log_as_command,
    read_settings,
)
from service.cli.status import redrive_remedies, remedies, show_held, show_remedies, show_status
from service.domain.model import Batch, BatchView, Outcome, State

T = TypeVar("T")

app = typer.Typer()


@app.command(name="submit", epilog=BATCH_CODES)
def submit_(
    source: Annotated[str, typer.Argument(metavar="FILE|s3://…", help="A local file, or one in S3.")],
    mapping: MappingOption,
    *,
    execution_id: Annotated[
        str, typer.Option(help="Name of this run; the same name is never run twice.", show_default=False)
    ] = "",
    limit: LimitOption = None,
    deadline: DeadlineOption = None,
    priority: PriorityOption = None,
    weight: WeightOption = None,
    delimiter: DelimiterOption = None,
    encoding: EncodingOption = None,
    tolerate: TolerateOption = None,
    hold_s: HoldOption = None,
    trouble_pause_s: TroublePauseOption = None,
    output: Annotated[
        str,
        typer.Option(
            metavar="s3://BUCKET/PREFIX/",
            show_default="results/MAPPING/EXECUTION/ in the service's bucket",
            help="Where the results are written.",
        ),
    ] = "",
    wait: Annotated[
        bool, typer.Option("--wait", help="Follow it until it ends or is held; exit as `run` does.")
    ] = False,
    as_json: JsonOption = False,
    endpoint_url: EndpointOption = None,
    region: RegionOption = None,
) -> None:
    """Start a run on a deployed or local service."""
    settings = read_settings(endpoint_url=endpoint_url, region=region)
    request = SubmitRequest(
        source=source,
        mapping=mapping,
        execution_id=execution_id,
        limit=limit,
        deadline_s=deadline,
        priority=priority,
        weight=weight,
        delimiter=delimiter,
        encoding=encoding,
        tolerate=tolerate,
        hold_s=hold_s,
        trouble_pause_s=trouble_pause_s,
        output=output,
    )
    check_request(request, reserved_places(settings))  # before AWS is called

    async def work(backend: AwsBackend) -> int:
        return await _submit(backend, request, settings, wait=wait, as_json=as_json)

    exit_with(_run_on_backend(settings, work))


Work = Callable[[AwsBackend, Settings, str, bool], Awaitable[int]]
"""A command for one batch: gets the batch's id and `--json`, and returns the exit code."""


def _batch_command(codes: str) -> Callable[[Work], None]:
    """Add a command that has no options of its own; its name and help are those of the function."""

    def add(work: Work) -> None:
        @app.command(name=work.__name__, help=work.__doc__, epilog=codes)
        def command(
            batch: BatchArgument,
            as_json: JsonOption = False,
            endpoint_url: EndpointOption = None,
            region: RegionOption = None,
        ) -> None:
            settings = read_settings(endpoint_url=endpoint_url, region=region)
            exit_with(_run_on_backend(settings, lambda backend: work(backend, settings, batch, as_json)))

    return add


@_batch_command(COMMAND_CODES)
async def status(backend: AwsBackend, settings: Settings, batch: str, as_json: bool) -> int:
    """How far a batch is, and what keeps it."""
    view = await read_batch(backend.ports.table, batch)
    status_object = await _status(backend, view, settings)
    counts = await _dead_letters(backend, settings)
    if as_json:
        print_json(status_object | {"dead_letters": counts})
    else:
        show_status(out, status_object, await _remedies(backend, view, status_object))
        render.show_dead_letter_count(err, counts)
    return EXIT_OK


@_batch_command(BATCH_CODES)
async def watch(backend: AwsBackend, settings: Settings, batch: str, as_json: bool) -> int:
    """Follow a batch until it ends or is held; exit as `run` does."""
    await read_batch(backend.ports.table, batch)
    return await follow_to_end(backend, batch, settings, as_json=as_json)


@app.command(name="list")
def list_(
    limit: Annotated[int, typer.Option("--limit", min=1, max=1_000, help="The latest N.")] = 20,
    as_json: JsonOption = False,
    endpoint_url: EndpointOption = None,
    region: RegionOption = None,
) -> None:
    """The latest batches."""

    async def work(backend: AwsBackend) -> None:
        batches = await backend.ports.table.recent(limit)
        if as_json:
            views = await asyncio.gather(*(backend.ports.table.read(found.batch_id) for found in batches))
            print_json(await asyncio.gather(*(_status(backend, view, settings) for view in views if view)))
        else:
            render.show_batches(out, batches)
        render.show_dead_letter_count(err, await _dead_letters(backend, settings))

    settings = read_settings(endpoint_url=endpoint_url, region=region)
    _run_on_backend(settings, work)


@app.command()
def errors(
    batch: BatchArgument,
    row: Annotated[
        int | None,
        typer.Option("--row", min=1, help="One failed row, and the reply that was kept.", show_default=False),
    ] = None,
    as_json: JsonOption = False,
    endpoint_url: EndpointOption = None,
    region: RegionOption = None,
) -> None:
    """Why rows failed, grouped by cause."""

    async def work(backend: AwsBackend) -> None:
        view = await read_batch(backend.ports.table, batch)
        if row is not None:
            _show_row(
                await read_failed_row(backend.ports.table, backend.ports.large_outcomes, view.batch, row),
                as_json=as_json,
            )
            return
        groups = await group_failures(backend.ports.table, view.batch)
        if as_json:
            print_json(
                {
                    "batch_id": batch,
                    "state": str(view.batch.state),
                    "error": view.batch.error or None,
                    "failed": view.all_counts.failed,
                    "causes": [group.as_json() for group in groups],
                }
            )
            return
        if view.batch.error:
            out.print(f"the batch failed: {view.batch.error}", style="red", markup=False)
        render.show_failures(out, groups)

    _run_on_backend(read_settings(endpoint_url=endpoint_url, region=region), work)


async def _submit(
    backend: AwsBackend, request: SubmitRequest, settings: Settings, *, wait: bool, as_json: bool
) -> int:
    """Submit a run and print its batch id; with `wait`, follow it. Return the exit code."""
    submission = await submit(backend.ports, request, settings.bucket)
    id_ = submission.batch_id
    if wait:
        # stdout is for the result
        if not as_json:
            err.print(id_, highlight=False, markup=False)
        return await follow_to_end(backend, id_, settings, as_json=as_json, replaces=submission.replaces)
    if as_json:
        print_json({"batch_id": id_})
    else:
        print_line(id_)
    return EXIT_OK


async def _status(backend: AwsBackend, view: BatchView, settings: Settings) -> dict[str, Any]:
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


async def _remedies(
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


async def _dead_letters(backend: AwsBackend, settings: Settings) -> dict[str, int] | None:
    """The number of dead letters by queue; None if they cannot be counted."""
    queues = DeadLetterQueues(backend.ports.queues, backend.ports.table, settings.incoming_prefix)
    return await count_or_none(backend.find_queues(DEAD_LETTER_QUEUES), queues)


def _show_row(outcome: Outcome, *, as_json: bool) -> None:
    """Print errors to stderr and the kept reply to stdout, unchanged, for `rowfleet try NAME -`.

    The outcomes of earlier rounds come first.
    """
    error = outcome.error
    if as_json:
        print_json(
            {
                "row": outcome.number,
                "round": outcome.round,
                "type": error and error.type,
                "class": error and error.failure_class,
                "message": error and error.message,
                "attempts": outcome.attempts,
                "input_data": outcome.input_data,
                "reply": outcome.raw_reply or None,
                "history": [past.as_json() for past in outcome.history],
            }
        )
        return
    for past in outcome.history:
        reason = f"{past.error.type}: {past.error.message}" if past.error else str(past.status)
        err.print(f"round {past.round}, {past.timestamp}: {reason}", markup=False, highlight=False)
    reason = f"{error.type}: {error.message}" if error else str(outcome.status)
    err.print(f"row {outcome.number}: {reason}", markup=False, highlight=False)
    if outcome.raw_reply:
        print_line(outcome.raw_reply)


def _run_on_backend(settings: Settings, work: Callable[[AwsBackend], Awaitable[T]]) -> T:
    """Run `work` on an open backend."""
    log_as_command(settings)

    async def connected() -> T:
        async with connect(settings, aws_options(settings)) as backend:
            return await work(backend)

    return run_async(connected())


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
    status_object = await _status(backend, view, settings)
    # with --json too, which has the error on stdout
    if view.batch.error:
        print_error(f"batch {id_} failed: {view.batch.error}")
    if as_json:
        print_json(status_object)
    elif view.batch.state is State.PAUSED:
        show_held(out, status_object, await _remedies(backend, view, status_object))
    elif not view.batch.error:
        names = ("output", "failures", "manifest")
        files = {name: status_object[name] for name in names if status_object[name]}
        render.show_finished(out, status_object, files)
        show_remedies(out, await _remedies(backend, view, status_object))
    return batch_exit_code(view)
