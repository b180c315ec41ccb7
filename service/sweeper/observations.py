"""A sweeper's memory of batches: when each of them last moved."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from service.domain.model import BatchView, State
from service.domain.ports import Clock


@dataclass(slots=True)
class Observation:
    """The progress of a batch when it last moved, the monotonic time of that, and the interventions since.

    `sender` is that of the batch: a new one of a RUNNING batch is a sweeper that has recovered it.
    """

    progress: tuple[object, ...]
    since: float
    sender: str
    interventions: int = 0


class Observations:
    """The observations of at most `most` batches, by batch id."""

    def __init__(self, clock: Clock, most: int) -> None:
        self._clock = clock
        self._most = most
        self._observed: OrderedDict[str, Observation] = OrderedDict()

    def __len__(self) -> int:
        return len(self._observed)

    def __contains__(self, batch_id: str) -> bool:
        return batch_id in self._observed

    def observe(self, view: BatchView) -> Observation:
        """The observation of a batch; a new one if the batch has moved since the last sweep."""
        batch = view.batch
        progress = (
            batch.identity, batch.state, batch.round, batch.control, batch.work, batch.checkpoint.rows,
            view.counts.done, batch.updated_at,
        )  # fmt: skip
        observed = self._observed.get(batch.batch_id)
        if observed is None or observed.progress != progress:
            observed = Observation(progress, self._clock.monotonic(), batch.sender)
            self._observed[batch.batch_id] = observed
        if batch.state is State.RUNNING and observed.sender != batch.sender:
            observed.sender = batch.sender
            self.intervened(observed)
        self._observed.move_to_end(batch.batch_id)
        if len(self._observed) > self._most:
            self._observed.popitem(last=False)
        return observed

    def forget(self, batch_id: str) -> None:
        """Drop a batch that is swept no more."""
        self._observed.pop(batch_id, None)

    def still_s(self, observed: Observation) -> float:
        """Seconds since the batch last moved."""
        return self._clock.monotonic() - observed.since

    def is_at_work(self, observed: Observation) -> None:
        """Note that another process works on the batch.

        This is no progress: a process that fails again and again takes a lease each time.
        """
        observed.since = self._clock.monotonic()

    def intervened(self, observed: Observation) -> None:
        """Give the batch time to move."""
        observed.since = self._clock.monotonic()
        observed.interventions += 1
