"""Samples and their approval, with all roles in memory."""

import asyncio
import csv
import io
import json
from collections import Counter
from contextlib import asynccontextmanager

import pytest

from service.domain.errors import AgentRejectedError, UsageError
from service.domain.model import HoldReason, State
from service.domain.operation_requests import OperationRequest
from service.steering.answers import ask
from service.steering.expiry import end_of_hold
from service.steering.operate import decide_and_apply, operate

ROWS = 150
ID = "demo#e1"
MAPPING = """
target: {type: tool, name: demo, invoke: python, function: "demo:ask"}
input_mapping: {column_mappings: {name: name}}
output_mapping:
  type: tool
  extraction_methods: [{method: direct, field_mappings: {answer: $.answer, kind: $.kind}}]
  required: [answer]
execution: {max_concurrency: 50, timeout_seconds: 10,
            retry_policy: {max_attempts: 2, base_seconds: 0.001, cap_seconds: 0.002}}
"""


class CountingAgent:
    """Counts the calls for each row. Its `failures` are raised for rows, until they are cleared."""

    def __init__(self) -> None:
        self.calls: Counter[int] = Counter()
        self.failures: dict[int, Exception] = {}

    async def __call__(self, invocation):
        """Answer, or fail; every third row has a kind."""
        number = int(invocation.id.rsplit("/", 1)[1])
        self.calls[number] += 1
        kind = {} if number % 3 else {"kind": "third"}
        return self.failures.get(number) or {"answer": f"re: {invocation.body['name']}"} | kind


@pytest.fixture
def agent() -> CountingAgent:
    return CountingAgent()


@pytest.fixture
async def fleet(make_lab, scripted, define, agent):
    """A laboratory with a file, and a function that runs all of its roles."""
    lab = make_lab()
    lab.definitions["demo"] = define(MAPPING)
    lab.agent = scripted(agent)
    await lab.put("id,name\n" + "".join(f"{n},name {n}\n" for n in range(1, ROWS + 1)))

    @asynccontextmanager
    async def running():
        async with lab.committer(slot=1) as one, lab.committer(slot=2) as two:
            splitter = lab.splitter(one, read_bytes=1_024, checkpoint_rows=8, max_queued_rows=300)
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


async def until_held(lab, round_=1):
    """Let time pass until the batch waits for approval."""

    def is_held():
        batch = batch_of(lab)
        return batch is not None and batch.round == round_ and batch.hold(HoldReason.APPROVAL) is not None

    await lab.until(is_held, step_s=0.05)


async def until_final(lab, round_=1):
    """Let time pass until the round has ended."""

    def has_ended():
        batch = batch_of(lab)
        return batch is not None and batch.round == round_ and batch.state.is_final

    await lab.until(has_ended, step_s=0.05)


async def started(lab, **options):
    """A batch with a sample of 20 rows, or with these options, that is held for approval."""
    await lab.send(lab.ingest, lab.job(options={"sample": 20} | options))
    await until_held(lab)
    await lab.pass_time(30.0)


def do(lab, op, request_id="r1", **args):
    """Carry out a request."""
    return operate(lab.ports, OperationRequest(op, ID, request_id, "ada", args))


async def request(lab, op, request_id="r1", **args):
    """Have the fleet carry out a request, while time passes."""
    asked = asyncio.ensure_future(ask(lab.ports, OperationRequest(op, ID, request_id, "ada", args)))
    await lab.until(asked.done, step_s=0.1)
    return await asked


def file_of(lab, name):
    """The text of a result file."""
    return lab.objects.stored["out", f"results/demo/e1/{name}"].body.decode()


def rows_of(lab, name):
    """The rows of a result file, as dicts."""
    return list(csv.DictReader(io.StringIO(file_of(lab, name), newline="")))


