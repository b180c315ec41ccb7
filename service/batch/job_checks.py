"""Checks of a job against the batch that has its id, for the splitter, `submit` and the dead letters."""

from __future__ import annotations

from collections.abc import Iterator

from service.domain.approval.options import sample_text
from service.domain.budgets.options import budget_text
from service.domain.jobs import Job
from service.domain.model import DEFAULT_PRIORITY, DEFAULT_WEIGHT, Batch, Source, State
from service.domain.tolerance import parse_tolerance, tolerance_text

Difference = tuple[str, str, str]
"""The name of a part of a job, its value in the batch, and the one that is asked for."""


def can_reopen(batch: Batch) -> bool:
    """True if the batch has failed before a row was sent: its id may be opened anew."""
    # The columns are stored before the first row is sent.
    return batch.state is State.FAILED and not batch.columns


def default_prefix(job: Job, execution_id: str) -> str:
    """The prefix of the results of a job that names no output."""
    return f"results/{job.mapping}/{execution_id}/"


def is_own_job(batch: Batch, job: Job, message_id: str) -> bool:
    """True if the job in the message `message_id` is the one that opened the batch, or the sweeper's."""
    return job.incarnation == batch.incarnation != "" or batch.request_id == job.request_id_for(message_id)


def refusal(batch: Batch, job: Job, source: Source, *, option: str = "execution_id") -> str:
    """The reason why another job than the batch's own cannot have its id, "" if it asks for the same run.

    `source` is the job's, as it is in S3 now; `option` is named as the remedy.
    """
    remedy = f"use another {option}"
    if differences := [*_differences(batch, job, source)]:
        names = " and ".join(name for name, _, _ in differences)
        values = "; ".join(
            f"its {name} is {stored}, this job asks for {asked}" for name, stored, asked in differences
        )
        return f"batch {batch.batch_id} exists with another {names}: {values}; {remedy}"
    if job.problem:
        return f"batch {batch.batch_id} exists, and this job is refused: {job.problem}; {remedy}"
    if batch.state is State.FAILED and not can_reopen(batch):
        return f"batch {batch.batch_id} failed after rows were sent ({batch.error}); {remedy} to run it again"
    return ""


def _differences(batch: Batch, job: Job, source: Source) -> Iterator[Difference]:
    ours = batch.source
    same_place = (ours.bucket, ours.key) == (source.bucket, source.key)
    # While the batch is being split, its reader decides: an old version in S3 can still be read, and an
    # object that was replaced fails the batch.
    may_be_read = batch.state is State.SPLITTING
    if not same_place or not (may_be_read or ours.is_same_object(source)):
        yield "source", _with_etag(ours), _with_etag(source)
    if job.problem:
        return  # the options could not be read
    # The bucket of the default may be another by now; the job that opened the batch knew it.
    is_default = batch.output.prefix == default_prefix(job, batch.execution_id)
    if batch.output != job.output if job.output else not is_default:
        yield "output", batch.output.url(), job.output.url() if job.output else "the default"
    asked: dict[str, tuple[str | int | None, str | int | None]] = {
        "limit": (batch.limit, job.limit),
        "hold_s": (batch.hold_s, job.hold_s),
        "delimiter": (batch.delimiter or None, job.delimiter),
        "encoding": (batch.encoding or None, job.encoding),
        "approval": (batch.sample_option or None, sample_text(job.approval) or None),
        "tolerate": (_canonical(batch.tolerate_option), _canonical(job.tolerate)),
    }
    # `set` may have changed them since.
    if not batch.control:
        asked["budget"] = (budget_text(batch.budgets.own) or None, budget_text(job.budget) or None)
        asked["trouble_pause_s"] = (batch.trouble_pause_s, job.trouble_pause_s)
        asked["priority"] = (batch.priority, job.priority or DEFAULT_PRIORITY)
        asked["weight"] = (batch.weight, job.weight or DEFAULT_WEIGHT)
    # An earlier version did not store it.
    if batch.incarnation:
        asked["deadline_s"] = (batch.deadline_s, job.deadline_s)
    for name, (stored, wanted) in asked.items():
        if stored != wanted:
            yield name, _shown(stored), _shown(wanted)


def _canonical(tolerate: str | None) -> str | None:
    """The option `tolerate` in one form, so that equal ones are equal texts."""
    return tolerance_text(parse_tolerance(tolerate)) if tolerate else None


def _with_etag(source: Source) -> str:
    return f"{source.url} (etag {source.etag or 'unknown'})"


def _shown(value: str | int | None) -> str:
    return "none" if value is None else repr(value)
