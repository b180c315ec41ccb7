"""The invariants of every world: their names and sentences, and the checks at its end.

`monitor` has the checks that are made at every event. The first broken invariant ends the world.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from service.domain.model import Batch, State, Status
from tests.simulation.scenario import InputFile, Scenario, expected_answer

if TYPE_CHECKING:
    from tests.simulation.monitor import Monitor
    from tests.simulation.observed_ports import ObservedObjects, ObservedTable
    from tests.simulation.process import Process

STOPS_WITHIN_S = 600.0
"""Bound on a stop: the longest drain, the retries of a commit and a trigger, and their calls' time-outs."""

INVARIANTS: Mapping[str, str] = {
    "one_outcome": "A row's outcome is never overwritten by one of the same round or an earlier one.",
    "counters_equal_outcomes": "After a commit, a round's counters equal its outcomes, `reused` too.",
    "replaced_when_over": "A batch gives its id to another only when it has expired or failed unsent.",
    "final_when_counted": "A batch is AGGREGATING or final only if sealed and every row has an outcome.",
    "acknowledged_when_durable": "A message is deleted only when its work is durable or another has it.",
    "failed_for_a_cause": "A row is FAILED only for a cause of its own or lack of time, not by an outage.",
    "batch_failed_for_a_cause": "A batch is FAILED only if its job is a dead letter, never for its results.",
    "not_paid_twice": "No agent is called for a row that had an outcome when its message came.",
    "kept_while_held": "A worker gives no row back to which it has an answer that is not stored.",
    "no_call_while_commits_wait": "A worker calls no target of whose answers one waits long for its commit.",
    "not_asked_too_late": "No agent is called for a row after its batch's deadline.",
    "no_call_when_held": "No call begins later than ten seconds after its batch was paused or cancelled.",
    "no_call_behind_the_gate": "Before its sample is approved, no row of a batch beyond it is called.",
    "one_trial_at_a_time": "In a batch that is held for its target, calls are trials, one at a time.",
    "cut_in_time": "A call ends when `pause --now` or the grace of a cancel cuts it, if nothing fails.",
    "only_newest_is_served": "No call begins for a row message that an operation has replaced 10 s ago.",
    "not_read_on_when_cancelled": "A cancelled batch is read to the end of the open window at most.",
    "carried_out_once": "A request is carried out once, however often it comes and whoever has it.",
    "operations_in_order": "Each operation on a batch is based on the one before: none is overwritten.",
    "stays_cancelled": "A cancelled batch is never held, and stays cancelled until its next round.",
    "no_call_in_remap": "No agent is called for a row of a remap: its reply is kept.",
    "remapped_from_reply": "A remap gives what its mapping makes of the reply, or the earlier outcome.",
    "carried_are_kept": "A later round carries the counts of the rows that keep their outcome, once each.",
    "held_in_time": "No call begins ten seconds after too many rows have failed, if nothing fails.",
    "paid_is_kept": "A worker that has an answer drops the message of its row only when it is stored.",
    "held_when_open": "A batch is held only while it is open and rows are left, for failures if some failed.",
    "repeats_are_marked": "A row message that may be a repeat carries the replay mark.",
    "own_commit_is_known": "A committed row is never reported to its worker as another's.",
    "results_have_one_content": "A result object never gets another content, not even in another round.",
    "recovered_under_a_lease": "Lost rows are sent again only by a sweeper that had the batch's lease.",
    "written_under_a_lease": "A result file is completed only by a process that had the batch's lease.",
    "latest_is_newest": "latest.json names the newest round that has a manifest, and never an earlier one.",
    "manifest_last": "When a manifest is visible, the files that it names are visible, with its digests.",
    "nothing_stuck": "After the last fault all batches end and all queues drain, within a bound.",
    "output_complete": "The output has every row of the input, once, in order, with the right answer.",
    "manifest_true": "The manifest's numbers equal those of the outcomes.",
    "unread_is_not_done": "A batch that was not read to its end is CANCELLED, whatever its rows did.",
    "stored_with_its_change": "Each opening and end of a batch has its event, and no event is without one.",
    "told_as_stored": "A target gets each event with the id and the bytes that were stored with the change.",
    "told_after_manifest": "A batch that is told to have results has its manifest by then.",
    "told_to_everybody": "Each target gets each event.",
    "no_upload_left": "No unfinished upload is left when a batch has ended.",
    "answered_for_itself": "A row's answer was given to it, or to the row of the same input that it names.",
    "reply_is_kept": "A row that was answered has its reply, as the agent gave it, at any later time.",
    "spending_covers_results": "No less was spent than the results have cost, at any time.",
    "calls_are_counted": "If no process was killed, each call is counted in what was spent.",
    "rate_limit_holds": "In no minute do agents get more calls than the rate limit that they share.",
    "budget_holds": "No more calls are made for a batch, or in a day for a mapping, than its budget has.",
    "concurrent_limit_holds": "At no instant are more calls in flight in the fleet than their limit.",
    "calm_is_exact": "With faults of storage only, a row (with `reuse`: an input) takes one call.",
    "orderly": "No task and no handler ends by an unhandled error.",
    "makes_progress": "A world ends within a bound on its steps and events: no code is in an endless loop.",
    "stops_in_time": "A process that is told to stop ends within a bound.",
}


