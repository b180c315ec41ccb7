"""Step 1 of the protocol: a job becomes a batch item, once.

A redelivered message or a repeated job finds the batch that its first delivery stored. A job that cannot be
carried out becomes a FAILED batch whose `error` says why.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import structlog

from service import __version__
from service.batch.ending import report_failed_batch, write_failed_manifest
from service.batch.job_checks import can_reopen, default_prefix, is_own_job, refusal
from service.batch.role_ports import Ports
from service.domain.approval.conditions import ApprovalError
from service.domain.approval.options import asked_gate, check_approval, sample_text
from service.domain.errors import (
    BatchRejectedError,
    ConflictError,
    MappingError,
    PoisonMessageError,
    SourceError,
)
from service.domain.jobs import Job, output_conflict
from service.domain.model import (
    CHECKPOINT_ROWS,
    DEFAULT_PRIORITY,
    DEFAULT_WEIGHT,
    NO_BUDGET,
    Batch,
    BatchBudgets,
    BatchView,
    Counts,
    Event,
    Location,
    Source,
    State,
    Tolerance,
    batch_id,
    iso_time,
    new_incarnation,
)
from service.domain.tolerance import parse_tolerance
from service.mapping import Definition, RowMapping
from service.splitter.output_check import refusal_of
from service.splitter.partitions import partition_count
from service.steering.budgets.limits import price_problem

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class OpenLimits:
    """Limits of new batches.

    A batch gets one partition for every `partition_bytes` of its source, at most `max_partitions`
    (`partition_count`). Its items expire after `ttl_s` seconds. Its splitters checkpoint every
    `checkpoint_rows` rows. No job may write its results into a place of `reserved`, for the reason given
    there.
    """

    partition_bytes: int = 128 * 2**10
    max_partitions: int = 64
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

    async def open(self, job: Job, message_id: str) -> tuple[Batch | None, Definition | None]:
        """Store the job's batch unless its id is taken; return the stored batch and the current definition.

        A batch that failed before a row was sent is replaced, unless this very job opened it. The batch is
        None if a job that was sent again finds it gone. The definition is the one that the catalog holds now,
        None if there is none. Raises PoisonMessageError if the batch was opened by a job that asks for
        another run, or if no item can hold the batch.
        """
        if job.incarnation:
            return await self._find(job, message_id), None
        definition, source, problem = await self._look_up(job)
        conflict = output_conflict(job, self._limits.reserved)
        asked = replace(job, output=None) if conflict else job
        execution_id = job.execution_id_for(message_id)
        problem = problem or conflict or await refusal_of(self._ports, self._output_of(asked, execution_id))
        batch = self._new_batch(asked, message_id, source, definition, problem)
        batch, stored = await self._store(batch, definition)
        if can_reopen(stored) and not is_own_job(stored, job, message_id):
            # The cause of the earlier failure may be mended by now.
            batch, stored = await self._store(batch, definition, replacing=stored)
        if stored == batch:
            await self._report(batch)
        elif not is_own_job(stored, job, message_id):
            _check_refusal(stored, job, source)
        elif stored.state is State.FAILED:
            # The process that failed it may have died before it wrote the manifest.
            await write_failed_manifest(self._ports, stored)
        return stored, definition

    async def _look_up(self, job: Job) -> tuple[Definition | None, Source, str]:
        """The job's definition and source, and the reason why it cannot be carried out, or ""."""
        definition: Definition | None = None
        try:
            if not job.problem:
                definition = self._definitions(job.mapping)
                mapping = definition.compile()
                check_approval(mapping.gate, mapping.output_fields, job.approval)
                problem = _budget_problem(job, mapping, self._ports.clock.now_ms())
                return definition, await self._head(job.source), problem
        except (ApprovalError, MappingError, SourceError) as error:
            return definition, job.source, str(error)
        return None, job.source, job.problem

    async def _find(self, job: Job, message_id: str) -> Batch | None:
        """The batch whose job was sent again by the sweeper, unless another one has its id by now."""
        id_ = batch_id(job.mapping, job.execution_id_for(message_id))
        view = await self._ports.table.read(id_)
        if view is not None and view.batch.incarnation == job.incarnation:
            return view.batch
        log.info("job_dropped", batch_id=id_, reason="the batch that it was sent again for is gone")
        return None

    async def _store(
        self, batch: Batch, definition: Definition | None, *, replacing: Batch | None = None
    ) -> tuple[Batch, Batch]:
        """Store the batch unless its id is taken; return it as it was to be stored, and the stored batch."""
        if replacing is not None:
            after = replacing.incarnation
            incarnation = new_incarnation(self._ports.clock.now_ms(), self._rng.getrandbits(20), after=after)
            batch = replace(batch, incarnation=incarnation)
        table = self._ports.table
        try:
            text = definition.text if definition else ""
            return batch, await table.open(batch, text, replacing=replacing, events=self._events(batch))
        except BatchRejectedError as error:
            # The definition is too large for an item. A FAILED batch without it fits, and says so.
            batch = _failed(batch, str(error))
            try:
                return batch, await table.open(batch, "", replacing=replacing, events=self._events(batch))
            except BatchRejectedError as again:
                raise PoisonMessageError(f"not even a failed batch can be made of this: {again}") from None

    def _events(self, batch: Batch) -> Sequence[Event]:
        return self._ports.events.opening(BatchView(batch, Counts()), batch.created_at)

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
        return job.output or Location(self._limits.results_bucket, default_prefix(job, execution_id))

    def _new_batch(
        self, job: Job, message_id: str, source: Source, definition: Definition | None, problem: str
    ) -> Batch:
        now_ms = self._ports.clock.now_ms()
        limits = self._limits
        execution_id = job.execution_id_for(message_id)
        mapping = definition.compile() if definition else None
        tolerate = mapping.execution.tolerate if mapping else Tolerance()
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
            partitions=partition_count(
                source, job.limit, partition_bytes=limits.partition_bytes, most=limits.max_partitions
            ),
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
            request_id=job.request_id_for(message_id),
            deadline_s=job.deadline_s,
            hold_s=job.hold_s,
            trouble_pause_s=job.trouble_pause_s,
            compiled_by=__version__ if mapping else "",
            event_kinds=tuple(sorted(self._ports.events.kinds)),
            tolerate=parse_tolerance(job.tolerate, tolerate) if job.tolerate else tolerate,
            tolerate_option=job.tolerate or "",
            gate=None if problem or mapping is None else asked_gate(mapping.gate, job.approval),
            sample_option=sample_text(job.approval),
            prices=mapping.prices_at(now_ms) if mapping else None,
            budgets=BatchBudgets(job.budget, mapping.budget if mapping else NO_BUDGET),
        )


def _budget_problem(job: Job, mapping: RowMapping, now_ms: int) -> str:
    """The reason why a budget of the batch or of its mapping cannot be kept, or ""."""
    problems = (price_problem(budget, mapping.prices_at(now_ms)) for budget in (job.budget, mapping.budget))
    return next((problem for problem in problems if problem), "")


def _failed(batch: Batch, problem: str) -> Batch:
    """The batch as FAILED, without anything of its mapping."""
    return replace(
        batch,
        state=State.FAILED,
        error=problem,
        finished_at=batch.created_at,
        mapping_digest="",
        output_fields=(),
    )


def _check_refusal(stored: Batch, job: Job, source: Source) -> None:
    """Raise PoisonMessageError if the job asks for another run than the stored batch."""
    if can_reopen(stored):
        raise ConflictError(f"another job has opened batch {stored.batch_id} at the same time")
    if reason := refusal(stored, job, source):
        raise PoisonMessageError(reason)
