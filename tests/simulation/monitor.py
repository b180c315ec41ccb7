"""Watches everything that really happens in a world, and holds the invariants at every instant."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from service.adapters.aws.values import Item
from service.domain.events import decode_ingest
from service.domain.messages import AggregateMessage
from service.domain.model import Batch, Commit, Outcome, State, Status, ms_of, row_id
from service.domain.ports import ReceivedMessage
from tests.simulation.agent_calls import AgentCalls
from tests.simulation.invariants import Violation
from tests.simulation.mappings import BUDGET_S
from tests.simulation.observed_ports import ObservedObjects, ObservedQueue, ObservedTable, RowKey
from tests.simulation.scenario import Behaviour, InputFile, TargetFault, TargetFaultPeriod
from tests.simulation.trace import Trace

_CAUSES = {
    Behaviour.REFUSES: "AgentRejectedError",
    Behaviour.TALKS_NONSENSE: "ExtractionError",
    Behaviour.FAILS: "AgentUnavailableError",
    Behaviour.FAILS_FIRST: "AgentUnavailableError",
    Behaviour.HANGS: "AgentTimeoutError",
    Behaviour.LACKS_RIGHTS: "AgentCredentialsError",
}
"""The errors that an agent's own behaviour leads to."""

_FINAL = {"AgentRejectedError", "ExtractionError"}
"""Errors after which nobody tries again."""

_LAST_WAIT_S = 70.0
"""A row fails so long before its budget ends, at most: what it would have to wait is longer."""


