"""The processes that have had the lease of a batch, to write its results or to send its lost rows again."""

from __future__ import annotations

from collections import defaultdict

from service.domain.model import Batch, State


class LeaseHolders:
    """Follows the batch items: every lease is written there.

    A process whose lease has ended may act late, which is harmless; one that never had one works beside the
    holder.
    """

    def __init__(self) -> None:
        self._writers: defaultdict[str, set[str]] = defaultdict(set)
        self._recoverers: defaultdict[str, set[str]] = defaultdict(set)

    def batch_written(self, batch: Batch) -> None:
        """A batch item was written."""
        process = batch.lease_owner.rpartition("/")[0]
        if batch.state is State.AGGREGATING:
            self._writers[batch.results.prefix].add(process)
        elif batch.state in (State.RUNNING, State.PAUSED):
            self._recoverers[batch.identity].add(process)

    def may_complete(self, process: str, key: str) -> bool:
        """True if the process has had the lease of the batch whose results lie there."""
        return process in self._writers[key[: key.rindex("/") + 1]]

    def may_recover(self, process: str, identity: str) -> bool:
        """True if the process has had the lease of the batch while it was RUNNING or PAUSED."""
        return process in self._recoverers[identity]
