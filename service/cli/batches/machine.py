"""Operations on batches of this machine: this process runs the pipeline where no other one does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

from service.adapters.sqlite.errors import StoreInUseError
from service.app.laptop.backend import LaptopBackend, open_laptop
from service.app.laptop.going_on import go_on
from service.app.laptop.home import Home, local_user
from service.app.laptop.results import Replaced, find_replaced
from service.app.laptop.run_book import STDOUT, RunRecord
from service.app.laptop.serving import BatchServer
from service.app.laptop.steering import cancel_here, open_round_here, operate_here, resume_here
from service.app.laptop.tuning import laptop_settings
from service.app.settings import Settings
from service.app.wiring.agents import check_agent
from service.batch.role_ports import Ports
from service.batch.source import compile_stored, stored_definition
from service.catalog.files import MappingFiles
from service.catalog.folders import ReadMappingFiles, fixed_files
from service.cli import render
from service.cli.batches.asking import AskedOperation, show_answer
from service.cli.configuration import load_mappings
from service.cli.console import EXIT_BATCH_FAILED, EXIT_FAILED_ROWS, EXIT_OK, err, print_warning, run_async
from service.cli.garbage import freeze_modules
from service.cli.running.laptop import EndReport, stopped_by_signals
from service.domain.errors import MappingError, UsageError
from service.domain.model import Operation
from service.domain.operation_requests import OperationRequest
from service.runtime.clock import SystemClock
from service.steering.operate import operate, read_existing

_NO_PIPELINE = ("pause", "set")
"""Operations that change the batch and leave nothing to do."""

_MAKES_CALLS = ("resume", "approve", "redrive")

_STOPS_PROCESS = ("cancel", "reject")
"""Operations that the process which serves the batch carries out."""

_ENDS_BATCH = (*_STOPS_PROCESS, "finish")
"""Operations that are done once the results are written, whatever the rows have come to."""

_Begin = Callable[[Ports, OperationRequest], Awaitable[Operation | None]]


def operate_on_machine(asked: AskedOperation, settings: Settings) -> int:
    """Carry out the operation; return the exit code, that of `run` where the pipeline ran."""
    if asked.op in _NO_PIPELINE:
        return run_async(_ask(asked, settings))
    read_files = _mapping_files(settings, is_needed=bool(asked.args.get("mapping_now")))
    return run_async(_serve_or_ask(asked, settings, read_files))


def _mapping_files(settings: Settings, *, is_needed: bool) -> ReadMappingFiles:
    """The present mappings, none if they cannot be read and are not needed: a batch has its own."""
    try:
        return load_mappings(settings)[0]
    except MappingError:
        if is_needed:
            raise
        return fixed_files(MappingFiles())


async def _ask(asked: AskedOperation, settings: Settings) -> int:
    home, request = Home(settings.home), asked.request(local_user())
    answer = await operate_here(home, settings, request, SystemClock())
    async with open_laptop(home, settings, read_only=True) as backend:
        await show_answer(backend.ports.table, request, answer, as_json=asked.as_json)
    return EXIT_OK


async def _serve_or_ask(asked: AskedOperation, settings: Settings, read_files: ReadMappingFiles) -> int:
    """Serve the batch; if a process does, have it cancel. Raises StoreInUseError for other operations."""
    home = Home(settings.home)
    try:
        async with open_laptop(home, settings) as backend:
            if asked.op in _MAKES_CALLS:
                await _check_agent(backend.ports, asked.batch, settings)
            return await _serve(asked, settings, read_files, home, backend)
    except StoreInUseError:
        if asked.op not in _STOPS_PROCESS:
            raise
    return await _ask(asked, settings)


async def _check_agent(ports: Ports, batch_id: str, settings: Settings) -> None:
    """Check the agent of the batch before its rows meet it."""
    batch = (await read_existing(ports.table, batch_id)).batch
    await check_agent(settings, compile_stored(await stored_definition(ports.table, batch), batch))


async def _serve(
    asked: AskedOperation,
    settings: Settings,
    read_files: ReadMappingFiles,
    home: Home,
    backend: LaptopBackend,
) -> int:
    """Run the pipeline for the batch until it ends, is held, or the user stops it."""
    stop = stopped_by_signals()
    request, answers = asked.request(local_user()), list[Operation]()
    settings = laptop_settings(settings, concurrency=asked.concurrency)
    record = await backend.runs.of_batch(asked.batch) or _unknown_run(asked.batch)
    record = replace(record, out=record.place)
    writes, replaced = await _may_write(backend, record, as_json=asked.as_json)

    async def begin() -> None:
        answer = await _BEGIN[asked.op](backend.ports, request)
        if answer is None:
            return
        answers.append(answer)
        if answer.control:
            err.print(str(answer.answer["text"]), markup=False, highlight=False, soft_wrap=True)

    if is_early := asked.op == "approve" and not asked.args.get("mapping_now"):
        # Before the sweeper of the pipeline, which ends holds that have lasted too long.
        await begin()
    with render.progress(err, quiet=asked.as_json, estimate=record.records) as progress:
        freeze_modules()
        server = BatchServer(home, backend, settings, read_files, stop, progress.update)
        served = await server.serve(asked.batch, None if is_early else begin)
    if answers and not answers[0].control:
        # nothing had to be changed, so there is no new result
        await show_answer(backend.ports.table, request, answers[0], as_json=asked.as_json)
        return EXIT_OK
    report = EndReport(backend, settings, as_json=asked.as_json, writes=writes)
    code = await report.show(served, record, replaced)
    is_done = asked.op in _ENDS_BATCH and served.view is not None and not served.view.batch.error
    return EXIT_OK if is_done and code in (EXIT_BATCH_FAILED, EXIT_FAILED_ROWS) else code


async def _may_write(
    backend: LaptopBackend, record: RunRecord, *, as_json: bool
) -> tuple[bool, Replaced | None]:
    """True if the results may be written to the place of the run; and the earlier result there."""
    if record.out == STDOUT:
        return not as_json, None
    try:
        return True, await find_replaced(backend.runs, Path(record.out), force=False)
    except UsageError:
        print_warning(
            f"{record.out} was changed since it was written, and stays as it is: `rowfleet fetch "
            f"{record.batch_id} --out FILE` writes the new result"
        )
        return False, None


def _unknown_run(batch_id: str) -> RunRecord:
    """The record of a batch whose own is missing: its results are beside the store."""
    return RunRecord(batch_id, source="", out=f"{batch_id.partition('#')[2]}.csv", key="", sending_key="")


async def _resume(ports: Ports, request: OperationRequest) -> Operation | None:
    if request.args.get("mapping_now"):
        return await open_round_here(ports, request)
    await resume_here(ports, request)
    return None


async def _approve(ports: Ports, request: OperationRequest) -> Operation | None:
    if request.args.get("mapping_now"):
        return await open_round_here(ports, request)
    answer = await operate(ports, request)
    view = await read_existing(ports.table, request.batch_id)
    if answer.control or view.batch.state.is_final:
        return answer
    # It was approved before, and the process that served it has ended.
    await go_on(ports, view, request.by)
    return None


_BEGIN: dict[str, _Begin] = {
    "resume": _resume,
    "approve": _approve,
    "reject": operate,
    "redrive": open_round_here,
    "remap": open_round_here,
    "cancel": cancel_here,
    "finish": operate,
}
"""The first step of each operation, with the pipeline running."""
