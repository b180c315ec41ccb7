"""Batches in several rounds, with all roles in memory: redrive, and resume with the present mapping."""

import asyncio
import csv
import io
import json
from collections import Counter
from contextlib import asynccontextmanager

import pytest

from service.domain.errors import AgentRejectedError, AgentUnavailableError, UsageError
from service.domain.model import State, Work
from service.domain.operation_requests import OperationRequest
from service.steering.answers import ask
from service.steering.operate import operate

ROWS = 3_000
ID = "demo#e1"
MAPPING = """
target: {type: tool, name: demo, invoke: python, function: "demo:ask"}
input_mapping: {column_mappings: {name: name}}
output_mapping:
  type: tool
  extraction_methods: [{method: direct, field_mappings: {FIELDS}}]
execution: {max_concurrency: 50, timeout_seconds: 10,
            retry_policy: {max_attempts: 2, base_seconds: 0.001, cap_seconds: 0.002}}
"""


class Agent:
    """Counts the calls for each row. Its `failures` are raised for rows, until they are cleared."""

    def __init__(self) -> None:
        self.calls: Counter[int] = Counter()
        self.ids: list[str] = []
        self.failures: dict[int, Exception] = {}

    async def __call__(self, invocation):
        """Answer, or fail."""
        number = int(invocation.id.rsplit("/", 1)[1])
        self.calls[number] += 1
        self.ids.append(invocation.id)
        return self.failures.get(number) or {"answer": f"re: {invocation.body['name']}"}


@pytest.fixture
def agent() -> Agent:
    return Agent()


@pytest.fixture
def total() -> int:
    """The rows of the job."""
    return ROWS


@pytest.fixture
async def fleet(make_lab, scripted, define, agent, total):
    """A laboratory with a job, and a function that runs all of its roles."""
    lab = make_lab()
    lab.definitions["demo"] = define(MAPPING.replace("FIELDS", "answer: $.answer"))
    lab.agent = scripted(agent)
    await lab.put("id,name\n" + "".join(f"{n},name {n}\n" for n in range(1, total + 1)))

    @asynccontextmanager
    async def running():
        async with lab.committer(slot=1) as one, lab.committer(slot=2) as two:
            splitter = lab.splitter(one, read_bytes=4_096, checkpoint_rows=100, max_queued_rows=300)
            consumers = [
                lab.consumer(lab.ingest, splitter.handle, poll_wait_s=0.1, max_running=4),
                lab.consumer(lab.rows, lab.worker(one).handle, poll_wait_s=0.1, max_running=50),
                lab.consumer(lab.rows, lab.worker(two, name="w2").handle, poll_wait_s=0.1, max_running=50),
                lab.consumer(lab.aggregate, lab.aggregator(500).handle, poll_wait_s=0.1, max_running=2),
            ]
            async with lab.consuming(*consumers):
                yield

    lab.running = running
    return lab


def batch_of(lab):
    """The batch as it stands; None before it is opened."""
    return lab.table._batches.get(ID)


async def until_final(lab, round_=1):
    """Let time pass until the round has ended."""

    def has_ended() -> bool:
        batch = batch_of(lab)
        return batch is not None and batch.round == round_ and batch.state.is_final

    await lab.until(has_ended, step_s=0.05)


async def until_done(lab, rows):
    """Let time pass until so many rows have an outcome."""
    await lab.until(
        lambda: batch_of(lab) is not None and sum(map(len, lab.table._numbers.values())) >= rows, step_s=0.01
    )


def file_of(lab, name):
    """A result file."""
    return lab.objects.stored["out", f"results/demo/e1/{name}"].body


def table_of(lab, name):
    """The rows of a result file, as dicts."""
    return list(csv.DictReader(io.StringIO(file_of(lab, name).decode(), newline="")))


