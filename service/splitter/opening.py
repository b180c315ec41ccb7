"""Opening: a job becomes a batch item, once (the protocol's step 1).

Whoever asks again, a redelivered message or the same job, finds the batch that stands. A job that cannot be
carried out becomes a FAILED batch that says why.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import structlog

from service.batch.ports import Ports
from service.domain.errors import (
    BatchRejectedError,
    MappingError,
    PoisonMessageError,
    SourceError,
)
from service.domain.jobs import Job
from service.domain.model import (
    CHECKPOINT_ROWS,
    DEFAULT_PRIORITY,
    DEFAULT_WEIGHT,
    Batch,
    Location,
    Source,
    State,
    iso_time,
)
from service.mapping import Definition

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class OpenLimits:
    """A batch has a partition for every `partition_bytes` of its source, and lives for `ttl_s` seconds.

    Its splitters checkpoint every `checkpoint_rows` rows.
    """

    partition_bytes: int = 16 * 2**20
    max_partitions: int = 16
    results_bucket: str = "rowfleet"
    ttl_s: int = 7 * 86_400
    checkpoint_rows: int = CHECKPOINT_ROWS


class Opener:
    """Opens batches. `definitions` finds a mapping by name or raises MappingError."""

    def __init__(
        self,
        ports: Ports,
        definitions: Callable[[str], Definition],
        limits: OpenLimits,
    ) -> None:
        self._ports = ports
        self._definitions = definitions
        self._limits = limits

    async def open(self, job: Job, message_id: str) -> tuple[Batch, Definition | None]:
        """The job's batch as it stands in the table, created if this is the first to ask for it.

        With it the definition that the folder holds now, if any. Raises PoisonMessageError where the batch id
        is another source's.
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
        batch = self._new_batch(job, execution_id, source, definition, problem)
        try:
            stored = await self._ports.table.open(batch, definition.text if definition else "")
        except BatchRejectedError as error:
            # Larger than an item; without its mapping there is room to say so.
            batch = self._new_batch(job, execution_id, source, None, str(error))
            try:
                stored = await self._ports.table.open(batch, "")
            except BatchRejectedError as again:
                raise PoisonMessageError(f"not even a failed batch can be made of this: {again}") from None
        _refuse_other_source(stored, source)
        if stored == batch:
            log.info(
                "batch_opened", batch_id=batch.batch_id, state=batch.state, source=source.url,
                error=batch.error,
            )  # fmt: skip
        return stored, definition

    async def _head(self, source: Source) -> Source:
        found = await self._ports.objects.head(source.bucket, source.key, source.version)
        if source.etag and found.etag != source.etag:
            raise SourceError(
                f"{source.url} has changed since the event that announced it (etag {found.etag}, announced "
                f"{source.etag}); the newer upload has its own run"
            )
        return found

    def _new_batch(
        self, job: Job, execution_id: str, source: Source, definition: Definition | None, problem: str
    ) -> Batch:
        now_ms = self._ports.clock.now_ms()
        limits = self._limits
        mapping = definition.compile() if definition else None
        deadline_s = job.deadline_s or (mapping.execution.batch_deadline_s if mapping else None)
        output = job.output or Location(limits.results_bucket, f"results/{job.mapping}/{execution_id}/")
        return Batch(
            tool_name=job.mapping,
            execution_id=execution_id,
            state=State.FAILED if problem else State.SPLITTING,
            source=source,
            output=output,
            mapping_digest=definition.digest if definition else "",
            output_fields=mapping.output_fields if mapping else (),
            escape_formulas=mapping.csv.escape_formulas if mapping else True,
            provenance=mapping.csv.provenance if mapping else False,
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
        )


def _refuse_other_source(stored: Batch, source: Source) -> None:
    """A batch id names one source for good.

    While the batch is being split, a changed object is left to the reading: a versioned one can still be
    read, and another one fails the batch.
    """
    ours = stored.source
    same_place = (ours.bucket, ours.key) == (source.bucket, source.key)
    may_be_read = stored.state is State.SPLITTING
    if not same_place or not (may_be_read or ours.is_same_object(source)):
        raise PoisonMessageError(
            f"batch {stored.batch_id} exists with another source: it reads {_etagged(ours)}, this message "
            f"asks for {_etagged(source)}; use another execution_id"
        )


def _etagged(source: Source) -> str:
    return f"{source.url} (etag {source.etag or 'unknown'})"
