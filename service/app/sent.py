"""The call that was sent for a failed row, built again from its cells and the mapping of its batch.

Nothing is kept for it: the same code builds the same call from the same cells. References to variables are
shown as the mapping has them, because those of the worker are not known here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from service.agents.description import CallDescriber
from service.app.settings import Settings
from service.app.wiring.agents import call_describer
from service.batch.replies.kept_replies import round_of_reply
from service.batch.source import compile_stored, stored_definition
from service.domain.errors import (
    AgentRetryableError,
    ConfigError,
    MappingError,
    MappingTooNewError,
    RetryableError,
    RowRejectedError,
)
from service.domain.model import CUT_NOTE, Batch, Json, Outcome
from service.domain.ports import Invocation, Table
from service.mapping import RowMapping
from service.worker.row_task import input_of, invocation_id


@dataclass(frozen=True, slots=True)
class SentCall:
    """The call that was sent for a row, with secrets masked, or the reason why there is none to show.

    `input` is the agent's input, None if the row had none. `reply` is the one that was kept, with secrets
    masked, "" without one.
    """

    input: Json = None
    call: dict[str, Json] | None = None
    reason: str = ""
    reply: str = ""

    def as_json(self) -> dict[str, Json]:
        """The object `sent` of `errors --row --json`."""
        return {"input": self.input, "request": self.call, "reason": self.reason or None}


async def describe_sent(
    settings: Settings, table: Table, batch: Batch, outcome: Outcome, reply: str = ""
) -> SentCall:
    """Describe the call of the last attempt at a row, of which `reply` was kept. Raises AccessError."""
    try:
        mapping = compile_stored(await stored_definition(table, batch), batch)
    except (MappingError, MappingTooNewError, RetryableError) as error:
        return SentCall(reason=f"its mapping cannot be read here: {error}", reply=reply)
    sent = replace(_input(mapping, batch, outcome, has_reply=bool(reply)), reply=reply)
    try:
        describer = call_describer(settings, mapping, shows_variables=False)
    except ConfigError as error:
        return replace(sent, reason=sent.reason or str(error))
    sent = replace(sent, reply=str(describer.redact(sent.reply)))
    return sent if sent.reason else await _describe(describer, batch, outcome, sent)


def _input(mapping: RowMapping, batch: Batch, outcome: Outcome, *, has_reply: bool) -> SentCall:
    """The input of the row alone, or the reason why nothing was sent."""
    error = outcome.error
    if error is not None and error.message.endswith(f"{CUT_NOTE})"):
        return SentCall(reason="its cells are not complete in the table")
    if outcome.reused_from or not (has_reply or _was_called(outcome)):
        return SentCall(reason="its last attempt called no agent")
    cells = [str(outcome.input_data.get(column, "")) for column in batch.columns]
    try:
        return SentCall(input_of(mapping, batch.columns, cells))
    except RowRejectedError as refused:
        return SentCall(reason=str(refused))


def _was_called(outcome: Outcome) -> bool:
    """True if the last attempt at the row called the agent, as far as its outcome shows."""
    error = outcome.error
    is_of_agent = error is not None and error.type.startswith("Agent")
    return bool(outcome.execution_time_ms or is_of_agent)


async def _describe(describer: CallDescriber, batch: Batch, outcome: Outcome, sent: SentCall) -> SentCall:
    round_ = 1 if batch.same_id else round_of_reply(outcome)
    id_ = invocation_id(batch.identity, round_, outcome.number)
    try:
        call = await describer.describe(Invocation(id_, sent.input, outcome.attempts))
    except (RowRejectedError, AgentRetryableError) as error:
        return replace(sent, reason=str(error))
    return replace(sent, call=call)
