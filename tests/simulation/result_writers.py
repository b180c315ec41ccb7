"""The aggregators that have had the lease of a batch, and so may complete its result files."""

from __future__ import annotations

from collections import defaultdict

from service.domain.model import Batch, State


class ResultWriters:
    """Follows the batch items: every lease of an aggregation is written there.

    An aggregator whose lease has ended may complete a file late, which is harmless; one that never had one
    writes beside its holder.
    """

    def __init__(self) -> None:
        self._holders: defaultdict[str, set[str]] = defaultdict(set)

    def batch_written(self, batch: Batch) -> None:
        """A batch item was written."""
        if batch.state is State.AGGREGATING and batch.lease_owner:
            process = batch.lease_owner.rpartition("/")[0]
            self._holders[batch.results.prefix].add(process)

    def may_complete(self, process: str, key: str) -> bool:
        """True if the process has had the lease of the batch whose results lie there."""
        return process in self._holders[key[: key.rindex("/") + 1]]