@dataclass(frozen=True, slots=True)
class Violation:
    """A broken invariant: its name, how it is broken, and when."""

    invariant: str
    text: str
    at_s: float

    def __str__(self) -> str:
        return f"{self.invariant} at {self.at_s:.3f} s: {self.text}\n    ({INVARIANTS[self.invariant]})"


@dataclass(slots=True)
class FinalState:
    """A world at its end. `is_done`: every batch has ended and every queue is empty."""

    scenario: Scenario
    table: ObservedTable
    objects: ObservedObjects
    monitor: Monitor
    batch_ids: Sequence[str]
    processes: Sequence[Process]
    now_s: float
    is_done: bool


Broken = tuple[str, str]
"""The name of an invariant, and how it is broken."""


def final_violation(final: FinalState) -> Broken | None:
    """The first invariant that does not hold at the end, or None."""
    return next(_broken(final), None)


def _broken(final: FinalState) -> Iterator[Broken]:
    for process in final.processes:
        if crashes := process.metrics.totals["handler_crashes"]:
            yield "orderly", f"{crashes:g} handlers of {process.owner.name} ended by a bug"
    if not final.is_done:
        yield "nothing_stuck", _unfinished_work(final)
    yield from _slow_stops(final)
    for batch_id in final.batch_ids:
        batch = final.table.batch(batch_id)
        if batch is not None and batch.state is not State.FAILED:
            yield from _wrong_results(final, batch, final.monitor.files[batch.identity])
    if final.scenario.is_calm:
        yield from _extra_calls(final)
    yield from final.monitor.kept.broken()
    yield from final.monitor.told.missing(final.table, is_sent=final.scenario.has_sweeper)


def _unfinished_work(final: FinalState) -> str:
    states = []
    for batch_id in final.batch_ids:
        batch = final.table.batch(batch_id)
        if batch is None:
            states.append(f"{batch_id} was never opened")
        else:
            key = (batch.identity, batch.round)
            done = len(final.monitor.outcomes[key]) + final.monitor.carried_over[key]
            states.append(f"{batch_id} is {batch.state}, {done} of {batch.total} rows in round {batch.round}")
    left = [f"{len(queue)} in {name}" for name, queue in final.monitor.queues.items() if len(queue)]
    return "; ".join((*states, *left))


def _slow_stops(final: FinalState) -> Iterator[Broken]:
    for process in final.processes:
        asked = process.stop_asked_at
        if asked is not None and not process.is_over and final.now_s > asked + STOPS_WITHIN_S:
            yield "stops_in_time", f"{process.owner.name} was told to stop at {asked:.1f} s and still runs"