async def request(lab, op, request_id="r1", **args):
    """Have the fleet carry out a request, while time passes."""
    asked = asyncio.ensure_future(ask(lab.ports, OperationRequest(op, ID, request_id, "tester", args)))
    await lab.until(asked.done, step_s=0.1)
    answer = await asked
    assert answer is not None
    return answer


async def test_failures_of_one_class_run_again_and_all_rows_are_in_one_file(fleet, agent):
    """Of 200 failures with two causes only the transient ones run again; output.csv has all rows in order."""
    rejected = set(range(15, ROWS, 30))
    transient = set(range(16, ROWS, 30))
    agent.failures = {n: AgentRejectedError("no") for n in rejected} | {
        n: AgentUnavailableError("down") for n in transient
    }
    async with fleet.running():
        await fleet.send(fleet.ingest, fleet.job())
        await until_final(fleet)
        assert json.loads(file_of(fleet, "latest.json"))["round"] == 1
        agent.failures = {n: AgentRejectedError("no") for n in rejected}
        agent.calls.clear()
        answer = await request(fleet, "redrive", **{"class": ["unavailable", "transient"]})
        assert answer.answer["round"] == 2
        assert answer.answer["due"] == len(transient)
        await until_final(fleet, 2)
    assert agent.calls == dict.fromkeys(transient, 1)
    assert batch_of(fleet).state is State.COMPLETED_WITH_ERRORS
    rows = table_of(fleet, "round-002/output.csv")
    assert [int(row["_row"]) for row in rows] == list(range(1, ROWS + 1))
    assert {int(row["_row"]) for row in rows if row["_status"] == "FAILED"} == rejected
    assert {int(row["_row"]) for row in rows if row["_round"] == "2"} == transient
    assert "_round" not in table_of(fleet, "output.csv")[0]
    latest = json.loads(file_of(fleet, "latest.json"))
    assert (latest["round"], latest["output"]) == (2, "s3://out/results/demo/e1/round-002/output.csv")
    manifest = json.loads(file_of(fleet, "round-002/manifest.json"))
    assert (manifest["round"], manifest["succeeded"], manifest["failed"]) == (2, 2_900, 100)
    assert [(op["op"], op["by"]) for op in manifest["operations"]] == [("redrive", "tester")]
    outcomes = await fleet.outcomes(batch_of(fleet))
    assert [past.error.type for past in outcomes[16].history] == ["AgentUnavailableError"]
    assert outcomes[15].history == ()


async def test_a_cancelled_batch_is_run_to_its_end(fleet, agent):
    """Cancelled at a thousand rows, `redrive --unread` runs what is left, and no succeeded row again."""
    async with fleet.running():
        await fleet.send(fleet.ingest, fleet.job())
        await until_done(fleet, 1_000)
        await operate(fleet.ports, OperationRequest("cancel", ID, "c1", "tester", {"grace": 0}))
        await until_final(fleet)
        batch = batch_of(fleet)
        assert batch.state is State.CANCELLED
        assert 1_000 < batch.unread_from < ROWS
        manifest = json.loads(file_of(fleet, "manifest.json"))
        assert manifest["unread_from"] == batch.unread_from
        await request(fleet, "redrive", unread=True)
        await until_final(fleet, 2)
    batch = batch_of(fleet)
    assert (batch.state, batch.total, batch.unread_from) == (State.SUCCEEDED, ROWS, 0)
    succeeded_before = [row for row in table_of(fleet, "output.csv") if row["_status"] == "SUCCESS"]
    assert all(agent.calls[int(row["_row"])] == 1 for row in succeeded_before)
    assert max(agent.calls.values()) == 1
    assert [int(row["_row"]) for row in table_of(fleet, "round-002/output.csv")] == list(range(1, ROWS + 1))


