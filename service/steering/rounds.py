"""Decisions that open the next round of a batch: which states allow it, and what the batch is in it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from service import __version__
from service.domain.errors import CsvError, MappingError, UsageError
from service.domain.model import (
    MAX_ROUND,
    Batch,
    HoldReason,
    Json,
    State,
    StoredPayload,
    Work,
    WorkKind,
    iso_time,
)
from service.domain.operation_requests import OperationRequest
from service.steering.approval.gates import passed
from service.steering.budgets.limits import changes_budget, is_over, price_problem
from service.steering.decisions import LIFTED_BY_RESUME, Decision, describe_hold, open_state
from service.steering.filters import Filters
from service.steering.selection import Selection

if TYPE_CHECKING:
    # commands that only read a batch start without the mapping language
    from service.mapping import Definition

LEAST_LEFT_S = 86_400
"""Time that the items of a batch must still live when a round opens."""

MOST_SKIPPED = 1_000
"""Skipped rows that an answer lists."""

OPENING = ("redrive", "remap", "resume", "approve")
"""Operations that can open a round; `resume` and `approve` do so with the present mapping."""


def opens_round(request: OperationRequest) -> bool:
    """True for a request that opens a round, which takes a pass over the batch by the fleet."""
    if request.op in ("redrive", "remap"):
        return True
    return request.op in OPENING and bool(request.args.get("mapping_now"))


def redrivable_until(batch: Batch) -> str | None:
    """The time until which a round can be opened (ISO 8601 in UTC); None if the items do not expire."""
    return iso_time((batch.ttl - LEAST_LEFT_S) * 1000) if batch.ttl else None


def filters_of(request: OperationRequest) -> Filters:
    """The rows that the request asks for. Raises UsageError."""
    return Filters.of(request.args)


def check_redrivable(batch: Batch, request: OperationRequest, filters: Filters, now_ms: int) -> None:
    """Raise UsageError, saying what stands there, if no round can be opened for the request."""
    if changes_budget(request.args):
        raise UsageError(
            f"a round opens under the budget that there is: `rowfleet set {batch.batch_id}` changes it first"
        )
    if batch.state is State.PAUSED and batch.is_remap:
        raise UsageError(
            f"{batch.batch_id} is being remapped: `rowfleet resume {batch.batch_id}` goes on with that, or "
            "cancel it first"
        )
    if batch.state is State.PAUSED and bool(request.args.get("mapping_now")) and filters.is_empty:
        # The sample runs again, and waits for approval again. The present mapping may state another budget:
        # that is looked at once it is known.
        lifted = LIFTED_BY_RESUME | {HoldReason.APPROVAL, HoldReason.BUDGET}
        held = [hold for hold in batch.holds if hold.reason not in lifted]
        if held:
            raise UsageError(f"batch {batch.batch_id} is held: {'; '.join(map(describe_hold, held))}")
    elif request.op in ("resume", "approve"):
        _refuse_resume(batch)
    else:
        check_ended(batch)
    check_time_left(batch, now_ms)
    filters.check_rows(batch.total)


def check_time_left(batch: Batch, now_ms: int) -> None:
    """Raise UsageError if the items of the batch expire too soon for a round, or if it has had too many."""
    if batch.ttl and now_ms >= (batch.ttl - LEAST_LEFT_S) * 1000:
        way_on = "submit its failures.csv as a new run"
        if not batch.state.is_final:
            way_on = (
                f"`rowfleet resume {batch.batch_id}` goes on with its own mapping; or cancel it, and {way_on}"
            )
        raise UsageError(
            f"the items of {batch.batch_id} expire at {iso_time(batch.ttl * 1000)}, and a round needs a day: "
            f"one could be opened until {redrivable_until(batch)}; {way_on}"
        )
    if batch.round >= MAX_ROUND:
        raise UsageError(f"batch {batch.batch_id} has had {MAX_ROUND} rounds: submit its failures.csv anew")


def _refuse_resume(batch: Batch) -> None:
    if batch.state.is_final:
        raise UsageError(
            f"batch {batch.batch_id} has ended, it is {batch.state}: "
            f"`rowfleet redrive {batch.batch_id} --mapping-now` runs its failed rows again"
        )
    raise UsageError(
        f"batch {batch.batch_id} is {batch.state}: `rowfleet pause {batch.batch_id}` before it goes on with "
        "another mapping"
    )


def check_ended(batch: Batch) -> None:
    """Raise UsageError unless the batch has ended and was read to its end, or cancelled."""
    name = batch.batch_id
    if batch.state is State.PAUSED:
        raise UsageError(
            f"batch {name} is paused: {'; '.join(map(describe_hold, batch.holds))}; `rowfleet resume {name}` "
            "goes on with it, with --mapping-now by the present mapping"
        )
    if batch.state is State.AGGREGATING:
        raise UsageError(f"the results of {name} are being written: redrive it when that has ended")
    if not batch.state.is_final:
        raise UsageError(f"batch {name} is {batch.state} in round {batch.round}: it has not ended")
    if batch.total is None:
        raise UsageError(
            f"batch {name} is {batch.state} and its source was not read to its end: start a new run"
        )


@dataclass(frozen=True, slots=True)
class NextRound:
    """What the pass over a batch has found for its next round. `stored` is the list of the kept rows.

    `definition` is that of the present mapping, None if the batch keeps its own.
    """

    round: int
    incarnation: str
    filters: Filters
    selection: Selection
    stored: StoredPayload | None = None
    definition: Definition | None = None

    def decide(self, batch: Batch, request: OperationRequest, now_ms: int) -> Decision:
        """Open the round. Raises UsageError if the batch has moved on since the pass."""
        check_redrivable(batch, request, self.filters, now_ms)
        if not batch.is_round(self.incarnation, self.round):
            raise UsageError(f"batch {batch.batch_id} is in round {batch.round} by now")
        selection = self.selection
        # A redrive leaves the gate behind.
        known = (len(batch.sample) if request.op != "redrive" else 0) or batch.total or 0
        lacking = 0 if batch.total is None else known - len(selection.kept) - selection.selected
        is_unread = self.reads_on(batch)
        if not selection.selected and not lacking and not is_unread:
            return Decision(self._nothing(batch), facts={"due": 0, **self._skipped()})
        after = self._after(batch, request, now_ms, is_unread=is_unread)
        text = f"{batch.batch_id} is in round {after.round}: {self._rows(after, lacking)}"
        facts: dict[str, Json] = {"round": after.round, "due": after.due, "carried": len(selection.kept)}
        return Decision(text, after, facts | self._skipped())

    def reads_on(self, batch: Batch) -> bool:
        """True if the source is read on in the round: rows of it were not read."""
        return batch.total is None or (self.filters.unread and batch.unread_from > 0)

    def _after(self, batch: Batch, request: OperationRequest, now_ms: int, *, is_unread: bool) -> Batch:
        after = replace(
            next_round(batch, self.selection, self.stored, WorkKind.SEND),
            total=None if is_unread else batch.total,
            unread_from=0 if is_unread else batch.unread_from,
            same_id=bool(request.args.get("same_id")),
            deadline_at=_deadline(batch, request, now_ms),
        )
        if request.op == "redrive" and after.gate is not None and not after.gate.is_open:
            # Who has rows run again after the end of the batch has decided on its sample.
            after = passed(after, request.by, iso_time(now_ms))
        after = replace(after, state=open_state(after))
        if self.definition is not None:
            after = with_mapping(after, self.definition, now_ms)
        held = batch.hold(HoldReason.BUDGET)
        if held is not None and not is_over(held, after, now_ms):
            raise UsageError(f"batch {batch.batch_id} is held: {describe_hold(held)}")
        return after

    def _rows(self, after: Batch, lacking: int) -> str:
        runs = self.selection.selected + lacking
        rows = "1 row runs again" if runs == 1 else f"{runs:,} rows run again"
        rows += " and the unread ones are read" if after.total is None else ""
        kept = len(self.selection.kept)
        text = f"{rows}, {kept:,} {'keeps its' if kept == 1 else 'keep their'} outcome"
        if skipped := len(self.selection.skipped):
            text += f"; {skipped:,} of those cannot be read any more"
        return text

    def _nothing(self, batch: Batch) -> str:
        if skipped := len(self.selection.skipped):
            return (
                f"{skipped:,} rows of {batch.batch_id} match, and none of them can be read any more: nothing "
                "was changed"
            )
        hint = "; rows that succeeded run again with --succeeded" if self._names_only_failed_rows else ""
        return f"no row of {batch.batch_id} matches: nothing was changed{hint}"

    @property
    def _names_only_failed_rows(self) -> bool:
        return self.filters.rows is not None and not self.filters.succeeded

    def _skipped(self) -> dict[str, Json]:
        """The rows that keep their outcome because they cannot be read."""
        skipped = self.selection.skipped
        return {"skipped": skipped[:MOST_SKIPPED], "skipped_rows": len(skipped)} if skipped else {}


def next_round(batch: Batch, selection: Selection, stored: StoredPayload | None, kind: WorkKind) -> Batch:
    """The batch in its next round, which `stored` rows are not part of, with its work and no deadline."""
    return replace(
        batch,
        round=batch.round + 1,
        generation=batch.generation + 1,
        work=Work(kind, batch.control + 1),
        sender="",
        kept=stored,
        carried=selection.carried,
        holds=(),
        cancelled_at="",
        cancel_reason="",
        grace_s=0,
        error="",
        finished_at="",
        trouble=None,
        settled=None,
        digests=(*batch.digests, batch.mapping_digest),
        deadline_at="",
    )


def _deadline(batch: Batch, request: OperationRequest, now_ms: int) -> str:
    """The deadline of the round: a new one, that of a run that goes on, or none."""
    seconds = request.args.get("deadline")
    if seconds is not None:
        return iso_time(now_ms + seconds * 1000)
    return batch.deadline_at if batch.state is State.PAUSED else ""


def with_mapping(batch: Batch, definition: Definition, now_ms: int) -> Batch:
    """The batch with another mapping, and its prices now. Its results keep all columns that they had.

    Raises UsageError if the mapping does not fit the columns of the batch.
    """
    try:
        mapping = definition.compile()
        if batch.columns:
            mapping.check_columns(batch.columns)
    except (MappingError, CsvError) as error:
        raise UsageError(
            f"the present mapping {batch.tool_name} does not fit {batch.batch_id}: {error}"
        ) from None
    if problem := price_problem(mapping.budget, mapping.prices_at(now_ms)):
        raise UsageError(f"the present mapping {batch.tool_name}: {problem}")
    new = (name for name in mapping.output_fields if name not in batch.output_fields)
    return replace(
        batch,
        mapping_digest=definition.digest,
        output_fields=(*batch.output_fields, *new),
        escape_formulas=mapping.csv.escape_formulas,
        provenance=batch.provenance or mapping.csv.provenance,
        bom=mapping.csv.bom,
        excel=mapping.csv.excel,
        tolerate=batch.tolerate if batch.tolerate_option else mapping.execution.tolerate,
        budgets=replace(batch.budgets, day=mapping.budget),
        compiled_by=__version__,
        prices=mapping.prices_at(now_ms),
    )