def _wrong_results(final: FinalState, batch: Batch, file: InputFile) -> Iterator[Broken]:
    """Errors in the result files of a batch that has ended."""
    prefix = batch.results.prefix
    stored = {
        name: final.objects.stored.get(("out", prefix + name))
        for name in ("output.csv", "failures.csv", "manifest.json")
    }
    if stored["output.csv"] is None or stored["manifest.json"] is None:
        yield "output_complete", f"{batch.batch_id} is {batch.state} without output.csv or manifest.json"
        return
    statuses = final.monitor.statuses(batch)
    lines = list(csv.reader(io.StringIO(stored["output.csv"].body.decode())))
    # A batch that was cancelled while it was split has the rows that were read.
    rows = batch.unread_from - 1 if batch.unread_from else len(file.names)
    wanted = [_line(number, name, statuses[number]) for number, name in enumerate(file.names[:rows], 1)]
    status_at = lines[0].index("_status")
    found = [(line[0], line[1], line[2], line[status_at]) for line in lines[1:]]
    if found != wanted:
        wrong = next((f"{a} for {b}" for a, b in zip(found, wanted, strict=False) if a != b), "")
        yield "output_complete", f"{batch.batch_id}: {len(found)} rows of {rows}; {wrong}"
    manifest = json.loads(stored["manifest.json"].body)
    failed = sum(status is Status.FAILED for status in statuses.values())
    facts = {"total": rows, "succeeded": rows - failed, "failed": failed, "round": batch.round}
    if any(manifest[name] != value for name, value in facts.items()) or manifest["state"] != batch.state:
        yield "manifest_true", f"{batch.batch_id}: {facts} and {batch.state}, and the manifest says otherwise"
    for entry in manifest["files"]:
        there = stored[entry["name"]]
        if there is None or hashlib.sha256(there.body).hexdigest() != entry["sha256"]:
            yield "manifest_last", f"{batch.batch_id}: {entry['name']} is not what its manifest says"
    if batch.unread_from and batch.state is not State.CANCELLED:
        yield "unread_is_not_done", f"{batch.batch_id} is {batch.state}, unread from row {batch.unread_from}"
    unfinished = getattr(final.objects, "unfinished", ())
    if left := [upload.key for upload in unfinished if upload.key.startswith(prefix)]:
        yield "no_upload_left", ", ".join(left)


def _line(number: int, name: str, status: Status) -> tuple[str, str, str, str]:
    return (str(number), name, expected_answer(name) if status is Status.SUCCESS else "", str(status))


def _extra_calls(final: FinalState) -> Iterator[Broken]:
    """Calls and events that a calm world should not have: each row, or input with `reuse`, takes one call."""
    asked: Counter[tuple[str, object]] = Counter()
    for identity, file in final.monitor.files.items():
        scope = file.mapping.name if "days" in file.mapping.reuse else identity
        for number, name in enumerate(file.names, 1):
            asked[scope, name if file.mapping.reuse else number] += final.monitor.calls_for[
                identity, 1, number
            ]
    if set(asked.values()) - {1}:
        yield "calm_is_exact", f"asked {asked.total()} times for {len(asked)} inputs"
    for batch_id in final.batch_ids:
        batch = final.table.batch(batch_id)
        if batch is None:
            continue
        calls = sum(n for (whose, _, _), n in final.monitor.calls_for.items() if whose == batch.identity)
        if (counted := final.table.spent(batch).calls) < calls:
            yield "calls_are_counted", f"{batch_id}: {counted} of {calls} calls are counted"
    for name in ("duplicate_outcomes", "leases_lost", "rows_skipped", "messages_poisoned", "handler_crashes"):
        if total := sum(process.metrics.totals[name] for process in final.processes):
            yield "calm_is_exact", f"{name}: {total:g}"
