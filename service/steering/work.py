"""Long work that an operation leaves to the fleet: rows are sent again, failed as cancelled, or remapped.

The work stands on the batch until it is done, with the number of the last row that is done. So a process that
dies loses little of it, and a later operation replaces it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import structlog

from service.batch.completion import Completion
from service.batch.ending import fail_batch
from service.batch.lease import BatchLease, delay_until_free
from service.batch.role_ports import Ports
from service.batch.row_checks import REPEAT_DELAY_S
from service.domain.errors import BatchRejectedError, MappingError
from service.domain.model import Batch, BatchView, State, Work, WorkKind
from service.domain.operation_requests import WorkRequest
from service.domain.ports import OutgoingMessage
from service.recovery.recovery import Recovery
from service.runtime.delivery import Delivery
from service.runtime.sender import send_all
from service.steering.cancellation import cancelled_error
from service.steering.remapping.work import RemapWork

log = structlog.get_logger(__name__)

SAVE_ROWS = 2_000
"""Rows after which the progress is stored."""


class WorkEndedError(Exception):
    """The work is done, or an operation has replaced it."""


class FleetWork:
    """Does the work that operations have left on batches.

    `owners` returns a new name for each lease, used by no other holder; leases last `lease_s`.
    """

    def __init__(
        self,
        ports: Ports,
        recovery: Recovery,
        completion: Completion,
        remaps: RemapWork,
        *,
        owners: Callable[[], str],
        lease_s: float,
    ) -> None:
        self._ports = ports
        self._recovery = recovery
        self._remaps = remaps
        self._completion = completion
        self._owners = owners
        self._lease_s = lease_s

    async def handle(self, request: WorkRequest, delivery: Delivery) -> None:
        """Do the work that the message asks for, if the batch still has it, under the batch's lease.

        A splitter does what has to be done before the split goes on, and asks for the rest once it has ended.
        If another process has the lease, the message is sent again for the time when that lease ends.
        Raises LeaseLostError, RetryableError and AccessError.
        """
        view = await self._ports.table.read(request.batch_id)
        batch = None if view is None else view.batch
        if batch is None or not _has_work(batch, request):
            log.info("work_dropped", batch_id=request.batch_id, control=request.control)
            if batch is not None and batch.incarnation == request.incarnation:
                # whoever has done it may have died before its check
                await self._completion.check(batch.batch_id)
            return
        clock = self._ports.clock
        lease = BatchLease(
            self._ports.table, batch, clock,
            state=State.RUNNING, owner=self._owners(), duration_s=self._lease_s,
        )  # fmt: skip
        grant = await lease.acquire()
        if not grant.is_ours:
            if grant.until_ms:
                await self._postpone(request, delay_until_free(grant, clock))
            return
        with structlog.contextvars.bound_contextvars(batch_id=batch.batch_id):
            # Nobody has had the lease since the round opened, so no row of it was sent before.
            is_first = not batch.sender and not grant.predecessor
            sent_by_us = replace(batch, sender=lease.owner)
            async with lease.renewed():

                def check() -> None:
                    delivery.check_lease()
                    lease.check()

                await self.do(sent_by_us, check, delay_s=0 if is_first else REPEAT_DELAY_S)
            await self._completion.check(batch.batch_id)

    async def _postpone(self, request: WorkRequest, delay_s: int) -> None:
        """Send the message again, for later: a redelivery would use up the deliveries of this one."""
        await send_all(self._ports.queues.ingest, [OutgoingMessage(request.encode(), delay_s=delay_s)])
        log.info("work_postponed", reason="another process has the batch", again_in_s=delay_s)

    async def do(self, batch: Batch, check: Callable[[], None], *, delay_s: int = REPEAT_DELAY_S) -> None:
        """Do the work of a batch whose lease we hold, unless an operation replaces it meanwhile.

        `check` raises LeaseLostError once we do not hold it any more. Rows are delivered after `delay_s`. The
        batch fails if the selection of its round is gone.
        """
        work = batch.work
        assert work is not None
        try:
            await self._do(batch, work, check, delay_s)
            await self._save(batch, None)
        except WorkEndedError:
            log.info("work_replaced", kind=work.kind, control=work.control)
        except (BatchRejectedError, MappingError) as error:
            check()
            await fail_batch(self._ports, batch, str(error), expected=[batch.state])
        else:
            log.info("work_done", kind=work.kind, control=work.control)

    async def remap_rest(self, batch: Batch, check: Callable[[], None]) -> None:
        """Remap rows that lack an outcome although the work of their round is done. Raises as `do` does."""

        async def nothing(_number: int, _view: BatchView | None) -> None:
            return None

        await self._remaps.remap(batch, check, after=0, done=nothing)

    async def _do(self, batch: Batch, work: Work, check: Callable[[], None], delay_s: int) -> None:
        saved = work.after

        async def done(number: int) -> None:
            nonlocal saved
            if number - saved >= SAVE_ROWS:
                saved = number
                await self._save(batch, replace(work, after=number))

        async def remapped(number: int, view: BatchView | None) -> None:
            # A pause has to be noticed at once: nobody else's view stops this work.
            if view is not None and view.batch.control != batch.control:
                raise WorkEndedError
            await done(number)

        if work.kind is WorkKind.SEND:
            await self._recovery.resend(batch, check, after=work.after, done=done, delay_s=delay_s)
        elif work.kind is WorkKind.REMAP:
            await self._remaps.remap(batch, check, after=work.after, done=remapped)
        elif batch.is_remap:
            await self._remaps.keep(batch, check, after=work.after, done=remapped)
        else:
            error = cancelled_error(batch)
            await self._recovery.fail(batch, error, check, after=work.after, done=done)

    async def _save(self, batch: Batch, work: Work | None) -> None:
        """Store the progress. Raises WorkEndedError if this is not the batch's work any more."""
        if not await self._ports.table.set_work(batch, work):
            raise WorkEndedError


def _has_work(batch: Batch, request: WorkRequest) -> bool:
    """True if the work that the message asks for is still to be done, and can be."""
    if batch.incarnation != request.incarnation or batch.state is not State.RUNNING:
        return False
    return batch.work is not None and batch.work.control == request.control
