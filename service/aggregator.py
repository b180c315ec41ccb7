"""Aggregating: the outcomes of a complete batch become its result files (step 8).

The partitions are read round-robin, which is file order without a sort, and streamed into multipart
uploads; memory holds one page per partition and one part per file, however many rows there are. Nothing is
visible before it is whole, and repeating it writes the same keys with the same bytes. The manifest comes
last: where it is, everything is.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import structlog

from service import csvio
from service.consume import Delivery
from service.errors import AccessError, BatchRejectedError, PoisonMessageError
from service.messages import AggregateMessage
from service.model import Batch, BatchView, Counts, Outcome, State, Status, iso_time, partition_of
from service.ports import Clock, Objects, StoredFile, Table, Upload
from service.telemetry import Metrics

log = structlog.get_logger(__name__)

CSV_TYPE = "text/csv; charset=utf-8"
FLUSH_BYTES = 256 * 1024
"""Encoded rows are handed to the upload in pieces of this size."""

ACCESS_ATTEMPTS = 3
"""Deliveries after which a bucket that refuses the results fails the batch."""


@dataclass(frozen=True, slots=True)
class AggregateLimits:
    """`page_rows` outcomes are read at a time, over all partitions together."""

    page_rows: int = 1_000


class Aggregator:
    """Handles aggregate messages."""

    def __init__(
        self, table: Table, objects: Objects, limits: AggregateLimits, clock: Clock, metrics: Metrics
    ) -> None:
        self._table = table
        self._objects = objects
        self._limits = limits
        self._clock = clock
        self._metrics = metrics

    async def handle(self, delivery: Delivery) -> None:
        """Write the results of a complete batch. Raises what `consume` understands."""
        message = AggregateMessage.decode(delivery.message.body)
        view = await self._table.read(message.batch_id)
        if view is None:
            raise PoisonMessageError(f"there is no batch {message.batch_id!r} in the table")
        with structlog.contextvars.bound_contextvars(batch_id=message.batch_id):
            if not await self._claim(view, message.round):
                log.info("aggregation_not_due", state=view.batch.state, message_round=message.round)
                return
            try:
                await self._aggregate(view, delivery)
            except AccessError as error:
                if delivery.message.receives < ACCESS_ATTEMPTS:
                    raise
                await self._finish(view.batch, State.FAILED, f"the results cannot be written: {error}")
            except BatchRejectedError as error:
                await self._finish(view.batch, State.FAILED, str(error))

    async def _claim(self, view: BatchView, round_: int) -> bool:
        """Whether this round is to be written: the message may be older, or come before the claim."""
        batch = view.batch
        if batch.round != round_:
            return False
        if batch.state is State.RUNNING and view.is_complete:
            now = iso_time(self._clock.now_ms())
            await self._table.move(
                batch.batch_id, expected=State.RUNNING, round=round_, to=State.AGGREGATING, now=now
            )
            return True
        return batch.state is State.AGGREGATING

    async def _aggregate(self, view: BatchView, delivery: Delivery) -> None:
        batch = view.batch
        started = self._clock.monotonic()
        writer = _Results(self._objects, batch)
        async with writer:
            async for outcome in self._in_order(batch):
                await writer.add(outcome)
                if outcome.number % self._limits.page_rows == 0:
                    delivery.check_lease()
            files = await writer.complete()
        tally = writer.tally
        if (tally.succeeded, tally.failed) != (view.counts.succeeded, view.counts.failed):
            log.error("counters_differ_from_rows", rows=repr(tally), counters=repr(view.counts))
        state = State.COMPLETED_WITH_ERRORS if tally.failed else State.SUCCEEDED
        facts = _manifest(batch, state, tally, writer.last_outcome_at, files)
        manifest = json.dumps(facts, indent=2, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
        output = batch.output
        await self._objects.put(
            output.bucket, output.prefix + "manifest.json", manifest, content_type="application/json"
        )
        await self._finish(batch, state)
        self._metrics.observe("aggregate_ms", (self._clock.monotonic() - started) * 1000)

    async def _in_order(self, batch: Batch) -> AsyncIterator[Outcome]:
        """Every outcome in file order. Raises BatchRejectedError where one is missing."""
        page_rows = max(10, self._limits.page_rows // batch.partitions)
        partitions = [_Partition(self._table, batch, p, page_rows) for p in range(batch.partitions)]
        for number in range(1, (batch.total or 0) + 1):
            outcome = await partitions[partition_of(number, batch.partitions)].next()
            if outcome is None or outcome.number != number:
                raise BatchRejectedError(
                    f"row {number} of {batch.total} is counted but has no outcome in the table; was "
                    "the table restored, or its ttl shorter than the run?"
                )
            yield outcome

    async def _finish(self, batch: Batch, state: State, error: str = "") -> None:
        now = iso_time(self._clock.now_ms())
        moved = await self._table.move(
            batch.batch_id, expected=State.AGGREGATING, round=batch.round, to=state, now=now, error=error
        )
        self._metrics.count("batches_finished" if not error else "batches_failed")
        log.info(
            "batch_finished",
            state=state,
            total=batch.total,
            output=batch.output.url(),
            error=error,
            moved=moved,
        )


class _Partition:
    """The outcomes of one partition, a page at a time."""

    def __init__(self, table: Table, batch: Batch, partition: int, page_rows: int) -> None:
        self._table = table
        self._batch = batch
        self._partition = partition
        self._page_rows = page_rows
        self._page: deque[Outcome] = deque()
        self._after: int | None = 0

    async def next(self) -> Outcome | None:
        """The next outcome; None at the end."""
        while not self._page and self._after is not None:
            page = await self._table.outcomes(
                self._batch, self._partition, after=self._after, limit=self._page_rows
            )
            self._page.extend(page.outcomes)
            self._after = page.after
        return self._page.popleft() if self._page else None


@dataclass(slots=True)
class _File:
    """A CSV being uploaded, in pieces."""

    upload: Upload
    rows: int = 0
    pending: bytearray = field(default_factory=bytearray)

    async def add(self, line: bytes) -> None:
        self.pending += line
        if len(self.pending) >= FLUSH_BYTES:
            await self.flush()

    async def flush(self) -> None:
        await self.upload.write(bytes(self.pending))
        self.pending.clear()


class _Results:
    """The result files of a batch: `output.csv`, and `failures.csv` once there is a failure."""

    def __init__(self, objects: Objects, batch: Batch) -> None:
        self._objects = objects
        self._batch = batch
        self._stack = AsyncExitStack()
        self._output: _File | None = None
        self._failures: _File | None = None
        self.tally = Counts()
        self.last_outcome_at = ""

    async def __aenter__(self) -> Self:
        await self._stack.__aenter__()
        batch = self._batch
        header = csvio.output_header(batch.columns, batch.output_fields, provenance=batch.provenance)
        self._output = await self._open("output.csv", header)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)

    async def add(self, outcome: Outcome) -> None:
        """Write one row, and its failure where it is one."""
        batch = self._batch
        assert self._output is not None
        cells = csvio.output_cells(
            outcome,
            batch.columns,
            batch.output_fields,
            escape_formulas=batch.escape_formulas,
            provenance=batch.provenance,
        )
        await self._output.add(csvio.encode_row(cells))
        self._output.rows += 1
        if outcome.status is Status.FAILED:
            if self._failures is None:
                self._failures = await self._open("failures.csv", csvio.failure_header(batch.columns))
            await self._failures.add(csvio.encode_row(csvio.failure_cells(outcome, batch.columns)))
            self._failures.rows += 1
        self.tally += outcome.counts
        self.last_outcome_at = max(self.last_outcome_at, outcome.timestamp)

    async def complete(self) -> list[tuple[StoredFile, int]]:
        """Make the files visible, failures first; each with its number of rows."""
        files = []
        for file in (self._failures, self._output):
            if file is not None:
                await file.flush()
                files.append((await file.upload.complete(), file.rows))
        return files

    async def _open(self, name: str, header: list[str]) -> _File:
        output = self._batch.output
        upload = self._objects.upload(output.bucket, output.prefix + name, content_type=CSV_TYPE)
        file = _File(await self._stack.enter_async_context(upload))
        await file.add(csvio.encode_row(header))
        return file


def _manifest(
    batch: Batch, state: State, tally: Counts, last_outcome_at: str, files: list[tuple[StoredFile, int]]
) -> dict[str, Any]:
    """What the results are, in full; the same for every repetition."""
    source = batch.source
    return {
        "batch_id": batch.batch_id,
        "tool_name": batch.tool_name,
        "execution_id": batch.execution_id,
        "state": str(state),
        "round": batch.round,
        "total": batch.total,
        "succeeded": tally.succeeded,
        "failed": tally.failed,
        "agent_ms": tally.agent_ms,
        "input_tokens": tally.input_tokens,
        "output_tokens": tally.output_tokens,
        "started_at": batch.created_at,
        "last_outcome_at": last_outcome_at,
        "columns": list(batch.columns),
        "output_fields": list(batch.output_fields),
        "notes": list(batch.notes),
        "mapping": {"name": batch.tool_name, "digest": batch.mapping_digest},
        "source": {"url": source.url, "etag": source.etag, "version": source.version, "bytes": source.size},
        "files": [
            {
                "name": stored.key.rsplit("/", 1)[-1],
                "url": f"s3://{stored.bucket}/{stored.key}",
                "rows": rows,
                "bytes": stored.size,
                "sha256": stored.sha256,
            }
            for stored, rows in files
        ],
    }
