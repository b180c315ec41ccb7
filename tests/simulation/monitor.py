"""The monitor of a world: it is told of every event and checks the invariants at once.

The docstring of a method that checks invariants names them.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from service.adapters.aws.table.values import Item
from service.batch.replies.kept_replies import round_of_reply
from service.domain.model import (
    Batch,
    BatchView,
    Commit,
    HoldReason,
    Operation,
    Outcome,
    State,
    Status,
    identity,
    row_id,
)
from service.domain.ports import ReceivedMessage
from service.steering.cancellation import NOTICE_S
from service.steering.target_hold import is_tried
from service.worker.admission.commit_backlog import MAX_COMMIT_WAIT_S
from tests.simulation.agent_calls import AgentCalls
from tests.simulation.budget_checks import BudgetChecks
from tests.simulation.deletions import DeletedMessages
from tests.simulation.failure_causes import FailureCauses
from tests.simulation.invariants import Violation
from tests.simulation.kept_replies import KeptReplyChecks
from tests.simulation.lease_holders import LeaseHolders
from tests.simulation.observed_ports import ObservedObjects, ObservedQueue, ObservedTable, RowKey
from tests.simulation.remap_checks import RemapChecks
from tests.simulation.scenario import Behaviour, InputFile, TargetFaultPeriod
from tests.simulation.server_errors import ServerErrors
from tests.simulation.steering_checks import SteeringChecks
from tests.simulation.told_events import ToldEvents
from tests.simulation.trace import Trace
from tests.simulation.trial_calls import TrialCalls

LATE_S = MAX_COMMIT_WAIT_S + 3.0
"""After this, a worker has noticed that an answer waits for its commit: it lingers up to 2 s before that."""


class Monitor:
    """Observes one world. `on_violation` is called for each broken invariant.

    `World` sets the first block of attributes. The second block are facts, collected for the checks:

    - `batches`: the last state of every batch, and `files` its file, by its identity.
    - `opened_anew`: the identities of batches that were opened in the place of a failed one.
    - `outcomes`: the statuses of the rows, by the batch's identity and round.
    - `carried_over`: the number of rows that keep an earlier outcome, by batch and round.
    - `dead_lettered`: the number of dead letters, by queue.
    - `lost_rows`: rows whose message was lost by the rows queue itself.
    - `calls_for`: calls of the agent for a row; `agent_failures`: those that failed by its own behaviour.
    - `sent_anew`: rows of batches that an operation has sent again, by a resume or a round, all added up.
    - `copied`: rows whose message was copied by SQS.
    - `redeliveries`: deliveries of a row's message after the first.
    - `met`: counts of situations that `test_simulation` requires, by name.
    """

    def __init__(self, trace: Trace, on_violation: Callable[[Violation], None]) -> None:
        self.table: ObservedTable
        self.objects: ObservedObjects
        self.queues: dict[str, ObservedQueue] = {}
        self.files: dict[str, InputFile] = {}
        self.files_of_ids: dict[str, InputFile] = {}
        self.target_faults: Sequence[TargetFaultPeriod] = ()
        self.calls: AgentCalls
        self.server_errors = ServerErrors(trace.now)
        self.is_calm = False
        self.has_operator = False
        self.max_lost = 0
        self.start_ms = 0
        self.clocks_differ_s = 0.0  # at most, between any two clocks, the world's own included
        self.on_progress: Callable[[], None] = lambda: None
        self.on_step: Callable[[str], None] = lambda _: None

        self.batches: dict[str, Batch] = {}
        self.opened_anew: set[str] = set()
        self.pauses = 0
        self.met: Counter[str] = Counter()
        self.outcomes: dict[tuple[str, int], dict[int, Status]] = defaultdict(dict)
        self.sent_anew = 0
        self.carried_over: Counter[tuple[str, int]] = Counter()
        self.latest: dict[str, tuple[str, int]] = {}
        self.dead_lettered: Counter[str] = Counter()
        self.dead_lettered_rows: set[RowKey] = set()
        self.lost_rows: set[RowKey | None] = set()
        self.calls_for: Counter[RowKey] = Counter()
        self.agent_failures: Counter[RowKey] = Counter()
        self.reused: Counter[tuple[str, int]] = Counter()
        self.copied: set[RowKey | None] = set()
        self.redeliveries: Counter[RowKey] = Counter()
        self.first_received: dict[RowKey, float] = {}

        self.now = trace.now
        self._trace = trace
        self._on_violation = on_violation
        self._causes = FailureCauses(self)
        self._deletions = DeletedMessages(self)
        self._leases = LeaseHolders()
        self.steering, self.told = SteeringChecks(self), ToldEvents(self.violated)
        # The outcomes of each round, by the batch's identity and round.
        self._stored: dict[tuple[str, int], dict[int, Outcome]] = defaultdict(dict)
        self.remaps = RemapChecks(self, self._stored, self._output)
        # Since when a batch is paused or cancelled, by its identity.
        self._stopped: dict[str, float] = {}
        self._trials: set[tuple[str, RowKey]] = set()
        self.trial_calls = TrialCalls(trace.now, self.violated)
        self.kept = KeptReplyChecks(lambda: self.objects, self.violated)
        self._budgets = BudgetChecks(self.violated)
        self._versions: dict[tuple[str, str], list[tuple[int, str]]] = defaultdict(list)
        self._received: set[tuple[str, RowKey]] = set()
        self._may_call: set[tuple[str, RowKey]] = set()
        # The time of each reply that is not stored yet, by worker and row.
        self._unstored: dict[tuple[str, RowKey], float] = {}

    def violated(self, invariant: str, text: str) -> None:
        """Report that an invariant does not hold."""
        self._trace.add("invariants", "VIOLATION", invariant, text)
        self._on_violation(Violation(invariant, text, self.now()))

    # -- outcomes and counters -------------------------------------------------------------------------

    def row_stored(self, partition: str, before: Item | None, row: Item) -> None:
        """An outcome was stored. Checks one_outcome and failed_for_a_cause."""
        incarnation = row["incarnation"]["S"] if "incarnation" in row else ""
        identity_ = identity("#".join(partition.split("#")[:2]), incarnation)
        number, round_ = int(row["row_id"]["S"][4:]), int(row["round"]["N"])
        key = (identity_, round_, number)
        is_same_batch = before is not None and before.get("incarnation") == row.get("incarnation")
        if before is not None and is_same_batch and int(before["round"]["N"]) >= round_:
            self.violated("one_outcome", f"row {key} was stored over one of round {before['round']['N']}")
        for paid in [paid for paid in self._unstored if paid[1] == key]:
            del self._unstored[paid]
        self.on_step("#".join(partition.split("#")[:2]))
        status = Status(row["status"]["S"])
        self.outcomes[identity_, round_][number] = status
        if status is Status.FAILED:
            self._check_cause(key, row)

    def _check_cause(self, key: RowKey, row: Item) -> None:
        error, attempts = row["error"]["M"]["type"]["S"], int(row["attempts"]["N"])
        self.met["row: DeadlineError"] += error == "DeadlineError"
        if not self._causes.is_known(key, row):
            behaviour = self.behaviour(key)
            text = f"row {key} failed with {error} in attempt {attempts}, and its agent {behaviour}"
            self.violated("failed_for_a_cause", text)

    def counted(self, table: ObservedTable, commit: Commit) -> None:
        """A commit was applied.

        Checks one_outcome, answered_for_itself, reply_is_kept, counters_equal_outcomes and
        spending_covers_results.
        """
        if any(outcome.round != commit.round for outcome in commit.outcomes):
            self.violated("one_outcome", f"an outcome of another round was committed for {commit.round}")
        batch = self.batches[identity(commit.batch_id, commit.incarnation)]
        for outcome in commit.outcomes:
            self._stored[batch.identity, commit.round][outcome.number] = outcome
            self.reused[batch.identity, commit.round] += bool(outcome.reused_from)
            has_reuse = bool(self.files[batch.identity].mapping.reuse)
            self.kept.stored(batch, outcome, has_reuse=has_reuse)
            self.remaps.committed(batch, outcome)
            if outcome.status is Status.SUCCESS:
                self._check_answer(batch, outcome)
        # An outcome that comes later is nobody's, and counters may have been deleted.
        if self.standing(batch.identity):
            self._check_counters(table, batch, commit.round)
        if batch.round == commit.round:
            view = BatchView(batch, table.counts(batch), table.spent(batch))
            self._check_spending(view)
            self.steering.committed(view, self._stored[batch.identity, batch.round])
        self.on_progress()

    def _check_spending(self, view: BatchView) -> None:
        """Check spending_covers_results."""
        results = view.all_counts.cost
        if view.spending.cost < results:
            text = f"{view.batch.batch_id} has spent {view.spending.cost}, its results have cost {results}"
            self.violated("spending_covers_results", text)

    def _check_answer(self, batch: Batch, outcome: Outcome) -> None:
        """Check answered_for_itself: the answer has the number of its call, and so tells its row."""
        row = f"row {(batch.identity, outcome.round, outcome.number)}"
        asked = self.calls.rows[self._output(outcome)["call"]]
        wanted = outcome.reused_from or f"{batch.batch_id}/{row_id(outcome.number)}"
        file, other = self.files[batch.identity], self.files[asked[0]]
        # With replies kept for days, a row may find its own of an earlier round.
        is_kept = file.mapping.reuse == "7 days"
        may_be = is_kept or asked[:2] == (batch.identity, round_of_reply(outcome))
        if f"{self.batches[asked[0]].batch_id}/{row_id(asked[2])}" != wanted or not may_be:
            self.violated("answered_for_itself", f"{row} has the answer of {asked}, and should of {wanted}")
        if (other.mapping, other.names[asked[2] - 1]) != (file.mapping, file.names[outcome.number - 1]):
            self.violated("answered_for_itself", f"{row} has another input than {asked}")

    def _output(self, outcome: Outcome) -> dict[str, Any]:
        """The output of an outcome, also if it is kept in S3."""
        if outcome.stored is None:
            return outcome.output_data
        stored = self.objects.stored[outcome.stored.bucket, outcome.stored.key]
        output: dict[str, Any] = orjson.loads(stored.body)["output_data"]
        return output

    def refused(self, who: str, commit: Commit, taken: Sequence[int]) -> None:
        """A commit of `who` was refused because of its rows `taken`. Checks own_commit_is_known."""
        for index in taken:
            outcome = commit.outcomes[index]
            stored = self._stored[identity(commit.batch_id, commit.incarnation), commit.round]
            if stored.get(outcome.number) is outcome:
                text = f"{who} was told that its row {outcome.number} is another's"
                self.violated("own_commit_is_known", text)

    def _check_counters(self, table: ObservedTable, batch: Batch, round_: int) -> None:
        """Check counters_equal_outcomes."""
        key = (batch.identity, round_)
        statuses = list(self.outcomes[key].values())
        succeeded = statuses.count(Status.SUCCESS)
        failed = len(statuses) - succeeded
        counted = table.counted(batch, round_)
        reused = self.reused[key]
        if counted != (succeeded, failed, reused):
            self.violated(
                "counters_equal_outcomes",
                f"{key}: counted {counted}, stored ({succeeded}, {failed}, {reused})",
            )

    def batch_changed(self, before: Batch | None, batch: Batch) -> None:
        """A batch item was written.

        Checks final_when_counted, held_when_open and batch_failed_for_a_cause.
        """
        self.batches[batch.identity] = batch
        self.told.batch_changed(before, batch)
        self._budgets.batch_changed(batch)
        self._leases.batch_written(batch)
        is_another = before is None or before.identity != batch.identity
        if is_another or before.created_at != batch.created_at:
            self._batch_opened(before, batch)
            return
        self._note_stop(batch)
        self.steering.batch_changed(before, batch)
        if batch.round > before.round:
            self.carried_over[batch.identity, batch.round] = batch.carried.done
        if before.state is batch.state:
            return
        self._trace.add("world", "batch", batch)
        key = (batch.identity, batch.round)
        if batch.state is State.FAILED:
            if before.state is State.AGGREGATING or not self.dead_lettered["ingest"]:
                self.violated("batch_failed_for_a_cause", f"{batch.batch_id}: {batch.error}")
        elif batch.state is State.AGGREGATING or batch.state.is_final:
            done = len(self.outcomes[key]) + self.carried_over[key]
            rows = batch.unread_from - 1 if batch.unread_from else len(self.files[batch.identity].behaviours)
            if batch.total is None or done != batch.total or batch.total != rows:
                self.violated(
                    "final_when_counted",
                    f"{batch.batch_id} is {batch.state} with {done} outcomes, total {batch.total}",
                )
        elif batch.state is State.PAUSED:
            self._check_hold(before, batch)
        self.on_progress()

    def operated(self, before: Batch, after: Batch, operation: Operation) -> None:
        """An operation was made."""
        self.met[f"batch: {operation.op}"] += 1
        if operation.op == "remap":
            self.remaps.opened(after)
        self.met["batch: later round"] += after.round > max(2, before.round)
        if after.generation > before.generation:
            self.sent_anew += len(self.files[after.identity].behaviours)
        self.steering.operated(before, after, operation)
        self.told.operated(after, operation)
        self._causes.changed(before, after)

    def statuses(self, batch: Batch) -> dict[int, Status]:
        """The status of each row with an outcome of this round or an earlier one: that of the latest."""
        rounds = (self.outcomes[batch.identity, number] for number in range(1, batch.round + 1))
        return {number: status for statuses in rounds for number, status in statuses.items()}

    def _check_hold(self, before: Batch, batch: Batch) -> None:
        """Check held_when_open, but for the rows that are left: see `asks_for`."""
        statuses = self.outcomes[batch.identity, batch.round].values()
        is_open = before.state in (State.SPLITTING, State.RUNNING)
        has_failures = Status.FAILED in statuses or batch.hold(HoldReason.FAILURES) is None
        if not (is_open and has_failures):
            self.violated("held_when_open", f"{batch.batch_id} was {before.state}, and had {list(statuses)}")

    def asks_for(self, who: str, view: BatchView | None, after: Batch) -> None:
        """`who` asks for the change of a batch to `after`, for which it has read `view`.

        Checks held_when_open. Its last row may be committed between that and the change.
        """
        is_held = view is not None and view.batch.state is not State.PAUSED and after.state is State.PAUSED
        if view is not None and is_held and view.has_all_rows and view.batch.identity == after.identity:
            self.violated("held_when_open", f"{who} holds {after.batch_id}, which has no row left")

    def _note_stop(self, batch: Batch) -> None:
        """Note since when no call may begin for the batch."""
        if batch.state is State.PAUSED or batch.cancelled_at:
            self._stopped.setdefault(batch.identity, self.now())
        else:
            self._stopped.pop(batch.identity, None)

    def completes(self, who: str, key: str) -> None:
        """A process is about to complete a result file. Checks written_under_a_lease."""
        # Every aggregator writes the same sample, as long as nobody has decided on it.
        if not ("/sample/" in key or self._leases.may_complete(who, key)):
            self.violated("written_under_a_lease", f"{who} completes {key} without ever having had the lease")

    def _batch_opened(self, before: Batch | None, batch: Batch) -> None:
        """A batch was opened, perhaps in the place of another. Checks replaced_when_over."""
        self._trace.add("world", "batch opened", batch)
        self.files[batch.identity] = self.files_of_ids[batch.batch_id]
        # Its results lie where those of the batch before lay.
        for key in [key for key in self._versions if key[1].startswith(batch.output.prefix)]:
            del self._versions[key]
        # Without incarnations (an ablation) two batches have one identity.
        for facts in (self.outcomes, self.reused, self.carried_over, self._stored):
            for key in [key for key in facts if key[0] == batch.identity]:
                del facts[key]
        if before is None or before.has_expired(self.table.now_ms()):
            return
        self.opened_anew.add(batch.identity)
        if before.state is not State.FAILED or before.columns:
            self.violated("replaced_when_over", f"{batch.batch_id} was {before.state} and is opened anew")

    def standing(self, identity_: str) -> Batch | None:
        """The batch unless another one has replaced it, or it has expired."""
        batch = self.batches.get(identity_)
        return batch if batch is not None and self.present(batch.batch_id) == batch else None

    def present(self, batch_id: str) -> Batch | None:
        """The batch that has the id now; None if it has expired."""
        batch = self.table.batch(batch_id)
        return None if batch is None or batch.has_expired(self.table.now_ms()) else batch

    def behaviour(self, key: RowKey) -> Behaviour:
        """The behaviour of the agent with a row."""
        return self.files[key[0]].behaviours[key[2] - 1]

    def has_outcome(self, key: RowKey) -> bool:
        """True if the row has an outcome of its round or a later one."""
        identity_, round_, number = key
        last = self.batches[identity_].round
        return any(number in self.outcomes[identity_, later] for later in range(round_, last + 1))

    # -- messages --------------------------------------------------------------------------------------

    def message_deleted(self, queue: ObservedQueue, body: str) -> None:
        """A message was deleted. Checks acknowledged_when_durable."""
        if problem := self._deletions.problem(queue, body):
            self.violated("acknowledged_when_durable", problem)
        self.on_progress()

    def message_dead_lettered(self, queue: ObservedQueue, body: str, receives: int) -> None:
        """A message became a dead letter."""
        self.dead_lettered[queue.name] += 1
        self._trace.add("world", "dead letter", queue.name, f"after {receives} receives", body)
        if key := queue.key(body):
            self.dead_lettered_rows.add(key)

    def sent(self, who: str, bodies: Sequence[str]) -> None:
        """`who` sends messages. Checks repeats_are_marked and recovered_under_a_lease.

        A row that was sent before has to carry the mark, unless its message names another sender than the
        batch does: workers know it by that, and have to know a first message that still waits.
        """
        rows = self.queues["rows"]
        for body in bodies:
            key = rows.key(body)
            if key is None:
                continue
            is_marked = '"replay":true' in body
            if (who, key) in self._received and not is_marked:
                self.violated("repeats_are_marked", f"{who} has row {key}, and sent it again without a mark")
            if who.startswith("worker"):
                continue  # a requeue, which was checked above
            self.steering.sent(who, key)
            batch = self.batches.get(key[0])
            data = orjson.loads(body)
            self.on_step(data["batch"])
            is_senders = batch is not None and data.get("by", "") == batch.sender
            if key in rows.rows_ever_sent and is_senders and not is_marked:
                self.violated("repeats_are_marked", f"{who} sent row {key} again without a mark")
            if is_marked and "lost" not in data and self._is_taken_for_the_only_one(key, batch):
                self.violated("repeats_are_marked", f"{who} sent row {key} again beside a plain message")
            # A dead letter, which has lost deliveries, is sent again without a lease.
            if who.startswith("sweeper") and "lost" not in data and not self._leases.may_recover(who, key[0]):
                self.violated("recovered_under_a_lease", f"{who} sent row {key}, and never had the lease")

    def _is_taken_for_the_only_one(self, key: RowKey, batch: Batch | None) -> bool:
        """True if a message of the row waits that workers have no reason to take for a possible repeat."""
        rows = self.queues["rows"]
        if batch is None or not rows.messages_of.get(key) or key in self.copied:
            return False
        waiting = (orjson.loads(body) for body in rows.bodies if rows.key(body) == key)
        return any(not row.get("replay") and row.get("by", "") == batch.sender for row in waiting)

    def copied_by_sqs(self, body: str) -> None:
        """SQS delivers a message twice, as one that nobody can tell from the first."""
        self.copied.add(self.queues["rows"].key(body))

    def received(self, who: str, queue: ObservedQueue, messages: Sequence[ReceivedMessage]) -> None:
        """`who` received messages. Note for which rows it may call the agent."""
        for message in messages:
            key = queue.key(message.body)
            if key is None:
                continue
            self.first_received.setdefault(key, self.now())
            self._received.add((who, key))
            if '"trial":' in message.body:
                self._trials.add((who, key))
            self.steering.received(who, key, orjson.loads(message.body).get("generation", 0))
            self.met["row: read from its source"] += '"span":' in message.body
            self.redeliveries[key] += message.receives > 1
            may_be_repeat = message.receives > 1 or '"replay":true' in message.body
            # No worker can know of a copy by SQS.
            is_known = may_be_repeat or key not in self.copied
            if not (is_known and self.has_outcome(key)):
                self._may_call.add((who, key))

    def gives_back(self, who: str, bodies: Sequence[str]) -> None:
        """`who` is about to send these messages. Checks kept_while_held."""
        for body in bodies:
            if (key := self.queues["rows"].key(body)) is not None:
                self._check_kept(who, key)

    def released(self, who: str, queue: ObservedQueue, receipts: Sequence[str]) -> None:
        """`who` releases messages, and is not about to stop. Checks kept_while_held."""
        for receipt in receipts:
            if (key := queue.row_of(receipt)) is not None:
                self._check_kept(who, key)

    def _check_kept(self, who: str, key: RowKey) -> None:
        """Check kept_while_held when `who` gives a row back."""
        # A second message of the row may be given back while the outcome waits with the first, which the
        # queue may have lost meanwhile.
        is_only = self.queues["rows"].messages_of.get(key, 0) <= 1 and not self.redeliveries[key]
        if (who, key) in self._unstored and is_only and key not in self.lost_rows:
            self.violated("kept_while_held", f"{who} gave row {key} back, and has an answer to it")

    def done_with(self, who: str, key: RowKey) -> None:
        """`who` is about to delete a message of a row. Checks paid_is_kept."""
        is_only = self.queues["rows"].messages_of.get(key, 0) <= 1 and not self.redeliveries[key]
        if (who, key) not in self._unstored or not is_only or key in self.lost_rows or self.has_outcome(key):
            return
        batch = self.standing(key[0])
        if batch is not None and batch.round == key[1] and not batch.state.is_final:
            self.violated("paid_is_kept", f"{who} is done with row {key}, and dropped an answer to it")

    def agent_replied(self, who: str, key: RowKey) -> None:
        """The agent gave `who` an answer to a row, which is to be stored now."""
        if not self.has_outcome(key):
            self._unstored[who, key] = self.now()

    def _failed_by_another_clock(self, key: RowKey) -> bool:
        """True if the row failed by its deadline, which has not passed yet by the clocks of others."""
        outcome = self._stored[key[0], key[1]].get(key[2])
        error = outcome.error.type if outcome is not None and outcome.error is not None else ""
        return error == "DeadlineError" and self.clocks_differ_s > 0

    def agent_called(self, who: str, key: RowKey, now_ms: int) -> None:
        """`who` calls the agent, at `now_ms` by its clock.

        Checks not_asked_too_late, not_paid_twice, budget_holds and no_call_while_commits_wait.
        """
        if self.is_calm:
            self._check_backlog(who, key)
        self.calls_for[key] += 1
        self.remaps.called(who, key)
        self.on_step(self.batches[key[0]].batch_id)
        if now_ms >= (deadline_ms := self._causes.deadline_ms(key[0])):
            self.violated("not_asked_too_late", f"{who} asked for row {key} at {now_ms}, after {deadline_ms}")
        self._budgets.called(self.batches[key[0]], now_ms)
        self._check_operations(who, key)
        self.steering.called(who, key)
        if (who, key) not in self._may_call and not self._failed_by_another_clock(key):
            self.violated("not_paid_twice", f"{who} asked for row {key}, which was durable when it came")

    def _check_operations(self, who: str, key: RowKey) -> None:
        """Check no_call_when_held: workers notice an operation in time, unless a process stood still."""
        stopped = self._stopped.get(key[0])
        if stopped is None or self.pauses or self.is_trial(who, key):
            return
        late_s = self.now() - stopped
        if late_s > NOTICE_S:
            self.violated("no_call_when_held", f"{who} asked for row {key} after {late_s:.1f} s")

    def is_trial(self, who: str, key: RowKey) -> bool:
        """True if `who` has a trial of the row, whose batch only its target holds."""
        return (who, key) in self._trials and is_tried(self.batches[key[0]])

    def _check_backlog(self, who: str, key: RowKey) -> None:
        """Check no_call_while_commits_wait."""
        target = self.files[key[0]].mapping.name
        for (other, row), since in self._unstored.items():
            waited_s = self.now() - since
            if other == who and self.files[row[0]].mapping.name == target and waited_s > LATE_S:
                text = f"{who} asked for row {key}, and its answer to {row} has waited for {waited_s:.1f} s"
                self.violated("no_call_while_commits_wait", text)

    # -- results ---------------------------------------------------------------------------------------

    def _check_latest(self, key: str, body: bytes) -> None:
        """A `latest.json` became visible. Checks latest_is_newest."""
        facts = json.loads(body)
        named = facts["incarnation"], facts["round"]
        if named < self.latest.get(key, ("", 0)):
            self.violated("latest_is_newest", f"{key} went back to round {facts['round']}")
        if not self._versions["out", facts["manifest"].removeprefix("s3://out/")]:
            self.violated("latest_is_newest", f"{key} names a manifest that is not written yet")
        self.latest[key] = named

    def object_stored(self, bucket: str, key: str, body: bytes) -> None:
        """An object became visible. Checks results_have_one_content and manifest_last."""
        if key.endswith("/sample/report.json"):
            # What was spent may grow by calls that are noted late.
            self.met["batch: sample"] += 1
            return
        if bucket != "out" or key.endswith("/aggregation.json"):
            self.met["world: checkpoint of results"] += bucket == "out"
            return
        self.met["row: kept in S3"] += key.startswith("work/")
        if key.endswith("manifest.json") and json.loads(body)["state"] == State.FAILED:
            # The id of a batch that failed before its first row may be opened anew, and succeed: the manifest
            # of the failure may be replaced, and replaces nothing.
            if self._versions[bucket, key]:
                self.violated("results_have_one_content", f"{key} has got the manifest of a failure")
            return
        if key.endswith("/latest.json"):
            self._check_latest(key, body)
            return
        batch_id = "#".join(key.split("/")[1:3])
        batch = self.table.batch(batch_id)
        round_ = batch.round if batch else 0
        digest = _digest(key, body)
        self._trace.add("world", "published", key, f"round {round_} sha256 {digest[:8]}")
        versions = self._versions[bucket, key]
        if any(known != digest for _, known in versions):
            self.violated("results_have_one_content", f"{key} has got another content in round {round_}")
        versions.append((round_, digest))
        if key.endswith("manifest.json"):
            for file in json.loads(body)["files"]:
                written = self._versions[bucket, key.replace("manifest.json", file["name"])]
                if not written or written[-1][1] != file["sha256"]:
                    self.violated("manifest_last", f"{key} was written without its {file['name']}")


def _digest(key: str, body: bytes) -> str:
    """The sha256 of a result file; that of a manifest without the log of operations, which grows."""
    if key.endswith("manifest.json"):
        facts = json.loads(body)
        del facts["operations"]
        body = json.dumps(facts).encode()
    return hashlib.sha256(body).hexdigest()
