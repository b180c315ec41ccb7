"""The whole service on one machine: an embedded endpoint, its resources, and the roles, in one process.

`rowfleet run` keeps it for one file, `rowfleet local` until it is told to stop. The stages, adapters and
messages are those of production; only the endpoint is another.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import BaseModel

from service.adapters.aws.clients import AwsOptions, open_clients
from service.app.backend import Backend, aws_options, backend_on, setup, start
from service.app.serve import serve
from service.app.settings import Settings
from service.app.submit import SubmitRequest, fetch, follow
from service.catalog.folders import ReadMappingFiles
from service.cli import embedded
from service.domain.errors import first_of
from service.domain.model import BatchView
from service.runtime.metrics import Metrics, count_calls

POLL_WAIT_S = 1.0
"""Long polls of a laptop: a stop does not have to wait long for the poll in flight."""

SPLIT = {
    "max_queued_rows": 300,
    "checkpoint_rows": 100,
    "read_bytes": 64 * 1024,
    "partition_bytes": 32 * 1024,
    "max_partitions": 64,
}
"""ministack's calls take time in proportion to the messages in a queue and the items under a partition key.

So the splitter keeps just ahead of the workers, and a batch is spread over more partitions than AWS needs.
Its queues are first in, first out as well: a small batch waits for what each large one has sent, fewer than
400 rows. That many keep the workers busy: 64 rows are at the agent, some 100 are being committed, and the
rest lasts until the splitter looks again. A source that waits for room holds what it has read, which is
therefore little.
"""


SWEEP = {"interval_s": 5.0, "stuck_after_s": 30.0}
"""Somebody watches the batch of a laptop: what is lost is looked for soon."""


@dataclass(frozen=True, slots=True)
class Local:
    """A running local service."""

    url: str
    backend: Backend


def local_settings(settings: Settings) -> Settings:
    """The settings with what suits a laptop, where nothing else was asked for."""
    changes: dict[str, BaseModel] = {
        "split": _defaulted(settings.split, SPLIT),
        "sweep": _defaulted(settings.sweep, SWEEP),
    }
    for name in ("ingest", "rows", "results"):
        changes[name] = _defaulted(getattr(settings, name), {"poll_wait_s": POLL_WAIT_S})
    return settings.model_copy(update=changes)


def _defaulted(section: BaseModel, suited: Mapping[str, float]) -> BaseModel:
    return section.model_copy(
        update={name: value for name, value in suited.items() if name not in section.model_fields_set}
    )


def local_options(settings: Settings, url: str) -> AwsOptions:
    """How the embedded endpoint is reached: its own region and keys, whatever the environment says."""
    anywhere = settings.model_copy(
        update={"aws": settings.aws.model_copy(update={"region": embedded.REGION})}
    )
    return replace(
        aws_options(anywhere),
        endpoint_url=url,
        access_key=embedded.ACCESS_KEY,
        secret_key=embedded.SECRET_KEY,
    )


@asynccontextmanager
async def local_service(
    settings: Settings,
    mappings: ReadMappingFiles,
    roles: Collection[str],
    stop: asyncio.Event,
    *,
    port: int = 0,
    data_dir: Path | None = None,
) -> AsyncIterator[Local]:
    """Everything running; leaving drains it. Raises ConfigError, also when a role cannot start."""
    settings = local_settings(settings)
    async with embedded.embedded_endpoint(port, data_dir) as url:
        options = local_options(settings, url)
        metrics = Metrics()
        async with open_clients(options, count_calls(metrics)) as clients:
            await setup(clients, settings)
            backend = backend_on(clients, settings, metrics)
            await backend.find()
            ready = asyncio.Event()
            work = serve(backend, settings, mappings, roles, stop, on_ready=lambda _: ready.set())
            async with _alongside(work, stop):
                await ready.wait()
                yield Local(url, backend)


@asynccontextmanager
async def _alongside(work: Coroutine[None, None, None], stop: asyncio.Event) -> AsyncIterator[None]:
    """Run `work` beside the body: if it fails the body is cancelled, and when the body ends it is stopped."""
    try:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(work)
            try:
                yield
            finally:
                stop.set()
                await asyncio.wait({task})
    except BaseExceptionGroup as errors:
        raise first_of(errors) from None


async def run_file(
    local: Local, request: SubmitRequest, bucket: str, on_progress: Callable[[BatchView | None, str], None]
) -> BatchView:
    """Submit and follow one file; the batch as it ended. Raises UsageError."""
    backend = local.backend
    id_ = await start(backend, request, bucket)
    final: BatchView | None = None
    async for final, trouble in follow(backend.ports.table, backend.ports.clock, id_):
        on_progress(final, trouble)
    assert final is not None
    return final


def result_paths(out: Path) -> dict[str, Path]:
    """Where results go: `OUT.csv`, `OUT.failures.csv` and `OUT.manifest.json`, by their names in S3."""
    return {
        "output.csv": out,
        "failures.csv": out.with_name(f"{out.stem}.failures.csv"),
        "manifest.json": out.with_name(f"{out.stem}.manifest.json"),
    }


async def fetch_results(backend: Backend, view: BatchView, out: Path) -> dict[str, Path]:
    """Write the results of a batch, all or none; raises OSError with the file that could not be written.

    An earlier run's go once all of these are on the disk: its failures are no failures of this one. The
    manifest comes last, so that where one lies everything beside it belongs to it.
    """
    output = view.batch.results
    paths = result_paths(out)
    earlier = [paths["manifest.json"], paths["failures.csv"]]
    if not view.counts.failed:
        del paths["failures.csv"]
    path = out
    try:
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as staging:
            for name, path in paths.items():
                await fetch(
                    backend.ports.objects, output.bucket, output.prefix + name, Path(staging, path.name)
                )
            for path in earlier:
                path.unlink(missing_ok=True)
            for path in paths.values():
                Path(staging, path.name).replace(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    return paths
