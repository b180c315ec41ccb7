"""The start of a run: a new batch, or the one that the same command has left."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from service.app.laptop.backend import LaptopBackend
from service.app.laptop.commands import RunCommand
from service.app.laptop.extending import extend, may_extend
from service.app.laptop.going_on import go_on
from service.app.laptop.home import local_user
from service.app.laptop.results import Replaced, find_replaced, has_result
from service.app.laptop.run_book import STDOUT, RunRecord
from service.app.status import WITH_RESULTS
from service.app.submit import submit
from service.domain.approval.options import asked_gate
from service.domain.budgets.options import budget_options
from service.domain.errors import SourceError, UsageError
from service.domain.model import BatchView, HoldReason, State
from service.domain.operation_requests import ARGUMENTS

CHUNK_BYTES = 8 * 2**20


class Step(StrEnum):
    """The step of a command: open a batch, go on with one, extend one by more rows, or write its results.

    KEEP leaves it as it is.
    """

    OPEN = "open"
    GO_ON = "go_on"
    EXTEND = "extend"
    WRITE = "write"
    KEEP = "keep"


@dataclass(frozen=True, slots=True)
class Start:
    """The first step of a run. `view` is the batch that is there already.

    `replaced` is the earlier result that gives way to its results. `note` says in one sentence what is found
    of an earlier run, "" if there is none. `is_approved`: the command runs all rows, and goes on with the
    sample that an estimate has run: no approval is waited for.
    """

    step: Step
    record: RunRecord
    view: BatchView | None = None
    replaced: Replaced | None = None
    note: str = ""
    is_approved: bool = False


class Starter:
    """Begins runs on a backend. Sources and results are in `bucket`."""

    def __init__(self, backend: LaptopBackend, bucket: str) -> None:
        self._runs = backend.runs
        self._ports = backend.ports
        self._bucket = bucket

    async def find(self, command: RunCommand, out: str, *, fresh: bool, force: bool) -> Start:
        """The first step of the command; nothing is changed yet.

        Raises UsageError if the run has finished, or if its results would replace a file of somebody else.
        """
        start = await self._earlier(command, out) if not fresh else None
        if start is None:
            start = Start(Step.OPEN, self._new_record(command, out), note=await self._same_calls(command))
        if out == STDOUT:
            return start
        return replace(start, replaced=await find_replaced(self._runs, Path(out), force=force))

    async def begin(self, start: Start, command: RunCommand) -> None:
        """Take the first step. Raises UsageError, SourceError, RetryableError and AccessError."""
        if start.step is Step.OPEN:
            # Noted before the batch is opened: a batch that nobody knows the command of would be lost.
            await self._runs.add(start.record)
            url = await self._upload(command)
            execution_id = start.record.batch_id.partition("#")[2]
            await submit(self._ports, command.submission(execution_id, url), self._bucket)
            return
        assert start.view is not None
        await self._runs.add(start.record)
        if start.step is Step.GO_ON:
            budget = budget_options(command.request.budget)
            await go_on(self._ports, start.view, local_user(), budget)
        elif start.step is Step.EXTEND:
            await extend(self._ports, start.view, command.request, local_user())

    async def find_sample(self, command: RunCommand, out: str) -> Start:
        """The first step of the sample of an estimate; nothing is changed yet.

        It is OPEN or GO_ON where calls are left to be made, and KEEP where the sample is there, or where a
        run has made calls for these rows already.
        """
        record = await self._runs.of_command(command.key)
        if record is None or record.key != command.key:
            if (earlier := await self._sampled(command, out)) is not None:
                return replace(earlier, step=Step.KEEP, note=f"no call is made: a run {earlier.note}")
            record = await self._runs.of_sample(command.sampling_key)
        view = None if record is None else await self._ports.table.read(record.batch_id)
        if record is None or view is None or (view.batch.state.is_final and not view.all_counts.done):
            made = replace(self._new_record(command, out), sampling_key=command.sampling_key)
            return Start(Step.OPEN, made)
        batch = view.batch
        note = f"{batch.batch_id}: {progress_text(view, record)}"
        if batch.hold(HoldReason.APPROVAL) is not None:
            return Start(Step.KEEP, record, view, note=f"the sample is there already, as {note}")
        if _is_left_at_gate(view):
            return Start(Step.GO_ON, record, view, note=f"goes on with {note}")
        return Start(Step.KEEP, record, view, note=f"no call is made: a run has begun, as {note}")

    async def _earlier(self, command: RunCommand, out: str) -> Start | None:
        """The step that goes on with what the same command has left; None if it has left nothing."""
        record = await self._runs.of_command(command.key)
        if record is None or record.key != command.key:
            if (start := await self._sampled(command, out)) is None:
                await self._refuse_other(command)
            return start
        view = await self._ports.table.read(record.batch_id)
        record = replace(record, out=out, source=command.request.source, folder=str(Path.cwd()))
        if view is None:
            return Start(Step.OPEN, replace(record, sampling_key=""))
        batch, id_ = view.batch, record.batch_id
        if not batch.state.is_final:
            note = f"goes on with {id_}: {progress_text(view, record)}"
            is_approved = bool(record.sampling_key) and not _asks_approval(command)
            return Start(Step.GO_ON, record, view, note=note, is_approved=is_approved)
        if batch.state in WITH_RESULTS:
            if out != STDOUT and await has_result(self._runs, Path(out), view):
                raise UsageError(_finished(view, out))
            note = f"{id_} has finished before: its results are written without a call (--fresh: run again)"
            return Start(Step.WRITE, record, view, note=note)
        if not view.all_counts.done:
            return None
        again = f"`rowfleet redrive {id_}` runs its failed rows again, " if batch.total is not None else ""
        raise UsageError(f"this run has failed as {id_} ({batch.error}): {again}--fresh runs all rows again")

    async def _sampled(self, command: RunCommand, out: str) -> Start | None:
        """The step that adds rows to a run of the first rows of the file; None if there is none."""
        record = await self._runs.of_file(command.whole_key)
        view = None if record is None else await self._ports.table.read(record.batch_id)
        if record is None or view is None or not may_extend(view, command.request.limit):
            return None
        changed = self._new_record(command, out, record.batch_id)
        note = f"goes on with {record.batch_id}: its {view.all_counts.done:,} rows are kept"
        return Start(Step.EXTEND, changed, view, note=note)

    async def _refuse_other(self, command: RunCommand) -> None:
        """Raise UsageError if an estimate holds a sample of these rows with other options."""
        record = await self._runs.of_sample(command.sampling_key)
        view = None if record is None else await self._ports.table.read(record.batch_id)
        if view is None or not _is_left_at_gate(view):
            return
        id_ = view.batch.batch_id
        raise UsageError(
            f"`rowfleet estimate` has run a sample of this file with other options, as {id_}: `rowfleet "
            f"approve {id_}` runs its other rows, `rowfleet reject {id_}` ends it, --fresh runs all rows anew"
        )

    async def _same_calls(self, command: RunCommand) -> str:
        """The remark that only the extraction has changed since a finished run, "" if that is not so."""
        record = await self._runs.of_calls(command.sending_key)
        view = None if record is None else await self._ports.table.read(record.batch_id)
        if record is None or record.key == command.key or view is None:
            return ""
        if view.batch.state not in WITH_RESULTS:
            return ""
        id_ = record.batch_id
        if "remap" in ARGUMENTS:
            way = f"`rowfleet remap {id_}` takes the values from the replies that are kept, without a call"
        else:
            way = f"`rowfleet redrive {id_} --mapping-now` runs only its failed rows by it"
        return f"only the extraction of the mapping has changed since {id_}: {way}"

    def _new_record(self, command: RunCommand, out: str, batch_id: str = "") -> RunRecord:
        records, limit = command.source.records, command.request.limit
        if records is not None and limit is not None:
            records = min(records, limit)
        execution_id = command.new_execution_id(self._ports.clock.now_ms())
        return RunRecord(
            batch_id=batch_id or command.batch_id(execution_id),
            source=command.request.source,
            out=out,
            key=command.key,
            sending_key=command.sending_key,
            whole_key=command.whole_key,
            records=records,
            folder=str(Path.cwd()),
        )

    async def _upload(self, command: RunCommand) -> str:
        """Put the file into the store, under its digest; return its place. Raises UsageError."""
        source = command.source
        key = f"sources/{command.request.mapping}/{source.sha256[:16]}/{source.name}"
        objects = self._ports.objects
        try:
            if (await objects.head(self._bucket, key)).size == source.size:
                return f"s3://{self._bucket}/{key}"
        except SourceError:
            pass  # it is not there yet
        try:
            with source.path.open("rb") as file:
                async with objects.upload(self._bucket, key, content_type="text/csv") as upload:
                    while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
                        await upload.write(chunk)
                    stored = await upload.complete()
        except OSError as error:
            raise UsageError(f"cannot read {source.path}: {error.strerror}") from None
        if stored.sha256 and stored.sha256 != source.sha256:
            raise UsageError(f"{source.path} was changed while it was read: run the command again")
        return f"s3://{self._bucket}/{key}"


def _is_left_at_gate(view: BatchView) -> bool:
    """True if rows of the batch wait until its sample is approved, or until its sample is done."""
    batch, gate = view.batch, view.batch.gate
    return gate is not None and not (gate.is_open or batch.cancelled_at or batch.state.is_final)


def _asks_approval(command: RunCommand) -> bool:
    """True if the command, or its mapping, wants a sample to be approved."""
    return asked_gate(command.definition.compile().gate, command.request.approval) is not None


def progress_text(view: BatchView | None, record: RunRecord) -> str:
    """`1,204 of 2,402 rows are done`."""
    done = view.all_counts.done if view is not None else 0
    total = view.batch.total if view is not None and view.batch.total is not None else record.records
    of = f" of {max(total, done):,}" if total is not None else ""
    return f"{done:,}{of} rows are done"


def _finished(view: BatchView, out: str) -> str:
    batch = view.batch
    what = "was cancelled" if batch.state is State.CANCELLED else "has finished"
    return (
        f"this run {what} as {batch.batch_id}, and its result is {out}: --fresh runs all rows again, "
        f"`rowfleet redrive {batch.batch_id}` only the failed ones"
    )
