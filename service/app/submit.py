"""Start a run from a command: upload a local file, publish the job, follow the batch."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from service.app.status import read_operations
from service.batch.job_checks import can_reopen, refusal
from service.batch.outages import OutageBoard
from service.batch.role_ports import Ports
from service.csvio import CsvReader
from service.domain.errors import AccessError, CsvError, RetryableError, SourceError, UsageError
from service.domain.jobs import Job, output_conflict, output_location
from service.domain.model import (
    NO_BUDGET,
    Batch,
    BatchView,
    Budget,
    Json,
    Location,
    Operation,
    Source,
    State,
    batch_id,
    is_name,
    parse_url,
)
from service.domain.ports import Clock, Objects, OutgoingMessage, Queue
from service.domain.tolerance import ToleranceError, parse_tolerance
from service.runtime.sender import send_all

CHUNK_BYTES = 2**20
AUTO = "auto"
ID_OPTION = "--execution-id"

POLL_MIN_S, POLL_MAX_S = 0.1, 2.0
"""Shortest and longest pause between two reads of a followed batch. Within them, 5 % of the time so far."""


REPLACED_AFTER_S = 120.0
"""Time after which a failed batch is replaced if no job waits any more. SQS counts messages a minute late."""


@dataclass(frozen=True, slots=True)
class SubmitRequest:
    """A run to start. `source` is a local path or an `s3://` URL; an empty execution id is generated.

    `deadline_s` counts from the opening of the batch, `hold_s` from the begin of a hold. None leaves an
    option out of the job. `output` is an `s3://` URL with a prefix; "" for the place of jobs without an
    output. `approval`: the options of an approval that are given (`domain.approval.options`).
    """

    source: str
    mapping: str
    execution_id: str = ""
    limit: int | None = None
    deadline_s: int | None = None
    priority: int | None = None
    weight: int | None = None
    delimiter: str | None = None
    encoding: str | None = None
    tolerate: str | None = None
    hold_s: int | None = None
    trouble_pause_s: int | None = None
    output: str = ""
    budget: Budget = NO_BUDGET
    approval: Mapping[str, Json] = field(default_factory=dict)


def check_request(request: SubmitRequest, reserved: Mapping[Location, str]) -> None:
    """Raise UsageError for a request that is wrong whatever is stored.

    `reserved` are places that no job may write its results into, each with the reason.
    """
    check_format(request)
    check_tolerance(request)
    if request.source.startswith("s3://"):
        source = Source(*_bucket_and_key(request.source))
    else:
        check_readable(request.source)
        source = Source("", "")
    job = Job(mapping=request.mapping, source=source, output=_output(request))
    if conflict := output_conflict(job, reserved):
        raise UsageError(f"--output: {conflict}")


@dataclass(frozen=True, slots=True)
class Submission:
    """A published job. `replaces`: the batch that had the id, and failed before a row was sent; or None."""

    batch_id: str
    replaces: Batch | None = None


async def submit(ports: Ports, request: SubmitRequest, bucket: str) -> Submission:
    """Publish the job of a run. A local file is uploaded to `bucket` first.

    Raises UsageError if the request is invalid or its execution id belongs to another run, one with another
    source, options or output.
    """
    check_format(request)
    check_tolerance(request)
    source = await _find_or_upload(request, ports.objects, bucket)
    execution_id = request.execution_id or _new_execution_id(source, ports.clock)
    if not is_name(execution_id):
        raise UsageError(f"--execution-id {execution_id!r}: use 1 to 128 letters, digits, '.', '_' or '-'")
    id_ = batch_id(request.mapping, execution_id)
    job = Job(
        mapping=request.mapping,
        source=source,
        execution_id=execution_id,
        output=_output(request),
        limit=request.limit,
        deadline_s=request.deadline_s,
        priority=request.priority,
        weight=request.weight,
        delimiter=request.delimiter,
        encoding=request.encoding,
        tolerate=request.tolerate,
        hold_s=request.hold_s,
        trouble_pause_s=request.trouble_pause_s,
        **request.approval,
        budget=request.budget,
    )
    # A repeated job for the same run is harmless: a batch is opened once. Another run is refused here, where
    # the user sees it.
    view = await ports.table.read(id_)
    replaces = view.batch if view is not None and can_reopen(view.batch) else None
    if (
        view is not None
        and replaces is None
        and (reason := refusal(view.batch, job, source, option=ID_OPTION))
    ):
        raise UsageError(reason)
    await send_all(ports.queues.ingest, [OutgoingMessage(job.encode())])
    return Submission(id_, replaces)


def check_format(request: SubmitRequest) -> None:
    """Raise UsageError for a delimiter or an encoding that no file can have."""
    try:
        CsvReader(delimiter=request.delimiter or AUTO, encoding=request.encoding or AUTO)
    except CsvError as error:
        text = str(error).replace("csv.", "--", 1)
        known = "auto, tab or one character" if text.startswith("--delimiter") else "auto, utf-8 or cp1252"
        raise UsageError(f"{text}; use {known}") from None


def check_tolerance(request: SubmitRequest) -> None:
    """Raise UsageError for tolerated failures that cannot be read."""
    if request.tolerate is None:
        return
    try:
        parse_tolerance(request.tolerate)
    except ToleranceError as error:
        raise UsageError(f"--tolerate: {error}") from None


def _output(request: SubmitRequest) -> Location | None:
    """The place that the request names for its results."""
    if not request.output:
        return None
    try:
        return output_location(request.output)
    except ValueError as error:
        raise UsageError(f"--output: {error}") from None


def _bucket_and_key(url: str) -> tuple[str, str]:
    try:
        bucket, key = parse_url(url)
    except ValueError as error:
        raise UsageError(str(error)) from None
    if not key:
        raise UsageError(f"{url} names a bucket but no key")
    return bucket, key


@dataclass(frozen=True, slots=True)
class Reading:
    """A reading of a followed batch: None until it is opened. `outage`: why its target is down, or "".

    `operations` are those that were made since the reading before.
    """

    view: BatchView | None = None
    outage: str = ""
    operations: Sequence[Operation] = ()


async def follow(
    ports: Ports, id_: str, *, replaces: Batch | None = None, longest_s: float = POLL_MAX_S
) -> AsyncIterator[Reading]:
    """Read the batch again and again until it ends, or is held. `longest_s`: longest pause between readings.

    The batch is None until it is opened, and until it has replaced the batch `replaces`. Raises UsageError if
    the job was taken and `replaces` is still there: a service of an older version does not replace it, or
    another job was faster.
    """
    outages = OutageBoard(ports.table, ports.clock)
    started = ports.clock.monotonic()
    control: int | None = None
    while True:
        view = await ports.table.read(id_)
        waited = ports.clock.monotonic() - started
        if view is not None and replaces is not None and view.batch.identity == replaces.identity:
            if waited >= REPLACED_AFTER_S and await _are_jobs_taken(ports.queues.ingest):
                raise UsageError(
                    f"batch {id_} stays FAILED: the service took the job and did not open the batch anew, as "
                    "versions before this command's do; submit it with another --execution-id"
                )
            view = None
        if view is None:
            yield Reading()
        else:
            outage = await outages.read(view.batch)
            # Those before the first reading are in `status`.
            operations = () if control is None else await _operations_since(ports, view.batch, control)
            control = view.batch.control
            yield Reading(view, outage, operations)
            if view.batch.state.is_final or view.batch.state is State.PAUSED:
                return
        await ports.clock.sleep(min(longest_s, max(POLL_MIN_S, waited / 20)))


async def _operations_since(ports: Ports, batch: Batch, control: int) -> Sequence[Operation]:
    """The operations on the batch after operation `control`."""
    if batch.control == control:
        return ()
    return [made for made in await read_operations(ports.table, batch) if made.control > control]


async def _are_jobs_taken(ingest: Queue) -> bool:
    """True if no job waits or is worked on, as far as one may know."""
    try:
        return await ingest.depth() == 0
    except AccessError:  # who may submit need not be allowed to count
        return True
    except RetryableError:
        return False


def check_readable(path: str) -> Path:
    """The path of a file that can be read. Raises UsageError if it cannot."""
    try:
        with Path(path).open("rb"):
            return Path(path)
    except FileNotFoundError:
        raise UsageError(f"there is no file {path}") from None
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None


async def _find_or_upload(request: SubmitRequest, objects: Objects, bucket: str) -> Source:
    """The source in S3; a local file is uploaded."""
    if not request.source.startswith("s3://"):
        return await _upload(Path(request.source), objects, bucket, request.mapping)
    try:
        return await objects.head(*_bucket_and_key(request.source))
    except SourceError as error:
        raise UsageError(str(error)) from None


async def _upload(path: Path, objects: Objects, bucket: str, mapping: str) -> Source:
    # The key has the digest, so that a file that is submitted twice is stored once.
    digest = await asyncio.to_thread(_digest, path)
    key = f"sources/{mapping}/{digest[:16]}/{path.name}"
    async with objects.upload(bucket, key, content_type="text/csv") as upload:
        with path.open("rb") as file:
            while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
                await upload.write(chunk)
        await upload.complete()
    return await objects.head(bucket, key)


def _digest(path: Path) -> str:
    with check_readable(str(path)).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _new_execution_id(source: Source, clock: Clock) -> str:
    """The file's stem, the time in hexadecimal seconds and six random digits."""
    suffix = f"{clock.now_ms() // 1000:x}-{uuid.uuid4().hex[:6]}"
    stem = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in Path(source.key).stem)
    return f"{stem.strip('-._')[:60]}-{suffix}".lstrip("-")
