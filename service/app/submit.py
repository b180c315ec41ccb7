"""Starting a run from a command: upload what is local, publish the job, wait, fetch the results."""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from service.domain.errors import SourceError, UsageError
from service.domain.jobs import Job
from service.domain.model import BatchView, Source, batch_id, is_name, parse_url
from service.domain.ports import Clock, Objects, OutgoingMessage, Queue, Table
from service.runtime.sender import send_all
from service.worker.admission.outages import OutageBoard

CHUNK_BYTES = 2**20
POLL_MIN_S, POLL_MAX_S = 0.1, 2.0
"""How often a waiting command reads its batch: often at first, then less, at 5 % of the time it waits."""


@dataclass(frozen=True, slots=True)
class SubmitRequest:
    """A run to start. `source` is a local path or an `s3://` URL; an empty execution id is made up.

    `deadline_s` counts from the batch's opening; `priority` and `weight` are None where they do not matter.
    """

    source: str
    mapping: str
    execution_id: str = ""
    limit: int | None = None
    deadline_s: int | None = None
    priority: int | None = None
    weight: int | None = None


async def submit(
    request: SubmitRequest, *, table: Table, objects: Objects, ingest: Queue, clock: Clock, bucket: str
) -> str:
    """Upload and publish; the batch id. Raises UsageError where the execution id is another source's."""
    source = await _located(request.source, objects, bucket, request.mapping)
    execution_id = request.execution_id or _new_execution_id(source, clock)
    if not is_name(execution_id):
        raise UsageError(f"--execution-id {execution_id!r}: use 1 to 128 letters, digits, '.', '_' or '-'")
    id_ = batch_id(request.mapping, execution_id)
    existing = await table.read(id_)
    if existing is not None and not existing.batch.source.is_same_object(source):
        raise UsageError(
            f"batch {id_} exists and reads {existing.batch.source.url}; another source needs another "
            "--execution-id"
        )
    job = Job(
        request.mapping, source, execution_id,
        limit=request.limit, deadline_s=request.deadline_s, priority=request.priority, weight=request.weight,
    )  # fmt: skip
    await send_all(ingest, [OutgoingMessage(job.encode())])
    return id_


async def follow(table: Table, clock: Clock, id_: str) -> AsyncIterator[tuple[BatchView | None, str]]:
    """The batch as it moves, until it ends, None before it is opened; and why its target is down, if so."""
    outages = OutageBoard(table, clock)
    started = clock.monotonic()
    while True:
        view = await table.read(id_)
        yield view, await outages.read(view.batch) if view is not None else ""
        if view is not None and view.batch.state.is_final:
            return
        waited = clock.monotonic() - started
        await clock.sleep(min(POLL_MAX_S, max(POLL_MIN_S, waited / 20)))


async def fetch(objects: Objects, bucket: str, key: str, path: Path) -> int:
    """Write an object to `path`, whole or not at all; its size. Raises OSError."""
    source = await objects.head(bucket, key)
    handle, name = await asyncio.to_thread(tempfile.mkstemp, dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            offset = 0
            while offset < source.size:
                chunk = await objects.read(source, offset, 8 * CHUNK_BYTES)
                await asyncio.to_thread(file.write, chunk)
                offset += len(chunk)
        os.chmod(name, 0o666 & ~_umask())  # noqa: PTH101 -- mkstemp made it private
        os.replace(name, path)  # noqa: PTH105
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return source.size


async def _located(source: str, objects: Objects, bucket: str, mapping: str) -> Source:
    """The source in S3, uploaded first where it is a local file."""
    if source.startswith("s3://"):
        try:
            where, key = parse_url(source)
        except ValueError as error:
            raise UsageError(str(error)) from None
        try:
            return await objects.head(where, key)
        except SourceError as error:
            raise UsageError(str(error)) from None
    path = Path(source)
    digest = await asyncio.to_thread(_digest, path)
    key = f"sources/{mapping}/{digest[:16]}/{path.name}"
    async with objects.upload(bucket, key, content_type="text/csv") as upload:
        with path.open("rb") as file:
            while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
                await upload.write(chunk)
        await upload.complete()
    return await objects.head(bucket, key)


def readable(path: str) -> Path:
    """The file, if it can be read. Raises UsageError in words."""
    try:
        with Path(path).open("rb"):
            return Path(path)
    except FileNotFoundError:
        raise UsageError(f"there is no file {path}") from None
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None


def _digest(path: Path) -> str:
    with readable(str(path)).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _new_execution_id(source: Source, clock: Clock) -> str:
    stamp = f"{clock.now_ms() // 1000:x}-{uuid.uuid4().hex[:6]}"
    stem = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in Path(source.key).stem)
    return f"{stem.strip('-._')[:60]}-{stamp}".lstrip("-")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
