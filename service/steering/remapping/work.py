"""The work of a remap: each row that is due gets the outcome that its kept reply gives. No agent is called.

Rows that have an outcome of the round are skipped, and a commit replaces none, so the work can be repeated
from any row on, by any process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing

import structlog

from service.batch.commits.group_commit import GroupCommitter
from service.batch.replies.kept_replies import KeptReplies
from service.batch.role_ports import Ports
from service.batch.source import compile_stored, stored_definition
from service.domain.errors import RowRejectedError
from service.domain.model import Batch, BatchView, Outcome, iso_time
from service.mapping import Prices
from service.recovery.kept import KeptSelections
from service.recovery.ordered_rows import outcomes_in_row_order
from service.steering.remapping.remapper import Remapper, failed_with, kept_as_it_is
from service.steering.remapping.replies import RepliedRows

log = structlog.get_logger(__name__)

Done = Callable[[int, BatchView | None], Awaitable[None]]
"""Is called with the number up to which all rows are done, and the batch as it was seen then."""


class RemapWork:
    """Commits the rows of remaps. `worker` names this process in their outcomes."""

    def __init__(self, ports: Ports, committer: GroupCommitter, *, worker: str) -> None:
        self._ports = ports
        self._committer = committer
        self._rows = RepliedRows(ports.large_outcomes, KeptReplies(ports))
        self._selections = KeptSelections(ports.objects)
        self._worker = worker

    async def remap(self, batch: Batch, check: Callable[[], None], *, after: int, done: Done) -> None:
        """Commit the rows above `after` that are due and have no outcome of the round.

        `check` raises LeaseLostError once another process may have the batch. A row whose reply is gone keeps
        its outcome. Raises BatchRejectedError if the selection of the round is gone, MappingError,
        RetryableError and AccessError, and what `check` and `done` raise.
        """
        mapping = compile_stored(await stored_definition(self._ports.table, batch), batch)
        remapper = Remapper(
            mapping, batch.round,
            worker=self._worker, keep_better=batch.keep_better, provenance=batch.provenance,
            prices=Prices.of_json(batch.prices),
        )  # fmt: skip

        async def made(outcome: Outcome) -> Outcome:
            found = await self._rows.load(batch, outcome)
            if found is None:
                self._ports.metrics.count("replies_missing")
                return kept_as_it_is(outcome, batch.round)
            return remapper.remapped(found.earlier, found.reply, iso_time(self._ports.clock.now_ms()))

        await self._commit_all(batch, check, after, made, done)

    async def keep(self, batch: Batch, check: Callable[[], None], *, after: int, done: Done) -> None:
        """Let the rows above `after` that have no outcome of the round keep the one that they have.

        Raises as `remap` does.
        """

        async def made(outcome: Outcome) -> Outcome:
            return kept_as_it_is(outcome, batch.round)

        await self._commit_all(batch, check, after, made, done)

    async def _commit_all(
        self,
        batch: Batch,
        check: Callable[[], None],
        after: int,
        made: Callable[[Outcome], Awaitable[Outcome]],
        done: Done,
    ) -> None:
        kept = await self._selections.load(batch)
        async with aclosing(outcomes_in_row_order(self._ports.table, batch, kept, after=after)) as chunks:
            async for outcomes in chunks:
                earlier = [outcome for outcome in outcomes if outcome.round < batch.round]
                new = [await made(outcome) for outcome in earlier]
                check()
                view = await self._commit(batch, earlier, new)
                await done(outcomes[-1].number, view)

    async def _commit(
        self, batch: Batch, earlier: Sequence[Outcome], new: Sequence[Outcome]
    ) -> BatchView | None:
        """Commit the outcomes; one that the table does not take is FAILED. Return the batch as seen then."""
        # One future for each row, but no task: a task would take longer than the commit.
        futures = [await self._committer.begin(batch, outcome.number, outcome) for outcome in new]
        results = await asyncio.gather(*futures, return_exceptions=True)
        view: BatchView | None = None
        for before, outcome, result in zip(earlier, new, results, strict=True):
            if isinstance(result, RowRejectedError):
                log.warning("row_not_remapped", row=outcome.number, reason=str(result))
                candidates = [failed_with(outcome, result), kept_as_it_is(before, batch.round)]
                _, view = await self._committer.commit_first(batch, candidates)
            elif isinstance(result, BaseException):
                raise result
            else:
                view = result
        return view