@pytest.mark.parametrize("total", [600])
async def test_a_corrected_mapping_goes_on_over_all_rows(fleet, agent, define, total):
    """After a wrong mapping one command runs all rows by the corrected one, also those that were not read."""
    fleet.definitions["demo"] = define(MAPPING.replace("FIELDS", "reply: $.wrong.path"))
    async with fleet.running():
        await fleet.send(fleet.ingest, fleet.job())
        await until_done(fleet, 20)
        await operate(fleet.ports, OperationRequest("pause", ID, "p1", "tester", {"now": True}))
        await fleet.pass_time(20.0)
        assert batch_of(fleet).total is None
        fleet.definitions["demo"] = define(
            MAPPING.replace("FIELDS", "answer: $.answer").replace("name: name", "name: missing")
        )
        with pytest.raises(UsageError, match="does not fit"):
            await request(fleet, "resume", "m1", mapping_now=True)
        assert batch_of(fleet).state is State.PAUSED
        fleet.definitions["demo"] = define(MAPPING.replace("FIELDS", "answer: $.answer"))
        await request(fleet, "resume", "m2", mapping_now=True)
        await until_final(fleet, 2)
    assert batch_of(fleet).state is State.SUCCEEDED
    rows = table_of(fleet, "round-002/output.csv")
    assert [row["output_answer"] for row in rows] == [f"re: name {n}" for n in range(1, total + 1)]
    assert "output_reply" in rows[0]
    manifest = json.loads(file_of(fleet, "round-002/manifest.json"))
    assert [version["rows"] for version in manifest["mappings"]] == [total]


@pytest.mark.parametrize("total", [900])
async def test_successes_before_a_new_mapping_are_carried(fleet, agent, define, total):
    """Rows that were right before the mapping changed keep their outcome and are not called again."""
    agent.failures = {n: AgentRejectedError("no") for n in range(2, total, 2)}
    async with fleet.running():
        await fleet.send(fleet.ingest, fleet.job())
        await until_done(fleet, 500)
        await operate(fleet.ports, OperationRequest("pause", ID, "p1", "tester"))
        await fleet.pass_time(20.0)
        agent.failures = {}
        fleet.definitions["demo"] = define(MAPPING.replace("FIELDS", "answer: $.answer, more: $.more"))
        done = await fleet.outcomes(batch_of(fleet))
        right = {number for number, outcome in done.items() if outcome.error is None}
        answer = await request(fleet, "redrive", mapping_now=True)
        assert answer.answer["carried"] == len(right)
        await until_final(fleet, 2)
    batch = batch_of(fleet)
    assert (batch.state, batch.carried.succeeded) == (State.SUCCEEDED, len(right))
    assert all(agent.calls[number] == 1 for number in right)
    manifest = json.loads(file_of(fleet, "round-002/manifest.json"))
    assert [version["rows"] for version in manifest["mappings"]] == [len(right), total - len(right)]
    assert manifest["succeeded"] == total


@pytest.mark.parametrize("total", [300])
async def test_a_sender_that_dies_is_replaced(fleet, agent, total):
    """If the work's message is lost half way, the sweeper sends the rows of the selection, and no others."""
    failed = set(range(10, total, 10))
    agent.failures = {n: AgentRejectedError("no") for n in failed}
    async with fleet.running():
        await fleet.send(fleet.ingest, fleet.job())
        await until_final(fleet)
    agent.failures = {}
    agent.calls.clear()
    async with fleet.working(), fleet.committer() as committer:
        splitter = fleet.splitter(committer)
        body = OperationRequest("redrive", ID, "r1", "tester").encode()
        await splitter.handle(fleet.delivery(body))
        assert isinstance(batch_of(fleet).work, Work)
        await fleet.waiting(fleet.ingest)  # the message is gone
        sweeper = fleet.sweeper(committer, stuck_after_s=60.0)
        await sweeper.sweep()
        await fleet.pass_time(61.0)
        await sweeper.sweep()
        await fleet.pass_time(61.0)
        await sweeper.sweep()
        await fleet.pass_time(61.0)
    async with fleet.running():
        await until_final(fleet, 2)
    assert agent.calls == dict.fromkeys(failed, 1)
    assert batch_of(fleet).state is State.SUCCEEDED
