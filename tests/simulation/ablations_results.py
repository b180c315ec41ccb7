"""Ablations of results: their manifests, an aggregation that another begins again, and `latest.json`."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from service.aggregator.aggregator import Aggregator, _Work
from service.aggregator.checkpoints import Checkpoints, Progress
from service.aggregator.result_files import ResultFiles
from service.domain.model import State, iso_time
from tests.simulation.network import FaultyObjects
from tests.simulation.process import Components


class _DatingAggregator(Aggregator):
    async def _write_files(self, work: _Work) -> Progress:
        """Write the files; the manifest has the present time."""
        done = await super()._write_files(work)
        return replace(done, last_outcome_at=iso_time(self._ports.clock.now_ms()))


class NoSameManifest(Components):
    """A manifest that is written again after a crash tells another time than the first one."""

    aggregator = _DatingAggregator


class _TrustingAggregator(Aggregator):
    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._taken_over: list[_Work] = []

    async def _take_over(self, work: _Work, predecessor: str) -> None:
        """Note that another aggregator began."""
        await super()._take_over(work, predecessor)
        if predecessor:
            self._taken_over.append(work)

    async def _aggregate(self, work: _Work) -> None:
        """End a batch that another aggregator began, without a look at its results."""
        if not any(work is other for other in self._taken_over):
            await super()._aggregate(work)
        else:
            failed = work.view.counts.failed
            await self._succeed(work.batch, State.COMPLETED_WITH_ERRORS if failed else State.SUCCEEDED)


class NoRewriting(Components):
    """An aggregator that takes over from a dead one ends the batch without writing its results again."""

    aggregator = _TrustingAggregator


class _LaggingCheckpoints(Checkpoints):
    async def save(self, progress: Progress) -> bool:
        """Save a row too early."""
        return await super().save(replace(progress, row=progress.row - 1))


class _RepeatingAggregator(Aggregator):
    async def _checkpoint(self, work: _Work, files: ResultFiles) -> None:
        """Store a checkpoint whose row is not that of its parts."""
        work.checkpoints.__class__ = _LaggingCheckpoints
        await super()._checkpoint(work, files)


class NoExactCheckpoint(Components):
    """The checkpoint of an aggregation names the row before the last one that its parts hold."""

    aggregator = _RepeatingAggregator


class _BoldObjects(FaultyObjects):
    """Writes the object `unconditional` whatever stands there."""

    unconditional = ""

    async def put_if(self, bucket: str, key: str, body: bytes, *, content_type: str, etag: str) -> bool:
        """Write the object."""
        observed = self._observed
        if not key.endswith(self.unconditional):
            effect = partial(observed.put_if, bucket, key, body, content_type=content_type, etag=etag)
            is_written: bool = await self._network.call("publish", "objects.put_if", (bucket, key), effect)
            return is_written
        put = partial(observed.put, bucket, key, body, content_type=content_type)
        await self._network.call("publish", "objects.put_if", (bucket, key, body), put)
        return True


class _BoldNewestResults(_BoldObjects):
    unconditional = "/latest.json"


class NoNewestResults(Components):
    """`latest.json` is written whatever stands there by then."""

    objects = _BoldNewestResults


class _BoldManifests(_BoldObjects):
    unconditional = "/manifest.json"


class NoManifestCondition(Components):
    """The manifest of a failure is written whatever stands there by then."""

    objects = _BoldManifests
