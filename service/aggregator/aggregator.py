"""Aggregating: the outcomes of a complete batch become its result files (step 8).

The partitions are read round-robin, which is file order without a sort, and streamed into multipart
uploads; memory holds one page per partition and one part per file, however many rows there are. Nothing is
visible before it is whole, and repeating it writes the same keys with the same bytes. The manifest comes
last: where it is, everything is.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass

import structlog

from service.aggregator.lease import BatchLease
from service.aggregator.result_files import FAILURES, MANIFEST, OUTPUT, Results, manifest_of
from service.batch.ports import Ports
from service.domain.errors import AccessError, BatchRejectedError, PoisonMessageError
from service.domain.messages import AggregateMessage
from service.domain.model import Batch, BatchView, Outcome, State, iso_time, partition_of
from service.domain.ports import MAX_DELAY_S, LeaseGrant, OutgoingMessage, Table
from service.runtime.delivery import Delivery
from service.runtime.sender import send_all

log = structlog.get_logger(__name__)

ACCESS_ATTEMPTS = 3
"""Deliveries after which a bucket that refuses the results fails the batch."""


@dataclass(frozen=True, slots=True)
class AggregateLimits:
    """`page_rows` outcomes are read at a time, over all partitions together.

    A batch is leased for `lease_s` at a time; that is how long the results of a dead aggregator wait.
    """

    page_rows: int = 1_000
    lease_s: float = 60.0


class Aggregator:
    """Handles aggregate messages. `owners` makes a name for each lease that no other ever has."""

    def __init__(
        self,
        ports: Ports,
        limits: AggregateLimits,
        *,
        owners: Callable[[], str],
    ) -> None:
        self._ports = ports
        self._limits = limits
        self._owners = owners

    async def handle(self, delivery: Delivery) -> None:
        """Write the results of a complete batch. Raises what `consume` understands."""
        message = AggregateMessage.decode(delivery.message.body)
        view = await self._ports.table.read(message.batch_id)
        if view is None:
            raise PoisonMessageError(f"there is no batch {message.batch_id!r} in the table")
        with structlog.contextvars.bound_contextvars(batch_id=message.batch_id):
            if not await self._claim(view, message.round):
                log.info("aggregation_not_due", state=view.batch.state, message_round=message.round)
                await self._clear_away(view.batch, message, delivery.message.receives)
                return
            lease = BatchLease(
                self._ports.table,
                view.batch,
                self._ports.clock,
                owner=self._owners(),
                duration_s=self._limits.lease_s,
            )
            answer = await lease.take()
            if not answer.is_ours:
                await self._leave_to_other(message, answer)
                return
            # outside `kept`: where this fails the lease is not given back, so that the next takes over too
            await self._take_over(view.batch, answer.predecessor)
            async with lease.kept():
                await self._write(view, lease, delivery)

    async def _leave_to_other(self, message: AggregateMessage, answer: LeaseGrant) -> None:
        """Somebody else writes the results: look again when that lease ends, without holding this message."""
        if not answer.until_ms:
            log.info("aggregation_not_due", reason="the batch has moved on", message_round=message.round)
            return
        left_s = math.ceil((answer.until_ms - self._ports.clock.now_ms()) / 1000)
        delay_s = min(MAX_DELAY_S, max(0, left_s) + 1)
        await send_all(self._ports.queues.aggregate, [OutgoingMessage(message.encode(), delay_s=delay_s)])
        log.info("aggregation_postponed", reason="another aggregator is at work", again_in_s=delay_s)

    async def _take_over(self, batch: Batch, predecessor: str) -> None:
        """Abort what an aggregator that died, or is about to find its lease lost, has uploaded so far."""
        if predecessor:
            aborted = await self._abort_uploads(batch)
            log.warning("aggregation_taken_over", predecessor=predecessor, uploads_aborted=aborted)
            self._ports.metrics.count("aggregations_taken_over")

    async def _clear_away(self, batch: Batch, message: AggregateMessage, receives: int) -> None:
        """Abort what is left where the batch has ended and who had this message before may have died.

        It had perhaps begun anew, not knowing that its end of the batch would still arrive at the table.
        """
        if receives > 1 and batch.round == message.round and batch.state.is_final:
            aborted = await self._abort_uploads(batch)
            log.info("aggregation_cleared_away", uploads_aborted=aborted)

    async def _abort_uploads(self, batch: Batch) -> int:
        aborted = 0
        try:
            for name in (OUTPUT, FAILURES):
                aborted += await self._ports.objects.abort_uploads(
                    batch.results.bucket, batch.results.prefix + name
                )
        except AccessError as error:  # results do not depend on it, and a lifecycle rule does it days later
            log.warning("uploads_not_aborted", reason=str(error))
        return aborted

    async def _write(self, view: BatchView, lease: BatchLease, delivery: Delivery) -> None:
        """Write the results and end the batch, one way or the other."""
        try:
            await self._aggregate(view, lease, delivery)
        except AccessError as error:
            if delivery.message.receives < ACCESS_ATTEMPTS:
                raise
            lease.check()
            await self._finish(view.batch, State.FAILED, f"the results cannot be written: {error}")
        except BatchRejectedError as error:
            lease.check()
            await self._finish(view.batch, State.FAILED, str(error))

    async def _claim(self, view: BatchView, round_: int) -> bool:
        """Whether this round is to be written: the message may be older, or come before the claim."""
        batch = view.batch
        if batch.round != round_:
            return False
        if batch.state is State.RUNNING and view.is_complete:
            now = iso_time(self._ports.clock.now_ms())
            await self._ports.table.move(
                batch.batch_id, expected=State.RUNNING, round=round_, to=State.AGGREGATING, now=now
            )
            return True
        return batch.state is State.AGGREGATING

    async def _aggregate(self, view: BatchView, lease: BatchLease, delivery: Delivery) -> None:
        batch = view.batch
        started = self._ports.clock.monotonic()
        writer = Results(self._ports.objects, batch)
        async with writer, aclosing(self._ports.large_outcomes.load_all(self._in_order(batch))) as outcomes:
            async for outcome in outcomes:
                await writer.add(outcome)
                if outcome.number % self._limits.page_rows == 0:
                    delivery.check_lease()
                    lease.check()
            await lease.confirm()  # nobody publishes after another aggregator took over
            files = await writer.complete()
        tally = writer.tally
        if (tally.succeeded, tally.failed) != (view.counts.succeeded, view.counts.failed):
            log.error("counters_differ_from_rows", rows=repr(tally), counters=repr(view.counts))
        state = State.COMPLETED_WITH_ERRORS if tally.failed else State.SUCCEEDED
        facts = manifest_of(batch, state, tally, writer.last_outcome_at, files)
        manifest = json.dumps(facts, indent=2, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
        output = batch.results
        lease.check()
        await self._ports.objects.put(
            output.bucket, output.prefix + MANIFEST, manifest, content_type="application/json"
        )
        await self._finish(batch, state)
        self._ports.metrics.observe("aggregate_ms", (self._ports.clock.monotonic() - started) * 1000)

    async def _in_order(self, batch: Batch) -> AsyncIterator[Outcome]:
        """Every outcome in file order. Raises BatchRejectedError where one is missing."""
        page_rows = max(10, self._limits.page_rows // batch.partitions)
        partitions = [_Partition(self._ports.table, batch, p, page_rows) for p in range(batch.partitions)]
        for number in range(1, (batch.total or 0) + 1):
            outcome = await partitions[partition_of(number, batch.partitions)].next()
            if outcome is None or outcome.number != number:
                raise BatchRejectedError(
                    f"row {number} of {batch.total} is counted but has no outcome in the table; was "
                    "the table restored, or its ttl shorter than the run?"
                )
            yield outcome

    async def _finish(self, batch: Batch, state: State, error: str = "") -> None:
        now = iso_time(self._ports.clock.now_ms())
        moved = await self._ports.table.move(
            batch.batch_id, expected=State.AGGREGATING, round=batch.round, to=state, now=now, error=error
        )
        self._ports.metrics.count("batches_finished" if not error else "batches_failed")
        log.info(
            "batch_finished",
            state=state,
            total=batch.total,
            output=batch.results.url(),
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
