"""Ablations of later rounds: their frozen selection, and the counts that they carry."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from service.domain.model import Batch, Counts
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
