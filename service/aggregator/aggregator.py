"""Step 8 of the protocol: the outcomes of a complete batch become its result files.

Outcomes are streamed in file order into multipart uploads; memory holds two pages per partition and one part
per file, however many rows there are. A file becomes visible only when it is whole, and every repetition
writes the same keys with the same bytes. The manifest is written last: if it exists, so do the other files.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, replace

import structlog

from service.aggregator.checkpoints import Checkpoints, Progress
from service.aggregator.digests import HashingStore, digest_of
from service.aggregator.latest import write_latest
from service.aggregator.ordered_outcomes import outcomes_in_order
from service.aggregator.result_files import FAILURES, FLUSH_BYTES, LONG_CELLS, OUTPUT, ResultFiles
from service.aggregator.sample_review import SampleReview
from service.batch.completion import correct_counts
from service.batch.ending import (
    GIVE_UP_AFTER_S,
    end_batch,
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
    SourceError,
    UploadGoneError,
)
from service.domain.messages import AggregateMessage
from service.domain.model import Batch, BatchView, Counts, State, iso_time
from service.domain.ports import MAX_DELAY_S, LeaseGrant, StoredFile
from service.runtime.delivery import Delivery

log = structlog.get_logger(__name__)

EARLY_MS = 1_000
"""A trigger that arrives no earlier than this before its time is handled."""


@dataclass(frozen=True, slots=True)
class AggregateLimits:
    """`page_rows` outcomes are read ahead, over all partitions together.

    A batch is leased for `lease_s` at a time; its results wait that long if their aggregator dies. Results
    that cannot be written are tried again until `give_up_after_s` after the last row. Rows go to the uploads
    in pieces of `flush_bytes`.
    """

    page_rows: int = 16_000
    lease_s: float = 60.0
    give_up_after_s: float = GIVE_UP_AFTER_S
    flush_bytes: int = FLUSH_BYTES


@dataclass(slots=True)
class _Work:
    """The aggregation of one batch under a lease. `begun` is the checkpoint that it goes on from.

    `has_parts`: a file is large enough for an upload of several parts.
    """

    view: BatchView
    batch: Batch
    lease: BatchLease
    delivery: Delivery
    checkpoints: Checkpoints
    begun: Progress | None = None
    has_parts: bool = True

    def check(self) -> None:
        """Raise LeaseLostError once another aggregator may have the batch or the message."""
        self.delivery.check_lease()
        self.lease.check()


class Aggregator:
    """Handles aggregate messages. `owners` returns a new name for each lease, used by no other holder."""

    def __init__(self, ports: Ports, limits: AggregateLimits, *, owners: Callable[[], str]) -> None:
        self._ports = ports
        self._limits = limits
        self._owners = owners
        self._samples = SampleReview(ports)

    async def handle(self, delivery: Delivery) -> None:
        """Write the results of a complete batch, or show its sample.

        Raises the errors that `runtime.consumer` documents.
        """
        message = AggregateMessage.decode(delivery.message.body)
        view = await self._ports.table.read(message.batch_id)
        if view is None:
            raise PoisonMessageError(f"there is no batch {message.batch_id!r} in the table")
        with structlog.contextvars.bound_contextvars(batch_id=message.batch_id):
            if message.is_for(view.batch) and view.has_its_sample:
                await self._samples.review(view)
                return
            view = await self._begin_aggregation(view, message)
            if view.batch.state is not State.AGGREGATING or not message.is_for(view.batch):
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
            work = _Work(view, view.batch, lease, delivery, Checkpoints(self._ports, view.batch))
            work.begun = await work.checkpoints.load()
            # Not inside `renewed`: if this fails, the lease is not released, and the next aggregator again
            # finds a predecessor whose uploads it has to abort.
            await self._take_over(work, grant.predecessor)
            async with lease.renewed():
                await self._write(work)

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

    async def _begin_aggregation(self, view: BatchView, message: AggregateMessage) -> BatchView:
        """Move the batch to AGGREGATING if it is complete and RUNNING; return it as it stands then."""
        batch = view.batch
        if not message.is_for(batch):
            return view
        # The completion check sends this message before it moves the batch: it may arrive first.
        if batch.state is State.RUNNING and view.has_all_rows:
            now = iso_time(self._ports.clock.now_ms())
            settled = replace(batch, settled=view.spending)
            await self._ports.table.move(settled, expected=State.RUNNING, to=State.AGGREGATING, now=now)
            # Another process may have moved it first, and have counted fewer calls or more.
            return await self._ports.table.read(batch.batch_id) or view
        return view

    async def _postpone(self, batch: Batch, grant: LeaseGrant) -> None:
        """Send the trigger again for the time when the other aggregator's lease ends, and hold nothing."""
        if not grant.until_ms:
            log.info("aggregation_not_due", reason="the batch has moved on", message_round=batch.round)
            return
        delay_s = delay_until_free(grant, self._ports.clock)
        await send_trigger(self._ports, batch, delay_s=delay_s)
        log.info("aggregation_postponed", reason="another aggregator is at work", again_in_s=delay_s)

    async def _take_over(self, work: _Work, predecessor: str) -> None:
        """Abort the uploads of a `predecessor` that died or is about to find its lease lost ("": none).

        Those of a checkpoint go on; those of a checkpoint that does not fit are aborted.
        """
        is_unfit = work.checkpoints.may_exist and work.begun is None
        if predecessor or is_unfit:
            aborted = await self._abort_uploads(work.batch, work.begun)
            log.warning("aggregation_taken_over", predecessor=predecessor, uploads_aborted=aborted)
        if predecessor:
            self._ports.metrics.count("aggregations_taken_over")

    async def _abort_leftovers(self, batch: Batch, message: AggregateMessage, receives: int) -> None:
        """Abort uploads that an earlier delivery of this message left behind in a batch that has ended."""
        # Its write of the final state may have timed out and succeeded later, while a retry had already
        # started a new upload and died.
        if receives > 1 and message.is_for(batch) and batch.state.is_final:
            aborted = await self._abort_uploads(batch)
            log.info("aggregation_cleared_away", uploads_aborted=aborted)

    async def _abort_uploads(self, batch: Batch, begun: Progress | None = None) -> int:
        """Abort the unfinished uploads of the result files but those of `begun`; return their number."""
        aborted = 0
        try:
            for name in (OUTPUT, FAILURES, LONG_CELLS):
                keep = begun.upload_id(name) if begun else ""
                aborted += await self._ports.objects.abort_uploads(
                    batch.results.bucket, batch.results.prefix + name, keep=keep
                )
        except AccessError as error:  # the results do not depend on it; a lifecycle rule aborts them later
            log.warning("uploads_not_aborted", reason=str(error))
        return aborted

    async def _write(self, work: _Work) -> None:
        """Write the results and end the batch, as FAILED if its results can never be written.

        If they cannot be written now, the batch waits. Its message is not released, which would use up its
        deliveries and make the consumer pause for all batches.
        """
        try:
            await self._aggregate(work)
        except (RetryableError, AccessError, ConfigError) as error:
            work.lease.check()
            if isinstance(error, UploadGoneError):
                await self._discard(work)
            await self._wait(work, error)
        except BatchRejectedError as error:
            work.lease.check()
            await self._fail(work, str(error))

    async def _aggregate(self, work: _Work) -> None:
        batch, ports = work.batch, self._ports
        started = ports.clock.monotonic()
        done = work.begun if work.begun and work.begun.is_complete else await self._write_files(work)
        written = await self._with_digests(work, done)
        tally, counts = done.tally, work.view.all_counts
        if (tally.succeeded, tally.failed) != (counts.succeeded, counts.failed):
            aggregating = replace(batch, state=State.AGGREGATING)
            rows = tally - batch.carried
            await correct_counts(self._ports.table, aggregating, rows=rows, counters=work.view.counts)
        state = _final_state(batch, tally)
        facts = manifest_of(
            batch,
            state,
            tally,
            last_outcome_at=done.last_outcome_at,
            files=written,
            rounds=done.rounds,
            operations=await ports.table.operations(batch),
        )
        work.lease.check()
        await write_manifest(ports.objects, batch, facts)
        await write_latest(ports, batch, written)
        if work.has_parts:
            # An upload may be left of an aggregator whose checkpoint was lost.
            await self._abort_uploads(batch)
        await self._samples.clear_away(batch)
        await work.checkpoints.clear()
        if await self._succeed(batch, state) and tally.failed and not tally.succeeded:
            ports.metrics.count("batches_all_failed")
            log.warning("batch_all_failed", reason="no row succeeded: `rowfleet errors` groups the causes")
        ports.metrics.observe("aggregate_ms", (ports.clock.monotonic() - started) * 1000)

    async def _write_files(self, work: _Work) -> Progress:
        """Write the files from the checkpoint on, and make them visible."""
        ports, begun = self._ports, work.begun
        stored = outcomes_in_order(
            ports.table, work.batch, self._limits.page_rows, after=begun.row if begun else 0
        )
        files = ResultFiles(ports.objects, work.batch, begun, flush_bytes=self._limits.flush_bytes)
        async with files, aclosing(stored), aclosing(ports.large_outcomes.load_all(stored)) as runs:
            async for outcomes in runs:
                await files.add(outcomes)
                if files.is_checkpoint_due:
                    await self._checkpoint(work, files)
                work.check()
            # Without a fresh lease another aggregator may have taken over: it publishes, this one must not.
            await work.lease.renew()
            work.has_parts = files.has_parts
            done = await files.complete()
        if any(file.stored and not file.stored.sha256 for file in done.files.values()):
            await work.checkpoints.save(done)
        return done

    async def _checkpoint(self, work: _Work, files: ResultFiles) -> None:
        """Store how far the files are written. The results do not depend on it."""
        work.check()
        progress = await files.progress()
        # Before the call, whose answer may be lost.
        files.leave(progress)
        await work.checkpoints.save(progress)
        if work.batch.trouble is not None:
            await self._ports.table.set_trouble(work.batch, None)
            work.batch = replace(work.batch, trouble=None)

    async def _with_digests(self, work: _Work, done: Progress) -> list[tuple[StoredFile, int]]:
        """The files with their rows. Those that an earlier aggregator began get their sha256 here."""
        objects = self._ports.objects
        files = []
        try:
            for file in done.files.values():
                assert file.stored is not None
                digest = file.stored.sha256 or await digest_of(objects, file.stored, work.check)
                files.append((replace(file.stored, sha256=digest), file.rows))
        except SourceError as error:
            log.info("results_not_readable", reason=str(error), remedy="their sha256 is made from the rows")
        else:
            return files
        again = await self._write_nothing(work)
        return [(file.stored, file.rows) for file in again.files.values() if file.stored]

    async def _write_nothing(self, work: _Work) -> Progress:
        """Make the files from all outcomes, only to learn their sha256."""
        stored = outcomes_in_order(self._ports.table, work.batch, self._limits.page_rows)
        files = ResultFiles(HashingStore(), work.batch)
        large = self._ports.large_outcomes
        async with files, aclosing(stored), aclosing(large.load_all(stored)) as runs:
            async for outcomes in runs:
                await files.add(outcomes)
                work.check()
            return await files.complete()

    async def _discard(self, work: _Work) -> None:
        """Abort the uploads and void the checkpoint: the next try begins with the first row."""
        try:
            aborted = await self._abort_uploads(work.batch)
            await work.checkpoints.clear()
        except RetryableError as error:
            log.warning("uploads_not_aborted", reason=str(error))
        else:
            log.info("aggregation_cleared_away", uploads_aborted=aborted)

    async def _wait(self, work: _Work, error: RowfleetError) -> None:
        """Have the results tried again later, or fail the batch once its time is over."""
        if self._ports.clock.now_ms() < give_up_at_ms(work.batch, self._limits.give_up_after_s):
            await postpone_results(self._ports, work.batch, str(error))
        else:
            await self._fail(work, given_up(work.batch, str(error)))

    async def _succeed(self, batch: Batch, state: State) -> bool:
        """End the batch; return True if this aggregator did, and no other."""
        now = iso_time(self._ports.clock.now_ms())
        moved = await end_batch(self._ports, batch, expected=State.AGGREGATING, to=state, now=now)
        self._ports.metrics.count("batches_finished")
        _log_finished(batch, state, moved=moved)
        return moved

    async def _fail(self, work: _Work, problem: str) -> None:
        await self._discard(work)
        stands = await fail_batch(self._ports, work.batch, problem, expected=[State.AGGREGATING])
        _log_finished(work.batch, State.FAILED, problem, moved=stands.state is State.FAILED)


def _final_state(batch: Batch, tally: Counts) -> State:
    """The state of a batch whose results are written. Rows that were not read have no outcome that counts."""
    if tally.cancelled or batch.unread_from:
        return State.CANCELLED
    return State.COMPLETED_WITH_ERRORS if tally.failed else State.SUCCEEDED


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
