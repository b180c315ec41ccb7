"""The whole service in one process: an embedded endpoint, its resources and all roles.

`rowfleet run` runs it for one file, `rowfleet local` until it is told to stop. Roles, adapters and messages
are those of production; only the endpoint differs.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import BaseModel

from service.adapters.aws.clients import AwsOptions, open_clients
from service.app.aws.backend import AwsBackend, aws_options, backend_on, setup
from service.app.serve import serve
from service.app.settings import Settings
from service.app.status import undelivered_events
from service.app.submit import Reading, SubmitRequest, follow, submit
from service.catalog.folders import ReadMappingFiles
from service.cli import embedded
from service.domain.model import Batch, BatchView
from service.runtime.metrics import Metrics, count_calls
from service.runtime.tasks import task_group

EVENTS_WAIT_S = 15.0
"""Longest wait for the delivery of events: what is left then ends with the endpoint."""

POLL_WAIT_S = 1.0
"""Long polls are short here because a stop waits for the poll in flight."""

SPLIT_DEFAULTS = {
    "max_queued_rows": 300,
    "checkpoint_rows": 100,
    "read_bytes": 64 * 1024,
    "partition_bytes": 32 * 1024,
    "max_partitions": 64,
}
"""Defaults of the section `split` for ministack.

Its calls take time in proportion to the messages in a queue and the items under a partition key. So the
splitter keeps just ahead of the workers, and a batch is spread over more partitions than AWS needs.

Its queues are first in, first out: a small batch waits behind the rows that each large batch has queued,
fewer than 400. That many keep the workers busy: 64 rows are at the agent, about 100 are being committed, and
the rest lasts until the splitter checks the queue again. A splitter that waits holds the bytes that it has
read, so it reads little at a time.
"""

SWEEP_DEFAULTS = {"interval_s": 5.0, "stuck_after_s": 30.0}
"""Defaults of the section `sweep`. A user waits for the batch, so lost messages are looked for early."""


@dataclass(frozen=True, slots=True)
class LocalService:
    """A running local service."""

    url: str
    backend: AwsBackend


def local_settings(settings: Settings) -> Settings:
    """The settings with the defaults of a local service. Values that were set stay."""
    changes: dict[str, BaseModel] = {
        "split": _with_defaults(settings.split, SPLIT_DEFAULTS),
        "sweep": _with_defaults(settings.sweep, SWEEP_DEFAULTS),
    }
    for name in ("ingest", "rows", "results"):  # the sections of the three queues
        changes[name] = _with_defaults(getattr(settings, name), {"poll_wait_s": POLL_WAIT_S})
    return settings.model_copy(update=changes)


def _with_defaults(section: BaseModel, defaults: Mapping[str, float]) -> BaseModel:
    return section.model_copy(
        update={name: value for name, value in defaults.items() if name not in section.model_fields_set}
    )


def local_options(settings: Settings, url: str) -> AwsOptions:
    """Options of the embedded endpoint, with its own region and keys, not those of the environment."""
    aws = settings.aws.model_copy(update={"region": embedded.REGION})
    return replace(
        aws_options(settings.model_copy(update={"aws": aws})),
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
) -> AsyncIterator[LocalService]:
    """Run endpoint and roles; leaving the context drains them. Raises ConfigError if a role cannot start."""
    settings = local_settings(settings)
    async with embedded.embedded_endpoint(port, data_dir) as url:
        options = local_options(settings, url)
        metrics = Metrics()
        async with open_clients(options, count_calls(metrics)) as clients:
            await setup(clients, settings)
            # `setup` has created the queues, so they are found at once
            backend = backend_on(clients, settings, metrics)
            await backend.find_queues()
            ready = asyncio.Event()
            work = serve(backend, settings, mappings, roles, stop, on_ready=lambda _: ready.set())
            async with _run_beside(work, stop):
                await ready.wait()
                yield LocalService(url, backend)


@asynccontextmanager
async def _run_beside(work: Coroutine[None, None, None], stop: asyncio.Event) -> AsyncIterator[None]:
    """Run `work` beside the body. If it fails the body is cancelled; when the body ends, `stop` is set."""
    async with task_group() as group:
        task = group.create_task(work)
        try:
            yield
        finally:
            stop.set()
            await asyncio.wait({task})


async def await_events(backend: AwsBackend, batch: Batch) -> int:
    """Wait until the batch's events are delivered, `EVENTS_WAIT_S` at most; return how many are not."""
    table, clock = backend.ports.table, backend.ports.clock
    ends_at = clock.monotonic() + EVENTS_WAIT_S
    left = await undelivered_events(table, batch)
    while left and clock.monotonic() < ends_at:
        await clock.sleep(0.2)
        left = await undelivered_events(table, batch)
    return left


async def run_file(
    service: LocalService,
    request: SubmitRequest,
    bucket: str,
    on_progress: Callable[[Reading], None],
) -> BatchView:
    """Submit a run and follow it; return the batch when it has ended or is held. Raises UsageError."""
    ports = service.backend.ports
    submission = await submit(ports, request, bucket)
    final: BatchView | None = None
    async for reading in follow(ports, submission.batch_id):
        final = reading.view
        on_progress(reading)
    assert final is not None
    return final
