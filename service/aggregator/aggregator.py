"""Step 8 of the protocol: the outcomes of a complete batch become its result files.

Outcomes are streamed in file order into multipart uploads; memory holds one page per partition and one part
per file, however many rows there are. A file becomes visible only when it is whole, and every repetition
writes the same keys with the same bytes. The manifest is written last: if it exists, so do the other files.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass

import structlog

from service.aggregator.ordered_outcomes import outcomes_in_order
from service.aggregator.result_files import FAILURES, LONG_CELLS, OUTPUT, ResultFiles
from service.batch.ending import (
    GIVE_UP_AFTER_S,
    fail_batch,
    give_up_at_ms,
    given_up,
    postpone_results,
    send_trigger,
)
from service.batch.lease import BatchLease, delay_until_free
from service.batch.manifest import manifest_of, write_manifest
from service.batch.role_ports import Ports
from service.domain.errors import (
    AccessError,
    BatchRejectedError,
    ConfigError,
    PoisonMessageError,
    RetryableError,
    RowfleetError,
)
from service.domain.messages import AggregateMessage
from service.domain.model import Batch, BatchView, State, iso_time
from service.domain.ports import MAX_DELAY_S, LeaseGrant
from service.runtime.delivery import Delivery

log = structlog.get_logger(__name__)

EARLY_MS = 1_000
"""A trigger that arrives no earlier than this before its time is handled."""


@dataclass(frozen=True, slots=True)
class AggregateLimits:
    """`page_rows` outcomes are read ahead, over all partitions together.

    A batch is leased for `lease_s` at a time; its results wait that long if their aggregator dies. Results
    that cannot be written are tried again until `give_up_after_s` after the last row.
    """

    page_rows: int = 8_000
    lease_s: float = 60.0
    give_up_after_s: float = GIVE_UP_AFTER_S


class Aggregator:
    """Handles aggregate messages. `owners` returns a new name for each lease, used by no other holder."""

    def __init__(self, ports: Ports, limits: AggregateLimits, *, owners: Callable[[], str]) -> None:
        self._ports = ports
        self._limits = limits
        self._owners = owners

    async def handle(self, delivery: Delivery) -> None:
        """Write the results of a complete batch. Raises the errors that `runtime.consumer` documents."""
        message = AggregateMessage.decode(delivery.message.body)
        view = await self._ports.table.read(message.batch_id)
        if view is None:
            raise PoisonMessageError(f"there is no batch {message.batch_id!r} in the table")
        with structlog.contextvars.bound_contextvars(batch_id=message.batch_id):
            if not await self._begin_aggregation(view, message):
                log.info("aggregation_not_due", state=view.batch.state, message_round=message.round)
                await self._abort_leftovers(view.batch, message, delivery.message.receives)
                return
            if await self._is_too_early(view.batch):
                return
            lease = BatchLease(
                self._ports.table,
                view.batch,
                self._ports.clock,
                state=State.AGGREGATING,
                owner=self._owners(),
                duration_s=self._limits.lease_s,
            )
            grant = await lease.acquire()
            if not grant.is_ours:
                await self._postpone(view.batch, grant)
                return
            # Not inside `renewed`: if this fails, the lease is not released, and the next aggregator again
            # finds a predecessor whose uploads it has to abort.
            await self._take_over(view.batch, grant.predecessor)
            async with lease.renewed():
                await self._write(view, lease, delivery)

    async def _is_too_early(self, batch: Batch) -> bool:
        """True if results that could not be written are to be tried later; the trigger is sent for then."""
        if batch.trouble is None:
            return False
        early_ms = batch.trouble.again_at_ms - self._ports.clock.now_ms()
        if early_ms <= EARLY_MS:
            return False
        delay_s = min(MAX_DELAY_S, math.ceil(early_ms / 1000))
        await send_trigger(self._ports, batch, delay_s=delay_s)
        log.info("aggregation_postponed", reason=batch.trouble.reason, again_in_s=delay_s)
        return True

    async def _begin_aggregation(self, view: BatchView, message: AggregateMessage) -> bool:
        """True if the batch is AGGREGATING in this round; move it there if it is complete and RUNNING.

        False for a message of an earlier round or batch, and for a batch that has ended.
        """
        batch = view.batch
        if not message.is_for(batch):
            return False
        # The completion check sends this message before it moves the batch: it may arrive first.
        if batch.state is State.RUNNING and view.is_complete:
            now = iso_time(self._ports.clock.now_ms())
            await self._ports.table.move(batch, expected=State.RUNNING, to=State.AGGREGATING, now=now)
            return True
        return batch.state is State.AGGREGATING

    async def _postpone(self, batch: Batch, grant: LeaseGrant) -> None:
        """Send the trigger again for the time when the other aggregator's lease ends, and hold nothing."""
        if not grant.until_ms:
            log.info("aggregation_not_due", reason="the batch has moved on", message_round=batch.round)
            return
        delay_s = delay_until_free(grant, self._ports.clock)
        await send_trigger(self._ports, batch, delay_s=delay_s)
        log.info("aggregation_postponed", reason="another aggregator is at work", again_in_s=delay_s)

    async def _take_over(self, batch: Batch, predecessor: str) -> None:
        """Abort the uploads of a `predecessor` that died or is about to find its lease lost ("": none)."""
        if predecessor:
            aborted = await self._abort_uploads(batch)
            log.warning("aggregation_taken_over", predecessor=predecessor, uploads_aborted=aborted)
            self._ports.metrics.count("aggregations_taken_over")

    async def _abort_leftovers(self, batch: Batch, message: AggregateMessage, receives: int) -> None:
        """Abort uploads that an earlier delivery of this message left behind in a batch that has ended."""
        # Its write of the final state may have timed out and succeeded later, while a retry had already
        # started a new upload and died.
        if receives > 1 and message.is_for(batch) and batch.state.is_final:
            aborted = await self._abort_uploads(batch)
            log.info("aggregation_cleared_away", uploads_aborted=aborted)

    async def _abort_uploads(self, batch: Batch) -> int:
        aborted = 0
        try:
            for name in (OUTPUT, FAILURES, LONG_CELLS):
                aborted += await self._ports.objects.abort_uploads(
                    batch.results.bucket, batch.results.prefix + name
                )
        except AccessError as error:  # the results do not depend on it; a lifecycle rule aborts them later
            log.warning("uploads_not_aborted", reason=str(error))
        return aborted

    async def _write(self, view: BatchView, lease: BatchLease, delivery: Delivery) -> None:
        """Write the results and end the batch, as FAILED if its results can never be written.

        If they cannot be written now, the batch waits. Its message is not released, which would use up its
        deliveries and make the consumer pause for all batches.
        """
        try:
            await self._aggregate(view, lease, delivery)
        except (RetryableError, AccessError, ConfigError) as error:
            lease.check()
            await self._wait(view.batch, error)
        except BatchRejectedError as error:
            lease.check()
            await self._fail(view.batch, str(error))

    async def _aggregate(self, view: BatchView, lease: BatchLease, delivery: Delivery) -> None:
        batch, ports = view.batch, self._ports
        started = ports.clock.monotonic()
        stored = outcomes_in_order(ports.table, batch, self._limits.page_rows)
        files = ResultFiles(ports.objects, batch)
        async with files, aclosing(ports.large_outcomes.load_all(stored)) as outcomes:
            async for outcome in outcomes:
                await files.add(outcome)
                if outcome.number % self._limits.page_rows == 0:
                    delivery.check_lease()
                    lease.check()
            # Without a fresh lease another aggregator may have taken over: it publishes, this one must not.
            await lease.renew()
            written = await files.complete()
        tally = files.tally
        if (tally.succeeded, tally.failed) != (view.counts.succeeded, view.counts.failed):
            log.error("counters_differ_from_rows", rows=repr(tally), counters=repr(view.counts))
        state = State.COMPLETED_WITH_ERRORS if tally.failed else State.SUCCEEDED
        facts = manifest_of(batch, state, tally, last_outcome_at=files.last_outcome_at, files=written)
        lease.check()
        await write_manifest(ports.objects, batch, facts)
        if await self._succeed(batch, state) and tally.failed and not tally.succeeded:
            ports.metrics.count("batches_all_failed")
            log.warning("batch_all_failed", reason="no row succeeded: `rowfleet errors` groups the causes")
        ports.metrics.observe("aggregate_ms", (ports.clock.monotonic() - started) * 1000)

    async def _wait(self, batch: Batch, error: RowfleetError) -> None:
        """Have the results tried again later, or fail the batch once its time is over."""
        if self._ports.clock.now_ms() < give_up_at_ms(batch, self._limits.give_up_after_s):
            await postpone_results(self._ports, batch, str(error))
        else:
            await self._fail(batch, given_up(batch, str(error)))

    async def _succeed(self, batch: Batch, state: State) -> bool:
        """End the batch; return True if this aggregator did, and no other."""
        moved = await self._ports.table.move(
            batch,
            expected=State.AGGREGATING,
            to=state,
            now=iso_time(self._ports.clock.now_ms()),
        )
        self._ports.metrics.count("batches_finished")
        _log_finished(batch, state, moved=moved)
        return moved

    async def _fail(self, batch: Batch, problem: str) -> None:
        stands = await fail_batch(self._ports, batch, problem, expected=[State.AGGREGATING])
        _log_finished(batch, State.FAILED, problem, moved=stands.state is State.FAILED)


def _log_finished(batch: Batch, state: State, error: str = "", *, moved: bool) -> None:
    """Write the canonical line of a batch."""
    log.info(
        "batch_finished",
        state=state,
        total=batch.total,
        output=batch.results.url(),
        error=error,
        moved=moved,
    )
