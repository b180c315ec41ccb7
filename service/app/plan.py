"""Plans: what would be sent for one row of a file, and on demand the call of its agent, from end to end.

Input and call are built by the code of workers. A plan reads the file up to its row, opens no batch and
keeps nothing.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

from service.app.settings import Settings
from service.app.wiring.agents import agent_opener, call_describer
from service.csvio import CsvReader, Record, row_data
from service.csvio.compression import decompressor_of, is_compressed_name
from service.domain.errors import (
    AgentRetryableError,
    AgentTimeoutError,
    RowfleetError,
    RowRejectedError,
    UsageError,
)
from service.domain.model import Json
from service.domain.ports import Agent, Invocation, Reply
from service.mapping import Explanation, RowMapping
from service.worker.attempts import GRACE_S
from service.worker.row_task import input_of, invocation_id

READ_BYTES = 2**20

BATCH = "BATCH"
"""Stands in the id of a call that is not made for the batch that a run would have."""


@dataclass(frozen=True, slots=True)
class FoundRow:
    """One record of a file, with the columns of its header."""

    columns: Sequence[str]
    record: Record


@dataclass(frozen=True, slots=True)
class RowPlan:
    """The call for a row: `body` is the agent's input, `call` the whole call with secrets masked.

    `error`: the reason why the row would fail without a call; the other two are None then.
    """

    mapping: str
    row: FoundRow
    invocation: Invocation
    call: dict[str, Json] | None = None
    error: RowfleetError | None = None

    def as_json(self) -> dict[str, Any]:
        """The keys of `plan --json`, but for `result`."""
        return {
            "mapping": self.mapping,
            "row": self.row.record.number,
            "line": self.row.record.line,
            "invocation_id": self.invocation.id,
            "input_data": row_data(self.row.columns, self.row.record.cells),
            "input": None if self.error else self.invocation.body,
            "request": self.call,
            "error": error_json(self.error),
        }


@dataclass(frozen=True, slots=True)
class CallResult:
    """The end of one call: `reply` as it came, None if there was none, with secrets masked in it."""

    reply: Reply | None
    explanation: Explanation
    elapsed_ms: int


def error_json(error: RowfleetError | None) -> dict[str, Json] | None:
    """An error as `--json` has it."""
    if error is None:
        return None
    return {"type": error.kind, "class": str(error.failure_class), "message": str(error)}


def find_row(
    file: BinaryIO,
    mapping: RowMapping,
    number: int,
    reader: CsvReader,
    *,
    name: str = "",
    read_bytes: int = READ_BYTES,
) -> FoundRow:
    """The record with this number, counted from 1. The file is read as far as that.

    `name` tells if it may be compressed; it is read in chunks of `read_bytes`.

    Raises CsvError as a run does, also for a column that is missing, and UsageError if the file ends before.
    """
    most = 0
    for found in read_rows(file, mapping, reader, name=name, read_bytes=read_bytes):
        most = found.record.number
        if most == number:
            return found
    rows = f"{most:,} row{'' if most == 1 else 's'}" if most else "no rows"
    raise UsageError(f"there is no row {number}: the file has {rows}")


def read_rows(
    file: BinaryIO, mapping: RowMapping, reader: CsvReader, *, name: str = "", read_bytes: int = READ_BYTES
) -> Iterator[FoundRow]:
    """The records of a file in their order, read as far as they are asked for.

    The arguments are those of `find_row`. Raises CsvError as a run does, also for a column that is missing.
    """
    for records in _records(file, reader, is_compressed_name(name), read_bytes):
        if reader.header is not None:
            mapping.check_columns(reader.header.columns)
        for record in records:
            assert reader.header is not None, "it comes before the first record"
            yield FoundRow(reader.header.columns, record)


def _records(
    file: BinaryIO, reader: CsvReader, may_be_compressed: bool, read_bytes: int
) -> Iterator[Sequence[Record]]:
    chunk = file.read(read_bytes)
    decompressor = decompressor_of(chunk) if may_be_compressed else None
    while chunk:
        for piece in (chunk,) if decompressor is None else decompressor.feed(chunk):
            yield reader.feed(piece)
        chunk = file.read(read_bytes)
    if decompressor is not None:
        decompressor.close()
    yield reader.close()


async def plan_row(settings: Settings, mapping: RowMapping, row: FoundRow, *, is_called: bool) -> RowPlan:
    """The plan of a row. A call that is to be made gets an id of its own. Raises ConfigError."""
    batch = f"{mapping.name}#plan-{uuid.uuid4().hex}" if is_called else BATCH
    invocation = Invocation(
        invocation_id(batch, 1, row.record.number), None, timeout_s=mapping.execution.timeout_s
    )
    plan = RowPlan(mapping.name, row, invocation)
    describer = call_describer(settings, mapping)
    try:
        body = input_of(mapping, row.columns, row.record.cells, row.record.defect)
        invocation = replace(invocation, body=body)
        return replace(plan, invocation=invocation, call=await describer.describe(invocation))
    except (RowRejectedError, AgentRetryableError) as error:
        return replace(plan, error=error)


async def call_row(settings: Settings, mapping: RowMapping, plan: RowPlan) -> CallResult:
    """Call the agent once for a row, and explain the values of its reply. Raises ConfigError."""
    redact = call_describer(settings, mapping).redact
    agent = agent_opener(settings)(mapping)
    started = time.monotonic()
    try:
        reply: Reply | None = await _invoke(agent, plan.invocation)
    except (RowRejectedError, AgentRetryableError) as error:
        reply, failure = None, error
    finally:
        elapsed_ms = round((time.monotonic() - started) * 1000)
        await agent.close()
    if reply is None:
        explanation = _redacted(mapping.extractor.explain_failure(failure), redact)
        return CallResult(None, explanation, elapsed_ms)
    shown = replace(reply, body=redact(reply.body))
    return CallResult(shown, _redacted(mapping.extractor.explain(reply.body), redact), elapsed_ms)


async def _invoke(agent: Agent, invocation: Invocation) -> Reply:
    try:
        async with asyncio.timeout(invocation.timeout_s + GRACE_S):
            return await agent.invoke(invocation)
    except TimeoutError:
        raise AgentTimeoutError(f"no answer within {invocation.timeout_s:g} s") from None


def _redacted(explanation: Explanation, redact: Callable[[Json], Json]) -> Explanation:
    """The explanation with what the agent repeated of its credentials masked."""
    error = explanation.error
    if isinstance(error, RowfleetError):
        error = error.reworded(str(redact(str(error))))
    fields = tuple(
        replace(
            trace,
            value=redact(trace.value),
            failed=tuple(replace(one, reason=str(redact(one.reason))) for one in trace.failed),
        )
        for trace in explanation.fields
    )
    values = {name: redact(value) for name, value in explanation.values.items()}
    return replace(explanation, values=values, error=error, fields=fields)
