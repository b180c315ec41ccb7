"""`rowfleet run --emulator`: the whole service on an embedded AWS endpoint, for one file."""

from __future__ import annotations

import asyncio
import tempfile
from functools import partial
from pathlib import Path

from service.app.fetching import fetch_results, find_results
from service.app.serve import ROLES
from service.app.settings import Settings
from service.app.status import WITH_RESULTS
from service.app.submit import SubmitRequest
from service.catalog.folders import ReadMappingFiles
from service.cli import local, render
from service.cli.console import EXIT_USAGE, err, out, print_error
from service.cli.running.ending import Ending
from service.cli.status import batch_exit_code, run_remedies
from service.domain.errors import UsageError
from service.domain.model import BatchView


async def run_on_emulator(
    settings: Settings, read_files: ReadMappingFiles, request: SubmitRequest, path: Path, *, as_json: bool
) -> int:
    """Run the file through queues, table and bucket of an endpoint that ends with this command."""
    # The endpoint ends with this command: after an interrupt nothing is left to drain for.
    settings = settings.model_copy(update={"drain_timeout_s": 2.0})
    stop = asyncio.Event()
    async with local.local_service(settings, read_files, ROLES, stop) as service:
        with render.progress(err, quiet=as_json) as report:
            view = await local.run_file(service, request, settings.bucket, report.update)
        files, code = dict[str, Path](), batch_exit_code(view)
        if view.batch.state in WITH_RESULTS:
            files, code = await _download_or_rescue(service, view, path)
        # the endpoint, which holds the batch, ends with this context
        undelivered = await local.await_events(service.backend, view.batch)
        ending = await Ending.read(
            service.backend.ports, view, files, undelivered=undelivered, hold_s=settings.sweep.hold_s
        )
    ending.show(out, partial(run_remedies, request.mapping), as_json=as_json)
    if view.batch.error:
        print_error(f"batch {view.batch.batch_id} failed: {view.batch.error}")
    return code


async def _download_or_rescue(
    service: local.LocalService, view: BatchView, path: Path
) -> tuple[dict[str, Path], int]:
    """Write the results to `path`, or to a new temporary folder if that fails; return files and exit code."""
    objects = service.backend.ports.objects
    results = await find_results(objects, view.batch)
    try:
        return await fetch_results(objects, results, path), batch_exit_code(view)
    except OSError as error:
        problem = f"cannot write {error.filename}: {error.strerror}"
    # The results were paid for, so they are rescued from, say, a full disk. The exit code is still that of an
    # error, because a script that reads `path` would find the results of an earlier run.
    try:
        spare = Path(tempfile.mkdtemp(prefix="rowfleet-results-"))
        files = await fetch_results(objects, results, spare / path.name)
    except OSError as error:
        raise UsageError(
            f"{problem}; nor {error.filename}: {error.strerror}; the results are lost: make room, or name "
            "another place with --out"
        ) from None
    print_error(
        f"{problem}; the results are in {spare}: make room and move them, or name another place with --out"
    )
    return files, EXIT_USAGE
