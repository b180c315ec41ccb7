"""Step 1 of the protocol: a job becomes a batch item, once.

A redelivered message or a repeated job finds the batch that its first delivery stored. A job that cannot be
carried out becomes a FAILED batch whose `error` says why.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import structlog

from service.batch.ending import report_failed_batch, restate_failed_batch
from service.batch.role_ports import Ports
from service.domain.errors import (
    BatchRejectedError,
    MappingError,
    PoisonMessageError,
    SourceError,
)
from service.domain.jobs import Job, output_conflict
from service.domain.model import (
    CHECKPOINT_ROWS,
    DEFAULT_PRIORITY,
    DEFAULT_WEIGHT,
    Batch,
    Location,
    Source,
    State,
    iso_time,
    new_incarnation,
)
from service.mapping import Definition
from service.splitter.output_check import refusal_of

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class OpenLimits:
    """Limits of new batches.

    A batch gets one partition for every `partition_bytes` of its source, at most `max_partitions`. Its items
    expire after `ttl_s` seconds. Its splitters checkpoint every `checkpoint_rows` rows. No job may write its
    results into a place of `reserved`, for the reason given there.
    """

    partition_bytes: int = 16 * 2**20
    max_partitions: int = 16
    results_bucket: str = "rowfleet"
    ttl_s: int = 7 * 86_400
    checkpoint_rows: int = CHECKPOINT_ROWS
    reserved: Mapping[Location, str] = field(default_factory=dict)


class Opener:
    """Opens batches. `definitions` returns the definition of a mapping by name or raises MappingError.

    `rng` makes the incarnations of new batches; seeded in tests.
    """

    def __init__(
        self,
        ports: Ports,
        definitions: Callable[[str], Definition],
        limits: OpenLimits,
        *,
        rng: random.Random,
    ) -> None:
        self._ports = ports
        self._definitions = definitions
        self._limits = limits
        self._rng = rng

    async def open(self, job: Job, message_id: str) -> tuple[Batch, Definition | None]:
        """Store the job's batch unless its id is taken; return the stored batch and the current definition.

        The definition is the one that the catalog holds now, None if there is none. Raises
        PoisonMessageError if the batch id belongs to another source, or if no item can hold the batch.
        """
        definition: Definition | None = None
        problem = job.problem
        source = job.source
        try:
            if not problem:
                definition = self._definitions(job.mapping)
                source = await self._head(job.source)
        except (MappingError, SourceError) as error:
            problem = str(error)
        execution_id = job.execution_id_for(message_id)
        if conflict := output_conflict(job, self._limits.reserved):
            job, problem = replace(job, output=None), problem or conflict
        problem = problem or await refusal_of(self._ports, self._output_of(job, execution_id))
        batch = self._new_batch(job, execution_id, source, definition, problem)
        try:
            stored = await self._ports.table.open(batch, definition.text if definition else "")
        except BatchRejectedError as error:
            # The definition is too large for an item. A FAILED batch without it fits, and says so.
            batch = self._new_batch(job, execution_id, source, None, str(error))
            try:
                stored = await self._ports.table.open(batch, "")
            except BatchRejectedError as again:
                raise PoisonMessageError(f"not even a failed batch can be made of this: {again}") from None
        _refuse_other_source(stored, source)
        if stored == batch:
            await self._report(batch)
        elif stored.state is State.FAILED:
            await restate_failed_batch(self._ports, stored)
        return stored, definition

    async def _report(self, batch: Batch) -> None:
        log.info(
            "batch_opened", batch_id=batch.batch_id, state=batch.state, source=batch.source.url,
            error=batch.error,
        )  # fmt: skip
        if batch.state is State.FAILED:
            await report_failed_batch(self._ports, batch, batch.error)

    async def _head(self, source: Source) -> Source:
        found = await self._ports.objects.head(source.bucket, source.key, source.version)
        if source.etag and found.etag != source.etag:
            raise SourceError(
                f"{source.url} has changed since the event that announced it (etag {found.etag}, announced "
                f"{source.etag}); the newer upload has its own run"
            )
        return found

    def _output_of(self, job: Job, execution_id: str) -> Location:
        return job.output or Location(self._limits.results_bucket, f"results/{job.mapping}/{execution_id}/")

    def _new_batch(
        self, job: Job, execution_id: str, source: Source, definition: Definition | None, problem: str
    ) -> Batch:
        now_ms = self._ports.clock.now_ms()
        limits = self._limits
        mapping = definition.compile() if definition else None
        deadline_s = job.deadline_s or (mapping.execution.batch_deadline_s if mapping else None)
        return Batch(
            tool_name=job.mapping,
            execution_id=execution_id,
            state=State.FAILED if problem else State.SPLITTING,
            source=source,
            output=self._output_of(job, execution_id),
            mapping_digest=definition.digest if definition else "",
            output_fields=mapping.output_fields if mapping else (),
            escape_formulas=mapping.csv.escape_formulas if mapping else True,
            provenance=mapping.csv.provenance if mapping else False,
            bom=mapping.csv.bom if mapping else False,
            excel=mapping.csv.excel if mapping else False,
            delimiter=job.delimiter or "",
            encoding=job.encoding or "",
            partitions=min(limits.max_partitions, 1 + source.size // limits.partition_bytes),
            limit=job.limit,
            priority=job.priority or DEFAULT_PRIORITY,
            weight=job.weight or DEFAULT_WEIGHT,
            window=limits.checkpoint_rows,
            deadline_at=iso_time(now_ms + deadline_s * 1000) if deadline_s else "",
            created_at=iso_time(now_ms),
            updated_at=iso_time(now_ms),
            finished_at=iso_time(now_ms) if problem else "",
            ttl=now_ms // 1000 + limits.ttl_s,
            error=problem,
            incarnation=new_incarnation(now_ms, self._rng.getrandbits(20)),
        )


def _refuse_other_source(stored: Batch, source: Source) -> None:
    """Raise PoisonMessageError if the stored batch reads another source than the job asks for."""
    ours = stored.source
    same_place = (ours.bucket, ours.key) == (source.bucket, source.key)
    # While the batch is being split, its reader decides: an old version in S3 can still be read, and an
    # object that was replaced fails the batch.
    may_be_read = stored.state is State.SPLITTING
    if not same_place or not (may_be_read or ours.is_same_object(source)):
        raise PoisonMessageError(
            f"batch {stored.batch_id} exists with another source: it reads {_etagged(ours)}, this message "
            f"asks for {_etagged(source)}; use another execution_id"
        )


def _etagged(source: Source) -> str:
    return f"{source.url} (etag {source.etag or 'unknown'})"