async def test_the_first_rows_wait_for_approval_and_are_not_called_again(fleet, agent):
    """Twenty rows are called and shown; once they are approved the others run, and no row twice."""
    async with fleet.running():
        await started(fleet)
        assert sorted(agent.calls) == list(range(1, 21))
        detail = batch_of(fleet).hold(HoldReason.APPROVAL).detail["sample"]
        assert (detail["rows"], detail["of"], detail["rest"]["rows"]) == (20, ROWS, ROWS - 20)
        report = json.loads(file_of(fleet, "sample/report.json"))
        assert report["fields"]["answer"] == {"filled": 20, "share": 1.0, "distinct": 20}
        assert report["fields"]["kind"] == {"filled": 6, "share": 0.3, "distinct": 1}
        assert [row["row"] for row in report["shown"]] == list(range(1, 11))
        assert [int(row["_row"]) for row in rows_of(fleet, "sample/output.csv")] == list(range(1, 21))
        answer = await do(fleet, "approve", gate=detail["gate"])
        assert "is approved" in answer.answer["text"]
        await until_final(fleet)
    assert batch_of(fleet).state is State.SUCCEEDED
    assert agent.calls == dict.fromkeys(range(1, ROWS + 1), 1)
    assert [int(row["_row"]) for row in rows_of(fleet, "output.csv")] == list(range(1, ROWS + 1))


async def test_random_rows_wait_for_approval_and_are_not_called_again(fleet, agent):
    """Rows from all over the file are the sample; later the whole file is split without calling them."""
    async with fleet.running():
        await started(fleet, sample_random=True)
        sample = batch_of(fleet).gate.numbers
        assert sorted(agent.calls) == list(sample)
        assert len(sample) == 20
        assert max(sample) > 40
        await do(fleet, "approve")
        await until_final(fleet)
    assert batch_of(fleet).state is State.SUCCEEDED
    assert agent.calls == dict.fromkeys(range(1, ROWS + 1), 1)
    assert [int(row["_row"]) for row in rows_of(fleet, "output.csv")] == list(range(1, ROWS + 1))


@pytest.mark.parametrize("is_random", [False, True])
async def test_a_file_that_is_no_longer_than_its_sample_is_not_held(fleet, agent, is_random):
    """A file of 20 rows with a sample of 20 runs to its end."""
    await fleet.put("id,name\n" + "".join(f"{n},name {n}\n" for n in range(1, 21)))
    async with fleet.running():
        await fleet.send(fleet.ingest, fleet.job(options={"sample": 20, "sample_random": is_random}))
        await until_final(fleet)
    assert batch_of(fleet).state is State.SUCCEEDED
    assert agent.calls == dict.fromkeys(range(1, 21), 1)


async def test_conditions_that_are_fulfilled_approve(fleet, agent):
    """With `approve_if` the batch goes on by itself, and the log says why."""
    async with fleet.running():
        conditions = {"success": ">= 98%", "fill": {"answer": ">= 90%"}}
        await fleet.send(fleet.ingest, fleet.job(options={"sample": 20, "approve_if": conditions}))
        await until_final(fleet)
    assert agent.calls == dict.fromkeys(range(1, ROWS + 1), 1)
    log = await fleet.table.operations(batch_of(fleet))
    assert [(made.op, made.by) for made in log] == [("sample", "rowfleet"), ("approve", "rowfleet")]
    assert "fill.answer>=90%,success>=98%" in log[-1].answer["text"]


async def test_a_hold_names_the_conditions_that_are_not_fulfilled(fleet):
    """The hold says which condition failed, with its number."""
    async with fleet.running():
        await started(fleet, approve_if="success>=98%,fill.kind>=90%,cost_per_row_usd<=0.01")
    detail = batch_of(fleet).hold(HoldReason.APPROVAL).detail
    assert detail["sample"]["unmet"] == [
        "the cost per row is not known, and <= 0.01 is asked for",
        "fill.kind is 30% (6 of 20), and >= 90% is asked for",
    ]
    assert "fill.kind is 30%" in detail["reason"]


async def test_the_price_of_the_sample_and_of_the_rest_is_known(fleet, define):
    """With prices the report has the cost of a row, and the range of what the others cost."""
    fleet.definitions["demo"] = define(MAPPING + "pricing: {per_call: 0.002}\n")
    async with fleet.running():
        await started(fleet, approve_if="cost_per_row_usd<=0.001")
    report = json.loads(file_of(fleet, "sample/report.json"))
    assert (report["currency"], report["spent"], report["cost_per_row"]) == ("USD", "0.04", "0.002")
    assert report["rest"]["cost"] == {"low": "0.26", "high": "0.26"}
    assert report["unmet"] == ["cost_per_row_usd is 0.002, and <= 0.001 is asked for"]


