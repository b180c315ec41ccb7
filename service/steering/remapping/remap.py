"""Remap: the fleet opens a round in which the kept replies of a batch are mapped anew.

The rows that keep their outcome are found in one consistent pass and stored, as for a redrive, and one
transaction opens the round. Its work is done by `work`, without any message of a row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from service.batch.replies.kept_replies import KeptReplies
from service.batch.role_ports import Ports
from service.batch.source import stored_definition
from service.domain import exact_json
from service.domain.errors import MappingError, UsageError
from service.domain.model import (
    Batch,
    BatchView,
    Json,
    Operation,
    Outcome,
    State,
    StoredPayload,
    WorkKind,
    iso_time,
)
from service.domain.operation_requests import OperationRequest
from service.mapping import Definition
from service.recovery.kept import KeptSelections
from service.recovery.ordered_rows import outcomes_in_row_order
from service.steering.approval.gates import passed
from service.steering.decisions import Decision
from service.steering.filters import Filters
from service.steering.operate import decide_and_apply, follow_up, read_existing
from service.steering.remapping.comparison import EXAMPLES, Comparison
from service.steering.remapping.remapper import Remapper
from service.steering.remapping.replies import RepliedRows
from service.steering.remapping.sent_parts import first_difference
from service.steering.rounds import check_ended, check_time_left, next_round, with_mapping
from service.steering.selection import Selection, SelectionPass

MAX_ANSWER_CHARS = 90_000
"""Longest comparison: an item of the table holds 400 KB, and a character takes up to four bytes."""

Definitions = Callable[[str], Definition]
"""Returns the present definition of a mapping. Raises MappingError."""


class Remap:
    """Opens rounds of kept replies, and says what they would change."""

    def __init__(self, ports: Ports, definitions: Definitions) -> None:
        self._ports = ports
        self._definitions = definitions
        self._replies = KeptReplies(ports)
        self._rows = RepliedRows(ports.large_outcomes, self._replies)
        self._selections = KeptSelections(ports.objects)

    async def open_round(self, request: OperationRequest) -> Operation:
        """Carry out a request, and return what was done; `control` is 0 if nothing was.

        With the argument `diff` nothing is changed, and the answer says what would be. Raises UsageError,
        saying what stands there, if it is refused, RetryableError and AccessError.
        """
        batch = (await read_existing(self._ports.table, request.batch_id)).batch
        if (earlier := await self._ports.table.operation(batch, request.request_id)) is not None:
            # The process that opened the round may have died before it sent the round's work.
            await follow_up(self._ports, batch)
            return earlier
        if request.args.get("diff"):
            return await self._diff(request)
        definition = await self._checked(batch, request)
        found = await _RemapPass(self._ports, batch, request, self._replies).run_all()
        stored = await self._selections.store(
            self._ports.large_outcomes.place_of(batch), found.selection.kept
        )
        round_ = _RemapRound(batch.round, batch.incarnation, definition, found, stored)
        # The log of operations names the version of the mapping; its text is stored with the batch.
        args = {name: value for name, value in request.args.items() if name != "digest"}
        named = {"mapping": definition.digest} if "mapping" in args else {}
        logged = replace(request, args=args | named)
        is_new = definition.digest != batch.mapping_digest
        return await decide_and_apply(
            self._ports, logged, round_.decide, definition=definition.text if is_new else None
        )

    async def compare(self, request: OperationRequest) -> dict[str, Json]:
        """The differences that the round would make. Reads all kept replies, and changes nothing.

        Raises as `open_round` does.
        """
        batch = (await read_existing(self._ports.table, request.batch_id)).batch
        definition = await self._checked(batch, request)
        comparison = await self._compared(batch, definition, request)
        return {
            "batch_id": batch.batch_id,
            "mapping_before": batch.mapping_digest,
            "mapping": definition.digest,
            "is_changed": comparison.has_changes,
            **_fitting(comparison),
        }

    async def _diff(self, request: OperationRequest) -> Operation:
        facts = await self.compare(request)
        text = f"{facts['rows']:,} rows of {request.batch_id} would be mapped anew"
        now = iso_time(self._ports.clock.now_ms())
        answer = {"text": text, **facts}
        return Operation(request.op, request.request_id, request.by, now, args=request.args, answer=answer)

    async def _checked(self, batch: Batch, request: OperationRequest) -> Definition:
        """The definition to map by. Raises UsageError if the round cannot be opened with it."""
        now_ms = self._ports.clock.now_ms()
        _check_remappable(batch, now_ms)
        own = await stored_definition(self._ports.table, batch)
        definition = self._asked_definition(batch, own, request)
        with_mapping(batch, definition, now_ms)
        if key := first_difference(own, definition):
            raise UsageError(
                f"{key} is not as it was when the replies of {batch.batch_id} were asked for: a remap "
                f"changes what is taken from a reply, not what is sent; `rowfleet redrive {batch.batch_id} "
                "--mapping-now` calls the agent again"
            )
        wanted = request.args.get("digest", definition.digest)
        if wanted != definition.digest:
            raise UsageError(
                f"the mapping {batch.tool_name} has changed since it was compared: it is {definition.digest} "
                f"now, and was {wanted}; compare it again"
            )
        return definition

    def _asked_definition(self, batch: Batch, own: Definition, request: OperationRequest) -> Definition:
        text = request.args.get("mapping")
        if text is not None:
            if request.args.get("mapping_now"):
                raise UsageError("name one mapping: by --mapping or by --mapping-now")
            return Definition(batch.tool_name, str(text))
        if not request.args.get("mapping_now"):
            return own
        try:
            return self._definitions(batch.tool_name)
        except MappingError as error:
            raise UsageError(f"there is no present mapping for {batch.batch_id}: {error}") from None

    async def _compared(self, batch: Batch, definition: Definition, request: OperationRequest) -> Comparison:
        comparison = Comparison()
        remapper = Remapper(
            definition.compile(), batch.round + 1, keep_better=bool(request.args.get("keep_better"))
        )
        now = iso_time(self._ports.clock.now_ms())
        is_wanted = _filter_of(request).select
        async with aclosing(outcomes_in_row_order(self._ports.table, batch)) as chunks:
            async for outcomes in chunks:
                for outcome in filter(is_wanted, outcomes):
                    found = await self._rows.load(batch, outcome)
                    if found is None:
                        comparison.miss(outcome.number)
                    else:
                        comparison.add(found.earlier, remapper.remapped(found.earlier, found.reply, now))
        return comparison


def _fitting(comparison: Comparison) -> dict[str, Json]:
    """The comparison as JSON that an item of the table holds: with fewer examples if its fields are many."""
    facts = comparison.as_json()
    for most in (EXAMPLES // 3, 1, 0):
        if len(exact_json.dumps(facts)) <= MAX_ANSWER_CHARS:
            break
        facts = comparison.as_json(most)
    return facts


def _check_remappable(batch: Batch, now_ms: int) -> None:
    """Raise UsageError unless the batch has ended, and its items live long enough."""
    if batch.state is State.PAUSED and not batch.is_remap:
        raise UsageError(
            f"batch {batch.batch_id} is paused, and only one that has ended is remapped: cancel it, remap "
            "it, and redrive the rows that are left"
        )
    check_ended(batch)
    check_time_left(batch, now_ms)


def _filter_of(request: OperationRequest) -> Filters:
    """All rows, or the FAILED ones."""
    return Filters(succeeded=not request.args.get("only_failed"))


@dataclass(frozen=True, slots=True)
class _Found:
    """The rows of a remap. `missing` are the first ones without a kept reply, of `missing_rows` in all."""

    selection: Selection
    missing: Sequence[int] = field(default=())
    missing_rows: int = 0


class _RemapPass(SelectionPass):
    """The pass that selects the rows whose reply is kept."""

    def __init__(self, ports: Ports, batch: Batch, request: OperationRequest, replies: KeptReplies) -> None:
        super().__init__(ports, batch, _filter_of(request))
        self._replies = replies
        self._missing: list[int] = []

    async def run_all(self) -> _Found:
        """The selection, and the rows that are not in it because no reply is kept. Raises as `run` does."""
        selection = await self.run()
        return _Found(selection, sorted(self._missing)[:EXAMPLES], len(self._missing))

    async def can_run_again(self, outcome: Outcome) -> bool:
        """True if the reply of the row is kept, as far as its outcome says, or with the row that has it."""
        if outcome.reused_from and not outcome.reply and outcome.reply_at is None:
            return await self._replies.load(self._batch, outcome) is not None
        return bool(outcome.reply) or outcome.reply_at is not None

    async def place_incomplete(self, incomplete: Sequence[Outcome]) -> None:
        """Let rows without a reply keep their outcome."""
        for outcome in incomplete:
            self.found.keep(outcome)
            self._missing.append(outcome.number)


@dataclass(frozen=True, slots=True)
class _RemapRound:
    """The round that the pass over a batch has found, with the definition to map by."""

    round: int
    incarnation: str
    definition: Definition
    found: _Found
    stored: StoredPayload | None

    def decide(self, view: BatchView, request: OperationRequest, now_ms: int) -> Decision:
        """Open the round. Raises UsageError if it cannot be opened, or the batch has moved on."""
        batch, selection = view.batch, self.found.selection
        _check_remappable(batch, now_ms)
        if not batch.is_round(self.incarnation, self.round):
            raise UsageError(f"batch {batch.batch_id} is in round {batch.round} by now")
        assert batch.total is not None
        lacking = batch.total - len(selection.kept) - selection.selected
        if lacking:
            raise UsageError(
                f"{lacking:,} rows of {batch.batch_id} have no outcome: redrive them before it is remapped"
            )
        self._check_missing(batch, request)
        if not selection.selected:
            return Decision(f"no row of {batch.batch_id} has a kept reply to map anew: nothing was changed",
                            facts={"due": 0, **self._facts()})  # fmt: skip
        after = replace(
            next_round(batch, selection, self.stored, WorkKind.REMAP),
            state=State.RUNNING,
            remap_round=batch.round + 1,
            keep_better=bool(request.args.get("keep_better")),
        )
        if after.gate is not None and not after.gate.is_open:
            # Who remaps a batch after its end has decided on its sample.
            after = passed(after, request.by, iso_time(now_ms))
        # Its calls were paid by the prices that it has, and a later round goes on under its budget.
        after = with_mapping(after, self.definition, now_ms)
        after = replace(after, prices=batch.prices, budgets=batch.budgets)
        kept = len(selection.kept)
        text = (
            f"{batch.batch_id} is in round {after.round}: {_rows(selection.selected)} mapped anew without a "
            f"call, {kept:,} {'keeps its' if kept == 1 else 'keep their'} outcome"
        )
        facts: dict[str, Json] = {"round": after.round, "due": after.due, "carried": kept}
        return Decision(text, after, facts | self._facts())

    def _check_missing(self, batch: Batch, request: OperationRequest) -> None:
        """Raise UsageError for rows without a kept reply, unless they may be missing."""
        missing = self.found.missing_rows
        if not missing or request.args.get("allow_missing"):
            return
        named = ", ".join(map(str, self.found.missing)) + (", …" if missing > len(self.found.missing) else "")
        raise UsageError(
            f"no reply is kept for {missing:,} of the rows of {batch.batch_id} (row {named}): with "
            "--allow-missing they keep their outcome, and the others are mapped anew"
        )

    def _facts(self) -> dict[str, Json]:
        found = self.found
        facts: dict[str, Json] = {"mapping": self.definition.digest}
        return facts | ({"missing": found.missing_rows} if found.missing_rows else {})


def _rows(count: int) -> str:
    return "1 row is" if count == 1 else f"{count:,} rows are"
