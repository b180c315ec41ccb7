"""Ablations of later rounds: their frozen selection, the counts that they carry, and remaps without calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from service.batch.row_checks import REPEAT_DELAY_S
from service.domain.model import Batch, Counts, WorkKind
from service.steering.work import FleetWork
from tests.simulation.observed_ports import ObservedTable
from tests.simulation.process import Components


class _ForgetfulTable(ObservedTable):
    async def operate(self, before: Batch, after: Batch, *arguments: Any, **named: Any) -> bool:
        """Forget which rows keep their outcome when a round opens."""
        return await super().operate(before, replace(after, kept=None), *arguments, **named)


class NoSelection(Components):
    """A later round is over all rows, also those that keep their outcome."""

    observed_table = _ForgetfulTable


class _DiscountedTable(ObservedTable):
    async def operate(self, before: Batch, after: Batch, *arguments: Any, **named: Any) -> bool:
        """Operate; a round that opens carries no counts."""
        if after.round > before.round:
            after = replace(after, carried=Counts())
        return await super().operate(before, after, *arguments, **named)


class NoCarriedCounts(Components):
    """The totals of a later round are those of the rows that run in it."""

    observed_table = _DiscountedTable


class _RepeatedTable(ObservedTable):
    async def operate(self, before: Batch, after: Batch, *arguments: Any, **named: Any) -> bool:
        """Operate; a round that opens carries the counts of the round before as well."""
        if after.round > before.round:
            after = replace(after, carried=after.carried + before.carried + self._counted(before))
        return await super().operate(before, after, *arguments, **named)


class DoubledCarried(Components):
    """The totals of a later round count the rows of earlier ones twice."""

    observed_table = _RepeatedTable


class _CallingTable(ObservedTable):
    async def operate(self, before: Batch, after: Batch, *arguments: Any, **named: Any) -> bool:
        """Operate; a remap opens a round like any other, whose rows are sent to workers."""
        if after.is_remap and after.work is not None:
            after = replace(after, remap_round=0, work=replace(after.work, kind=WorkKind.SEND))
        return await super().operate(before, after, *arguments, **named)


class NoRemapRounds(Components):
    """Rows of a remap are sent to workers."""

    observed_table = _CallingTable


class _CancellingWork(FleetWork):
    async def do(self, batch: Batch, check: Callable[[], None], *, delay_s: int = REPEAT_DELAY_S) -> None:
        """Do the work; that of a cancelled remap fails its rows, as in any other round."""
        if batch.work is not None and batch.work.kind is WorkKind.CANCEL:
            batch = replace(batch, remap_round=0)
        await super().do(batch, check, delay_s=delay_s)


class NoKeptWhenCancelled(Components):
    """Rows of a cancelled remap lose the outcome that was paid for."""

    fleet_work = _CancellingWork
