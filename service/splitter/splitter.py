"""The splitter's handler of ingest messages: each job of a message is opened and split.

One splitter at a time works on a batch, under its lease. A job that finds its batch leased is sent again for
the time when that lease ends.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import structlog

from service.batch.completion import Completion
from service.batch.ending import fail_batch
from service.batch.lease import BatchLease, delay_until_free
from service.batch.role_ports import Ports
from service.batch.row_checks import REPEAT_DELAY_S
from service.batch.source import compile_stored, stored_definition
from service.domain.errors import (
    BatchRejectedError,
    ConflictError,
    MappingError,
    MappingTooNewError,
    PoisonMessageError,
    RetryableError,
)
from service.domain.events import Ignored, decode_ingest
from service.domain.jobs import Job
from service.domain.model import Batch, State, WorkKind, ms_of
from service.domain.operation_requests import OperationRequest, WorkRequest
from service.domain.ports import MESSAGE_BYTES, LeaseGrant, OutgoingMessage
from service.domain.truncation import truncate
from service.mapping import Definition
from service.recovery.kept import KeptSelections
from service.runtime.backoff import MAX_BACKOFF_S
from service.runtime.byte_budget import ByteBudget
from service.runtime.delivery import Delivery
from service.runtime.releases import MAX_REASON_CHARS
from service.runtime.sender import send_all
from service.splitter.backpressure import SplitEndedError
from service.splitter.opening import Opener
from service.splitter.split import Split, SplitLimits
from service.splitter.task_tokens import refuse_task, store_task
from service.steering.operate import carry_out, send_work
from service.steering.redrive import Redrive
from service.steering.remapping.remap import Remap
from service.steering.rounds import opens_round
from service.steering.work import FleetWork

log = structlog.get_logger(__name__)


GIVE_BACK_S = 86_400.0
"""Longest time that a splitter gives back the job of a newer mapping. Then it fails the batch."""

NEWER_SPLITTER_WAIT_S = 20
"""Delay of a job that was given back."""

SEND_BYTES = 8 * MESSAGE_BYTES
"""Bytes of row messages that all splits of a process send at a time: the memory of a call is several times
that of its messages."""


AFTER_PROGRESS_S = 4.0
"""Pause after a failure of a split that has made progress: as long as after its first delivery."""


class Splitter:
    """Handles ingest messages. `definitions` returns a mapping's definition or raises MappingError.

    `rng` makes the incarnations of new batches; seeded in tests. `owners` returns a new name for each lease,
    used by no other holder. `work` does the work that operations have left on batches.
    """

    def __init__(
        self,
        ports: Ports,
        completion: Completion,
        definitions: Callable[[str], Definition],
        limits: SplitLimits,
        *,
        work: FleetWork,
        rng: random.Random,
        owners: Callable[[], str],
    ) -> None:
        self._ports = ports
        self._work = work
        self._completion = completion
        self._opener = Opener(ports, definitions, limits.opening, rng=rng)
        self._redrive = Redrive(ports, definitions)
        self._remap = Remap(ports, definitions)
        self._selections = KeptSelections(ports.objects)
        self._limits = limits
        self._owners = owners
        self._send_budget = ByteBudget(SEND_BYTES)

    async def handle(self, delivery: Delivery) -> None:
        """Carry out every job of an ingest message. Raises the errors that `runtime.consumer` documents."""
        message = decode_ingest(delivery.message.body, incoming_prefix=self._limits.incoming_prefix)
        if message.operation is not None:
            await self._operate(message.operation, delivery)
        for ignored in message.ignored:
            _log_ignored(ignored, delivery.message.id)
        problem: PoisonMessageError | None = None
        for job in message.jobs:
            # The other jobs of the message are carried out all the same.
            try:
                await self._run(job, delivery)
            except PoisonMessageError as error:
                problem = problem or error
        if problem is not None:
            raise problem

    async def _operate(self, request: OperationRequest | WorkRequest, delivery: Delivery) -> None:
        """Carry out a request, or the work that one has left on its batch."""
        try:
            if isinstance(request, WorkRequest):
                await self._work.handle(request, delivery)
            elif opens_round(request):
                # The pass over a large batch takes minutes: other messages get the slot meanwhile.
                delivery.release_slot()
                by = self._remap if request.op == "remap" else self._redrive
                await carry_out(self._ports, request, delivery.message.id, by=by.open_round)
            else:
                await carry_out(self._ports, request, delivery.message.id)
        except RetryableError as error:
            # A batch waits for it, and as a dead letter it is carried out as well: the pauses of jobs, which
            # grow to minutes, are too long.
            again_s = min(MAX_BACKOFF_S, 2.0 ** min(delivery.message.receives, 10))
            if error.retry_after_s is None and not isinstance(error, ConflictError):
                error.retry_after_s = again_s
            raise

    async def _run(self, job: Job, delivery: Delivery) -> None:
        try:
            batch, definition = await self._opener.open(job, delivery.message.id)
        except PoisonMessageError as error:
            ttl_s = self._limits.opening.ttl_s
            await refuse_task(self._ports, job, delivery.message.id, str(error), ttl_s)
            raise
        if batch is None:
            return
        await store_task(self._ports, job, batch)
        with structlog.contextvars.bound_contextvars(batch_id=batch.batch_id):
            if batch.state is State.SPLITTING:
                await self._split(batch, definition, delivery)
            # A redelivered job checks a sealed batch as well: its trigger may be lost.
            view = await self._completion.check(batch.batch_id)
            if view is not None and view.batch.state is State.RUNNING and view.batch.work is not None:
                # Work that had to wait for the end of the split.
                await send_work(self._ports, view.batch, view.batch.work)

    async def _split(self, batch: Batch, definition: Definition | None, delivery: Delivery) -> None:
        """Split the batch under its lease; if another splitter has it, send the job again for later."""
        clock = self._ports.clock
        lease = BatchLease(
            self._ports.table, batch, clock,
            state=State.SPLITTING, owner=self._owners(), duration_s=self._limits.lease_s,
        )  # fmt: skip
        grant = await lease.acquire()
        if not grant.is_ours:
            # Without a time the batch was sealed or has failed meanwhile.
            if grant.until_ms:
                await self._postpone(batch, delay_until_free(grant, clock))
            return
        async with lease.renewed():
            # Read again: the former holder may have written a checkpoint until the lease was taken.
            view = await self._ports.table.read(batch.batch_id)
            if view is None or view.batch.state is not State.SPLITTING:
                return
            if view.batch.lease_owner != lease.owner:
                # A splitter whose clock is ahead has taken the lease since, and may have sent rows unmarked.
                taken = LeaseGrant(is_ours=False, until_ms=view.batch.lease_until_ms)
                await self._postpone(batch, delay_until_free(taken, clock))
                return
            if grant.predecessor:
                log.warning("split_taken_over", predecessor=grant.predecessor)
                self._ports.metrics.count("splits_taken_over")
            # On a laptop: no message of this generation was sent before, so repeats need not wait.
            is_first = self._limits.is_alone and not batch.sender and not grant.predecessor
            delay_s = 0 if is_first else REPEAT_DELAY_S
            await self._split_leased(view.batch, definition, lease, delivery, delay_s)

    async def _split_leased(
        self,
        batch: Batch,
        definition: Definition | None,
        lease: BatchLease,
        delivery: Delivery,
        repeat_delay_s: int,
    ) -> None:
        def check() -> None:
            delivery.check_lease()
            lease.check()

        split = Split(
            self._ports,
            batch,
            lease,
            delivery,
            self._limits,
            self._send_budget,
            repeat_delay_s=repeat_delay_s,
        )
        try:
            if batch.work is not None and batch.work.kind is WorkKind.SEND:
                # Rows before the checkpoint whose messages an operation has taken out of use.
                await self._work.do(batch, check, delay_s=repeat_delay_s)
            await split.exclude(await self._selections.load(batch))
            if definition is None or definition.digest != batch.mapping_digest:
                definition = await stored_definition(self._ports.table, batch)
            await split.run(compile_stored(definition, batch))
        except (BatchRejectedError, MappingError) as error:
            lease.check()
            await fail_batch(self._ports, batch, str(error), expected=[State.SPLITTING])
        except MappingTooNewError as error:
            lease.check()
            await self._give_back(batch, error)
        except SplitEndedError:
            log.info("split_ended", rows=split.batch.checkpoint.rows)
        except RetryableError as error:
            if split.has_progressed and error.retry_after_s is None:
                # The earlier deliveries of its message do not tell how long this trouble lasts.
                error.retry_after_s = AFTER_PROGRESS_S
            raise

    async def _postpone(self, batch: Batch, delay_s: int) -> None:
        """Send the job of a batch that another splitter works on again, for later."""
        await self._send_again(batch, delay_s)
        log.info("split_postponed", reason="another splitter is at work", again_in_s=delay_s)

    async def _give_back(self, batch: Batch, error: MappingTooNewError) -> None:
        """Send the job again, for a newer splitter; fail the batch if none has taken it for `GIVE_BACK_S`."""
        if self._ports.clock.now_ms() - ms_of(batch.created_at) >= GIVE_BACK_S * 1000:
            await fail_batch(self._ports, batch, str(error), expected=[State.SPLITTING])
            return
        log.warning("mapping_too_new", reason=str(error), again_in_s=NEWER_SPLITTER_WAIT_S)
        await self._send_again(batch, NEWER_SPLITTER_WAIT_S)

    async def _send_again(self, batch: Batch, delay_s: int) -> None:
        """Send the job again, for later: a redelivery would use up the deliveries of its message."""
        message = OutgoingMessage(Job.again_for(batch).encode(), delay_s=delay_s)
        await send_all(self._ports.queues.ingest, [message])


def _log_ignored(ignored: Ignored, message_id: str) -> None:
    # A warning for a file that somebody may be waiting for.
    write = log.info if ignored.is_expected else log.warning
    write(
        "ingest_ignored",
        message_id=message_id,
        bucket=ignored.bucket,
        key=ignored.key,
        reason=truncate(ignored.reason, MAX_REASON_CHARS),
    )