async def test_an_approval_may_state_a_budget(fleet, agent):
    """The calls of the sample count in it; an approved batch gets another one by `set`."""
    async with fleet.running():
        await started(fleet)
        await do(fleet, "approve", max_calls=1_000)
        batch = batch_of(fleet)
        assert (batch.budgets.own.calls, batch.budgets.before.calls) == (1_000, 20)
        with pytest.raises(UsageError, match="`rowfleet set demo#e1` changes its budget"):
            await do(fleet, "approve", "r2", max_calls=2_000)


async def test_who_approves_twice_is_told_who_has_approved(fleet):
    """A second approval changes nothing; one of another gate is refused."""
    async with fleet.running():
        await started(fleet)
        with pytest.raises(UsageError, match="gate 12345678 is not that of demo#e1"):
            await do(fleet, "approve", gate="12345678")
        first = await do(fleet, "approve")
        again = await do(fleet, "approve", "r2")
    assert first.control
    assert again.control == 0
    assert "was approved by ada at" in again.answer["text"]


async def test_a_sample_that_is_not_done_cannot_be_approved(fleet):
    """An approval before the hold is refused, and says how many rows are done."""
    await fleet.send(fleet.ingest, fleet.job(options={"sample": 20}))
    async with (
        fleet.committer(slot=1) as one,
        fleet.consuming(fleet.consumer(fleet.ingest, fleet.splitter(one).handle, poll_wait_s=0.1)),
    ):
        await fleet.until(lambda: batch_of(fleet) and batch_of(fleet).total, step_s=0.1)
    with pytest.raises(UsageError, match="is not ready: 0 of its 20 rows are done"):
        await do(fleet, "approve")


@pytest.mark.parametrize("is_random", [False, True])
async def test_a_rejected_batch_is_cancelled(fleet, agent, is_random):
    """After `reject` no further row is called; the results have the sample, and say who has rejected it.

    Of a random sample the rows between were read: they fail as cancelled.
    """
    async with fleet.running():
        await started(fleet, sample_random=is_random)
        await do(fleet, "reject")
        await until_final(fleet)
    batch = batch_of(fleet)
    assert batch.state is State.CANCELLED
    assert batch.cancel_reason == "its sample was rejected by ada"
    assert sum(agent.calls.values()) == 20
    rows = rows_of(fleet, "output.csv")
    assert Counter(row["_status"] for row in rows)["SUCCESS"] == 20
    assert len(rows) == (ROWS if is_random else 20)
    assert batch.unread_from == (0 if is_random else 21)


async def test_a_rejected_batch_can_be_redriven(fleet, agent):
    """`redrive --unread` takes the rejection back, and needs no approval."""
    async with fleet.running():
        await started(fleet)
        await do(fleet, "reject")
        await until_final(fleet)
        await request(fleet, "redrive", "r2", unread=True)
        await until_final(fleet, 2)
    assert batch_of(fleet).state is State.SUCCEEDED
    assert agent.calls == dict.fromkeys(range(1, ROWS + 1), 1)


@pytest.mark.parametrize("is_random", [False, True])
async def test_rows_of_a_sample_that_nobody_approves_fail(fleet, agent, is_random):
    """After `approve_by` every other row is FAILED as not approved, and the results are written."""
    async with fleet.running():
        await started(fleet, sample_random=is_random, approve_by="10s")
        expired = OperationRequest("cancel", ID, "hold-1", "rowfleet")
        answer = await decide_and_apply(fleet.ports, expired, end_of_hold(72 * 3_600.0))
        assert "nobody has approved the sample" in answer.answer["text"]
        await until_final(fleet)
    assert batch_of(fleet).state is State.CANCELLED
    assert sum(agent.calls.values()) == 20
    rows = rows_of(fleet, "output.csv")
    assert [int(row["_row"]) for row in rows] == list(range(1, ROWS + 1))
    errors = Counter(row["_error"].partition(":")[0] for row in rows)
    assert errors == {"": 20, "NotApprovedError": ROWS - 20}