class Monitor:
    """The observer of one world. `on_violation` is called for each broken invariant."""

    def __init__(self, trace: Trace, on_violation: Callable[[Violation], None]) -> None:
        self._trace = trace
        self._on_violation = on_violation
        self.table: ObservedTable
        self.objects: ObservedObjects
        self.queues: dict[str, ObservedQueue] = {}
        self.files: dict[str, InputFile] = {}
        self.target_faults: Sequence[TargetFaultPeriod] = ()
        self.max_lost = 0
        self.start_ms = 0
        self.clocks_differ_s = 0.0  # from each other, and from the world's own
        self.pauses = 0
        self.met: Counter[str] = Counter()
        self.calls: AgentCalls
        self.on_progress: Callable[[], None] = lambda: None
        self.outcomes: dict[tuple[str, int], dict[int, Status]] = defaultdict(dict)
        self.carried_over: Counter[tuple[str, int]] = Counter()
        self.object_versions: dict[tuple[str, str], list[tuple[int, str]]] = defaultdict(list)
        self.dead_lettered: Counter[str] = Counter()
        self.dead_lettered_rows: set[RowKey] = set()
        self.purged_rows: set[RowKey | None] = set()
        self.calls_for: Counter[RowKey] = Counter()
        self.agent_failures: Counter[RowKey] = Counter()
        self.reused: Counter[tuple[str, int]] = Counter()
        self._stored: dict[RowKey, Outcome] = {}
        self._first_sent: dict[RowKey, float] = {}
        self._at_work_since: dict[str, float] = {}
        self._first_received: dict[RowKey, float] = {}
        self._lost: Counter[RowKey] = Counter()
        self._received: set[tuple[str, RowKey]] = set()
        self._may_pay: set[tuple[str, RowKey]] = set()
        self._now = trace.now

    def broken(self, invariant: str, text: str) -> None:
        """Say that an invariant does not hold."""
        self._trace.add("invariants", "VIOLATION", invariant, text)
        self._on_violation(Violation(invariant, text, self._now()))

    # -- outcomes and counters -------------------------------------------------------------------------

    def row_stored(self, partition: str, before: Item | None, row: Item) -> None:
        """one_outcome, failed_for_a_cause."""
        batch_id = "#".join(partition.split("#")[:2])
        number, round_ = int(row["row_id"]["S"][4:]), int(row["round"]["N"])
        key = (batch_id, round_, number)
        if before is not None and int(before["round"]["N"]) >= round_:
            self.broken("one_outcome", f"row {key} was stored over one of round {before['round']['N']}")
        status = Status(row["status"]["S"])
        self.outcomes[batch_id, round_][number] = status
        if status is Status.FAILED:
            self._check_cause(key, row)

    def _check_cause(self, key: RowKey, row: Item) -> None:
        error, attempts = row["error"]["M"]["type"]["S"], int(row["attempts"]["N"])
        behaviour = self.behaviour(key)
        if error == "DeadlineError":
            is_real = self._is_late(key)
            self.met["row: DeadlineError"] += 1
        elif error == "WorkerLostError":
            is_real = key in self.dead_lettered_rows or self._lost[key] >= self.max_lost
        elif error in _FINAL:
            is_real = _CAUSES.get(behaviour) == error
        else:
            is_real = self._is_used_up(key, attempts) or self._is_over_budget(key)
            causes = {_CAUSES.get(behaviour), "AgentOutageError", "AgentThrottledError"}
            is_real = is_real and (error in causes or (error == "AgentTimeoutError" and self.pauses > 0))
        if not is_real:
            text = f"row {key} failed with {error} in attempt {attempts}, and its agent {behaviour}"
            self.broken("failed_for_a_cause", text)

    def _is_used_up(self, key: RowKey, attempts: int) -> bool:
        """Whether it failed often enough. A pause may be a time-out.

        Of an outage only the beginning may cost an attempt; but where others were served since the row was
        refused, the next one may cost them all. By that rule rows end that are refused because of themselves.
        """
        file = self.files[key[0]]
        outages = sum(
            period.target == file.mapping.name
            and period.target_fault is TargetFault.OUTAGE
            and period.from_s <= self._now()
            for period in self.target_faults
        )
        costs = self.agent_failures[key] + outages + self.pauses
        return attempts == file.mapping.pace.max_attempts and (costs >= attempts or outages > 1)

    def _is_late(self, key: RowKey) -> bool:
        """Whether a deadline of the row is near or over, by the clock of whoever says so."""
        row_deadline_s = self.files[key[0]].mapping.row_deadline_s
        ends_at = [(self._deadline_ms(key[0]) - self.start_ms) / 1000]
        if row_deadline_s is not None and key in self._first_received:
            ends_at.append(self._first_received[key] + row_deadline_s)
        return any(self._now() >= at - _LAST_WAIT_S - self.clocks_differ_s for at in ends_at)

    def _deadline_ms(self, batch_id: str) -> float:
        """The batch's deadline, infinite where it has none."""
        batch = self.table.batch(batch_id)
        return ms_of(batch.deadline_at) if batch is not None and batch.deadline_at else math.inf

    def _is_over_budget(self, key: RowKey) -> bool:
        """By the clock of whoever says so."""
        least_s = BUDGET_S - _LAST_WAIT_S - self.clocks_differ_s
        return self._now() - self._first_received.get(key, self._now()) >= least_s

    def counted(self, table: ObservedTable, commit: Commit) -> None:
        """counters_equal_outcomes, one_outcome."""
        if any(outcome.round != commit.round for outcome in commit.outcomes):
            self.broken("one_outcome", f"an outcome of another round was committed for {commit.round}")
        for outcome in commit.outcomes:
            self._stored[commit.batch_id, commit.round, outcome.number] = outcome
            self.reused[commit.batch_id, commit.round] += bool(outcome.reused_from)
            if outcome.status is Status.SUCCESS:
                self._check_answer(commit.batch_id, outcome)
        self.check_counters(table, commit.batch_id, commit.round)
        self.on_progress()

    def _check_answer(self, batch_id: str, outcome: Outcome) -> None:
        """answered_for_itself."""
        row = f"row {(batch_id, outcome.round, outcome.number)}"
        asked = self.calls.rows[self._output(outcome)["call"]]
        wanted = outcome.reused_from or f"{batch_id}/{row_id(outcome.number)}"
        file, other = self.files[batch_id], self.files[asked[0]]
        is_kept = (
            file.mapping.reuse == "7 days"
        )  # for later rounds too, in which a row may find its own answer
        may_be = is_kept or asked[:2] == (batch_id, outcome.round)
        if f"{asked[0]}/{row_id(asked[2])}" != wanted or not may_be:
            self.broken("answered_for_itself", f"{row} has the answer of {asked}, and should of {wanted}")
        if (other.mapping, other.names[asked[2] - 1]) != (file.mapping, file.names[outcome.number - 1]):
            self.broken("answered_for_itself", f"{row} has another input than {asked}")

    def _output(self, outcome: Outcome) -> dict[str, Any]:
        """What the agent answered, wherever it is kept."""
        if outcome.stored is None:
            return outcome.output_data
        output: dict[str, Any] = orjson.loads(
            self.objects.stored[outcome.stored.bucket, outcome.stored.key].body
        )["output_data"]
        return output

    def refused(self, who: str, commit: Commit, taken: Sequence[int]) -> None:
        """own_commit_is_known."""
        for index in taken:
            outcome = commit.outcomes[index]
            if self._stored.get((commit.batch_id, commit.round, outcome.number)) is outcome:
                text = f"{who} was told that its row {outcome.number} is another's"
                self.broken("own_commit_is_known", text)

    def check_counters(self, table: ObservedTable, batch_id: str, round_: int) -> None:
        """counters_equal_outcomes."""
        statuses = list(self.outcomes[batch_id, round_].values())
        succeeded = statuses.count(Status.SUCCESS)
        failed = len(statuses) - succeeded
        counted = table.counted(batch_id, round_)
        reused = self.reused[batch_id, round_]
        if counted != (succeeded + self.carried_over[batch_id, round_], failed, reused):
            self.broken(
                "counters_equal_outcomes",
                f"{batch_id} round {round_}: counted {counted}, stored ({succeeded}, {failed}, {reused})",
            )

    def batch_changed(self, before: Batch | None, batch: Batch) -> None:
        """final_when_counted, batch_failed_for_a_cause."""
        if before is None or before.state is batch.state:
            return
        self._trace.add("world", "batch", batch)
        key = (batch.batch_id, batch.round)
        if batch.state is State.FAILED:
            if not self.dead_lettered["ingest"] and not self.dead_lettered["aggregate"]:
                self.broken("batch_failed_for_a_cause", f"{batch.batch_id}: {batch.error}")
        elif batch.state is State.AGGREGATING or batch.state.is_final:
            done = len(self.outcomes[key]) + self.carried_over[key]
            if batch.total is None or done != batch.total or batch.total != self.rows_of(batch.batch_id):
                self.broken(
                    "final_when_counted",
                    f"{batch.batch_id} is {batch.state} with {done} outcomes, total {batch.total}",
                )
        self.on_progress()

    def rows_of(self, batch_id: str) -> int:
        """How many rows the input has."""
        return len(self.files[batch_id].behaviours)

    def behaviour(self, key: RowKey) -> Behaviour:
        """What the agent does with a row."""
        return self.files[key[0]].behaviours[key[2] - 1]

    def has_outcome(self, key: RowKey) -> bool:
        """Whether the row has an outcome of this round or a later one."""
        batch_id, round_, number = key
        return any(number in self.outcomes[batch_id, later] for later in range(round_, 4))

    # -- messages --------------------------------------------------------------------------------------

    def message_deleted(self, queue: ObservedQueue, body: str) -> None:
        """acknowledged_when_durable.

        A dead job or trigger may be left to the sweeper, which sees the batch.
        """
        kind, _, dead = queue.name.partition("-")
        check = {"rows": self._row_gone, "ingest": self._job_gone, "aggregate": self._trigger_gone}[kind]
        is_swept = bool(dead) and kind != "rows" and self._has_batch(body)
        if (problem := check(body)) and not is_swept:
            self.broken("acknowledged_when_durable", problem)
        self.on_progress()

    def _has_batch(self, body: str) -> bool:
        data = orjson.loads(body)
        return self.table.batch(data.get("batch") or f"{data['mapping']}#{data['execution_id']}") is not None

    def _row_gone(self, body: str) -> str:
        key = self.queues["rows"].key(body)
        assert key is not None
        batch_id, round_, _ = key
        if self.has_outcome(key) or self._live(key) or key in self.purged_rows:
            return ""
        batch = self.table.batch(batch_id)
        if batch is None or batch.state.is_final or batch.round > round_:
            return ""
        return f"row {key} was deleted: it has no outcome and no other message"

    def _live(self, key: RowKey) -> bool:
        return any(queue.live.get(key) for queue in self.queues.values())

    def _job_gone(self, body: str) -> str:
        for job in decode_ingest(body):
            batch = self.table.batch(f"{job.mapping}#{job.execution_id}")
            if (batch is None or batch.state is State.SPLITTING) and not self._others("ingest", body):
                return f"the job was deleted while its batch is {batch.state if batch else 'not there'}"
        return ""

    def _trigger_gone(self, body: str) -> str:
        trigger = AggregateMessage.decode(body)
        batch = self.table.batch(trigger.batch_id)
        if batch is None or batch.round != trigger.round or batch.state.is_final:
            return ""
        if self._others("aggregate", body):
            return ""
        return f"the trigger of {trigger.batch_id} was deleted while it is {batch.state}"

    def _others(self, name: str, body: str) -> bool:
        """Whether another message asks for the same: sent again, or a copy."""
        wanted = orjson.loads(body)
        found = (orjson.loads(b) for queue in (name, f"{name}-dlq") for b in self.queues[queue].bodies)
        same = ("batch", "round", "mapping", "execution_id")
        return any(all(x.get(k) == wanted.get(k) for k in same) for x in found)

    def message_dead_lettered(self, queue: ObservedQueue, body: str, receives: int) -> None:
        """A message has become a dead letter: a cause for what follows."""
        self.dead_lettered[queue.name] += 1
        self._trace.add("world", "dead letter", queue.name, f"after {receives} receives", body)
        if key := queue.key(body):
            self.dead_lettered_rows.add(key)

    def sent(self, who: str, bodies: Sequence[str]) -> None:
        """repeats_are_marked: a first attempt that was sent before has to say so.

        A call that is repeated because its answer was lost sends the same bodies again, and two splitters
        with the same job may start side by side: those are no repeats that their sender could have known of.
        """
        rows = self.queues["rows"]
        for body in bodies:
            key = rows.key(body)
            if key is None:
                continue
            is_marked = '"replay":true' in body
            if (who, key) in self._received and not is_marked:
                self.broken("repeats_are_marked", f"{who} has row {key}, and sent it again without a mark")
            if '"attempt"' in body:
                continue
            first_at = self._first_sent.setdefault(key, self._now())
            since = self._at_work_since.get(who, 0.0)
            if first_at < since and key in rows.ever and not is_marked:
                self.broken("repeats_are_marked", f"{who} sent row {key} again without a mark")

    def received(self, who: str, queue: ObservedQueue, messages: Sequence[ReceivedMessage]) -> None:
        """Note which rows a process may still pay for, and when it began to work."""
        self._at_work_since.setdefault(who, self._now())
        for message in messages:
            key = queue.key(message.body)
            if key is None:
                continue
            self._first_received.setdefault(key, self._now())
            self._received.add((who, key))
            self.met["row: read from its source"] += '"span":' in message.body
            self._lost[key] += message.receives > 1
            is_suspect = message.receives > 1 or '"replay":true' in message.body
            if not (is_suspect and self.has_outcome(key)):
                self._may_pay.add((who, key))

    def agent_called(self, who: str, key: RowKey, now_ms: int) -> None:
        """not_paid_twice, not_asked_too_late; `now_ms` by the clock of `who`."""
        self.calls_for[key] += 1
        if now_ms >= (deadline_ms := self._deadline_ms(key[0])):
            self.broken("not_asked_too_late", f"{who} asked for row {key} at {now_ms}, after {deadline_ms}")
        if (who, key) not in self._may_pay:
            self.broken("not_paid_twice", f"{who} asked for row {key}, which was durable when it came")

    # -- results ---------------------------------------------------------------------------------------

    def object_stored(self, bucket: str, key: str, body: bytes) -> None:
        """results_have_one_content, manifest_last."""
        if bucket != "out":
            return
        self.met["row: kept in S3"] += key.startswith("work/")
        batch_id = "#".join(key.split("/")[1:3])
        batch = self.table.batch(batch_id)
        round_ = batch.round if batch else 0
        digest = hashlib.sha256(body).hexdigest()
        self._trace.add("world", "published", key, f"round {round_} sha256 {digest[:8]}")
        object_versions = self.object_versions[bucket, key]
        if any(known != digest for _, known in object_versions):
            self.broken("results_have_one_content", f"{key} has got another content in round {round_}")
        object_versions.append((round_, digest))
        if key.endswith("manifest.json"):
            for file in json.loads(body)["files"]:
                written = self.object_versions[bucket, key.replace("manifest.json", file["name"])]
                if not written or written[-1][1] != file["sha256"]:
                    self.broken("manifest_last", f"{key} was written without its {file['name']}")
