"""Redrive, and resume with the present mapping: the fleet opens the next round of a batch.

The rows that keep their outcome are found in one consistent pass and stored before anything is sent. One
transaction opens the round. Its rows are sent by `work`, which the transaction leaves on the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import structlog

from service.batch.role_ports import Ports
from service.domain.errors import MappingError, UsageError
from service.domain.model import Batch, BatchView, Json, Operation, State, iso_time
from service.domain.operation_requests import OperationRequest
from service.mapping import Definition
from service.recovery.kept import KeptSelections
from service.steering.decisions import Decision, resume
from service.steering.filters import Filters
from service.steering.operate import decide_and_apply, follow_up, read_existing
from service.steering.rounds import (
    OPENING,
    NextRound,
    check_redrivable,
    filters_of,
    redrivable_until,
    with_mapping,
)
from service.steering.selection import Selection, SelectionPass, can_be_read

log = structlog.get_logger(__name__)

PASSES = 3
"""Passes over a batch whose last calls still end: their outcomes should be among those that are kept."""


class Redrive:
    """Opens rounds. `definitions` returns the present definition of a mapping or raises MappingError."""

    def __init__(self, ports: Ports, definitions: Callable[[str], Definition]) -> None:
        self._ports = ports
        self._definitions = definitions
        self._selections = KeptSelections(ports.objects)

    async def open_round(self, request: OperationRequest) -> Operation:
        """Carry out a request that opens a round, and return what was done; `control` is 0 if nothing was.

        Raises UsageError, saying what stands there, if it is refused, RetryableError and AccessError.
        """
        batch = (await read_existing(self._ports.table, request.batch_id)).batch
        if (earlier := await self._ports.table.operation(batch, request.request_id)) is not None:
            # The process that opened the round may have died before it sent the round's work.
            await follow_up(self._ports, batch)
            return earlier
        filters = filters_of(request)
        if request.args.get("dry_run"):
            return await self._dry_run(request, batch)
        try:
            check_redrivable(batch, request, filters, self._ports.clock.now_ms())
            found = await self._prepare(batch, request, filters)
            decide = partial(_decide, found)
            text = found.definition.text if found.definition else None
            return await decide_and_apply(self._ports, request, decide, definition=text)
        except UsageError as error:
            raise UsageError(f"{error}{await self._opened_by(request)}") from None

    async def _dry_run(self, request: OperationRequest, batch: Batch) -> Operation:
        facts = await preview(self._ports, request)
        text = f"{facts['due']:,} rows of {batch.batch_id} would run again"
        now = iso_time(self._ports.clock.now_ms())
        answer = {"text": text, **facts}
        return Operation(request.op, request.request_id, request.by, now, args=request.args, answer=answer)

    async def _prepare(self, batch: Batch, request: OperationRequest, filters: Filters) -> NextRound:
        """Find and store what the round needs. Raises UsageError if it cannot be opened."""
        definition = self._present_mapping(batch) if request.args.get("mapping_now") else None
        found = NextRound(batch.round, batch.incarnation, filters, Selection(), definition=definition)
        if found.reads_on(batch) and not await can_be_read(self._ports, batch.source):
            raise UsageError(
                f"{batch.source.url} is gone or was changed, so the unread rows of {batch.batch_id} cannot "
                "be read; without --unread its failed rows can be redriven"
            )
        selection = await self._select(batch, filters)
        # The place of the present round lives as long, and is known to belong to this batch.
        stored = await self._selections.store(self._ports.large_outcomes.place_of(batch), selection.kept)
        return NextRound(batch.round, batch.incarnation, filters, selection, stored, definition)

    async def _select(self, batch: Batch, filters: Filters) -> Selection:
        """The selection, after the outcomes of calls that were under way when a batch was paused."""
        for _ in range(PASSES):
            selection = await SelectionPass(self._ports, batch, filters).run()
            view = await self._ports.table.read(batch.batch_id)
            if view is None or selection.in_round >= view.counts.done:
                break
            log.info("selection_repeated", batch_id=batch.batch_id, outcomes=view.counts.done)
        return selection

    def _present_mapping(self, batch: Batch) -> Definition:
        try:
            definition = self._definitions(batch.tool_name)
        except MappingError as error:
            raise UsageError(f"there is no present mapping for {batch.batch_id}: {error}") from None
        with_mapping(batch, definition, self._ports.clock.now_ms())  # refused before the pass
        return definition

    async def _opened_by(self, request: OperationRequest) -> str:
        """Who opened the round that the batch is in, if it has not ended; "" otherwise."""
        view = await self._ports.table.read(request.batch_id)
        if view is None or view.batch.state.is_final or view.batch.state is State.PAUSED:
            return ""
        log_ = await self._ports.table.operations(view.batch)
        openers = [made for made in log_ if made.op in OPENING and "round" in made.answer]
        if not openers:
            return ""
        last = openers[-1]
        return f" (round {last.answer['round']} was opened by {last.by} at {last.at})"


def _decide(found: NextRound, view: BatchView, request: OperationRequest, now_ms: int) -> Decision:
    decision = found.decide(view.batch, request, now_ms)
    if decision.after is not None or view.batch.state is not State.PAUSED:
        return decision
    # The last rows of a held batch may succeed before it is resumed: without a round it ends as it is.
    resumed = resume(view, request, now_ms)
    return replace(resumed, text=f"{resumed.text}; no row is left to run again", facts=decision.facts)


async def preview(ports: Ports, request: OperationRequest) -> dict[str, Json]:
    """The rows that a redrive would run, by class and error, and what they cost last time. Reads only.

    Raises as `Redrive.open_round` does.
    """
    batch = (await read_existing(ports.table, request.batch_id)).batch
    filters = filters_of(request)
    check_redrivable(batch, request, filters, ports.clock.now_ms())
    selection = await SelectionPass(ports, batch, filters).run()
    found = NextRound(batch.round, batch.incarnation, filters, selection)
    return {
        "batch_id": batch.batch_id,
        "due": (batch.checkpoint.rows if batch.total is None else batch.total) - len(selection.kept),
        "unread_from": (batch.unread_from or batch.checkpoint.rows + 1) if found.reads_on(batch) else None,
        **selection.as_json(),
        "skipped": selection.skipped,
        "redrivable_until": redrivable_until(batch),
    }