async def test_a_pause_and_a_sample_are_two_holds(fleet, agent):
    """A batch that is paused while its sample waits goes on when it is approved and resumed."""
    async with fleet.running():
        await started(fleet)
        await do(fleet, "pause")
        approved = await do(fleet, "approve", "r2")
        assert "it is still held (user)" in approved.answer["text"]
        await fleet.pass_time(30.0)
        assert sum(agent.calls.values()) == 20
        await do(fleet, "resume", "r3")
        await until_final(fleet)
    assert agent.calls == dict.fromkeys(range(1, ROWS + 1), 1)


async def test_resume_does_not_approve(fleet, agent):
    """`resume` is refused while the sample waits, and names the command that goes on."""
    async with fleet.running():
        await started(fleet)
        with pytest.raises(UsageError, match="`rowfleet approve demo#e1` goes on"):
            await do(fleet, "resume")
    assert sum(agent.calls.values()) == 20


@pytest.mark.parametrize("is_random", [False, True])
async def test_a_corrected_mapping_runs_the_failed_rows_of_the_sample_again(fleet, agent, define, is_random):
    """`approve --mapping-now` runs what has not succeeded in round 2, and the batch is held again."""
    async with fleet.running():
        agent.failures = dict.fromkeys(range(1, ROWS + 1, 2), AgentRejectedError("no"))
        await started(fleet, sample_random=is_random)
        sample = list(batch_of(fleet).gate.sample)
        failed = [number for number in sample if number % 2]
        gate = batch_of(fleet).gate_id
        agent.failures = {}
        agent.calls.clear()
        fleet.definitions["demo"] = define(MAPPING + "reuse: batch\n")
        answer = await request(fleet, "approve", "m1", mapping_now=True)
        assert (answer.answer["due"], answer.answer["carried"]) == (len(failed), 20 - len(failed))
        await until_held(fleet, 2)
        await fleet.pass_time(30.0)
        assert agent.calls == dict.fromkeys(failed, 1)
        report = json.loads(file_of(fleet, "round-002/sample/report.json"))
        assert (report["rows"], report["succeeded"]) == (20, 20)
        with pytest.raises(UsageError, match=f"gate {gate} is not that of demo#e1, which is in round 2"):
            await do(fleet, "approve", "a1", gate=gate)
        await do(fleet, "approve", "a2")
        await until_final(fleet, 2)
    assert batch_of(fleet).state is State.SUCCEEDED
    rest = set(range(1, ROWS + 1)) - set(sample)
    assert agent.calls == dict.fromkeys([*failed, *rest], 1)
    rows = rows_of(fleet, "round-002/output.csv")
    assert [int(row["_row"]) for row in rows] == list(range(1, ROWS + 1))


async def test_a_deadline_ends_a_batch_that_waits(fleet, agent):
    """When the deadline passes, rows behind the gate are due, and nobody has to approve any more."""
    async with fleet.running():
        await started(fleet, deadline_s=20)
        expired = OperationRequest("resume", ID, "hold-1", "rowfleet")
        await decide_and_apply(fleet.ports, expired, end_of_hold(72 * 3_600.0))
        await fleet.pass_time(30.0)
    view = await fleet.table.read(ID)
    assert (view.batch.state, view.batch.due, view.batch.checkpoint.rows) == (State.RUNNING, ROWS, ROWS)
    assert not view.is_complete
    assert sum(agent.calls.values()) == 20


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"sample_random": True}, "'sample_random' needs a sample"),
        ({"sample": 20, "approve_if": {"fill": {"anser": ">= 9%"}}}, "did you mean 'answer'?"),
    ],
)
async def test_a_wrong_approval_fails_the_batch(fleet, options, problem):
    """An option that does not fit the mapping is the error of the batch."""
    async with fleet.running():
        await fleet.send(fleet.ingest, fleet.job(options=options))
        await until_final(fleet)
    assert batch_of(fleet).state is State.FAILED
    assert problem in batch_of(fleet).error
