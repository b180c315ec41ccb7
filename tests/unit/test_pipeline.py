"""Splitter, workers and aggregators together, over queues that misbehave as SQS may."""

import asyncio
import csv
import io
import json
import random

import pytest

from service.adapters.memory import MemoryQueue, MemoryTable
from service.domain.errors import (
    AgentRejectedError,
    AgentThrottledError,
    AgentUnavailableError,
    ConflictError,
    ThrottledError,
    UnknownResultError,
    UnreachableError,
)
from service.domain.model import Status

MAPPING = """
target: {type: tool, name: demo, invoke: python, function: "demo:ask"}
input_mapping: {column_mappings: {city: name}, transforms: {city: [trim, upper]}}
output_mapping:
  type: tool
  extraction_methods: [{method: direct, field_mappings: {answer: $.answer, size: $.size}}]
execution: {max_concurrency: 7, timeout_seconds: 10,
            retry_policy: {max_attempts: 4, base_seconds: 0.001, cap_seconds: 0.002}}
"""
ROWS = 200


class UnreliableQueue(MemoryQueue):
    """Delivers some messages twice, refuses some entries, loses some deletes and fails some receives."""

    def __init__(self, name, lab, rng) -> None:
        super().__init__(name, lab.clock, dead_letters=lab.dead[name], max_receives=30)
        self.rng = rng
        self.duplicates = self.lost_deletes = 0

    async def send(self, messages):
        """Send, some twice."""
        if self.rng.random() < 0.02:
            raise ThrottledError("slow down")
        refused = [index for index in range(len(messages)) if self.rng.random() < 0.05]
        sent = [message for index, message in enumerate(messages) if index not in refused]
        await super().send(sent)
        twice = [message for message in sent if self.rng.random() < 0.2]
        self.duplicates += len(twice)
        if twice and sum(len(message.body) for message in twice) < 100_000:
            await super().send(twice)
        return refused

    async def receive(self, limit, *, wait_s, visibility_s):
        """Receive, in any order."""
        messages = list(await super().receive(limit, wait_s=wait_s, visibility_s=visibility_s))
        self.rng.shuffle(messages)
        return messages

    async def delete(self, receipts):
        """Delete, or lose the request."""
        if self.rng.random() < 0.1:
            self.lost_deletes += len(receipts)
            raise UnreachableError("reset by peer")
        return await super().delete(receipts)


class UnreliableTable(MemoryTable):
    """Conflicts now and then, and loses answers of commits that were applied."""

    def __init__(self, rng) -> None:
        super().__init__()
        self.rng = rng

    async def commit(self, commit):
        """Commit, raise a conflict before, or lose the answer after."""
        if self.rng.random() < 0.1:
            raise ConflictError("conflict")
        taken = await super().commit(commit)
        if self.rng.random() < 0.1:
            raise UnknownResultError("no answer")
        return taken


def source(rng) -> str:
    """A file with quotes, line breaks, commas, umlauts, ragged and empty rows."""
    lines = ["id,name,note"]
    for n in range(1, ROWS + 1):
        note = rng.choice(["", "plain", '"with, comma"', '"two\nlines"', '"say ""hi"""', "Grüße", "=1+1"])
        lines.append(f"{n}" if n % 97 == 0 else f"{n}, city {n % 13} ,{note}")
    return "\n".join(lines)


def expected(text) -> list[list[str]]:
    """The expected cells, fields, status and error kind of each row, computed independently."""
    found = []
    for cells in list(csv.reader(io.StringIO(text, newline="")))[1:]:
        number = int(cells[0])
        if len(cells) != 3:
            found.append([cells[0], "", "", "", "", "FAILED", "BadRecordError"])
        elif number % 10 == 3:
            found.append([*cells, "", "", "FAILED", "AgentRejectedError"])
        elif number % 50 == 8:
            found.append([*cells, "", "", "FAILED", "AgentUnavailableError"])
        else:
            city = cells[1].strip().upper()
            found.append([*cells, f"{number}:{city}", str(len(city)), "SUCCESS", ""])
    return found


def throttling():
    """An agent's script that throttles some rows at their first call."""
    throttled = set()

    async def ask(invocation):
        number = int(invocation.id.rsplit("/", 1)[1])
        if number % 83 == 0 and number not in throttled:
            throttled.add(number)
            return AgentThrottledError("later", retry_after_s=1)
        return await answer(invocation)

    return ask


async def answer(invocation):
    number = int(invocation.id.rsplit("/", 1)[1])
    await asyncio.sleep(0)
    if number % 10 == 3:
        return AgentRejectedError(f"row {number} is refused")
    if number % 50 == 8:
        return AgentUnavailableError("down")
    if number % 7 == 0 and invocation.attempt < 3:
        return AgentUnavailableError("a moment")
    city = invocation.body["city"]
    return {"answer": f"{number}:{city}", "size": len(city)}


def is_final(lab) -> bool:
    """True if the batch has ended."""
    return lab.table._batches["demo#e1"].state.is_final


@pytest.mark.parametrize("seed", range(3))
async def test_every_row_comes_out_once_in_order(make_lab, scripted, define, seed):
    """With three workers, duplicates and faults the output of 200 rows equals that of a plain script."""
    rng = random.Random(seed)
    lab = make_lab(table=UnreliableTable(rng))
    lab.definitions["demo"] = define(MAPPING)
    lab.agent = scripted(throttling())
    lab.ingest, lab.rows, lab.aggregate = (
        UnreliableQueue(n, lab, rng) for n in ("ingest", "rows", "aggregate")
    )
    text = source(rng)
    await lab.put(text)
    limits = {"visibility_s": 0.6, "poll_wait_s": 0.05, "max_running": 16}
    async with lab.committer(slot=1) as one, lab.committer(slot=2) as two, lab.committer(slot=3) as three:
        workers = [lab.worker(s, name=f"w{n}", inline_wait_s=0.5) for n, s in enumerate((one, two, three))]
        consumers = [
            lab.consumer(lab.ingest, lab.splitter(partition_bytes=4_000).handle, **limits),
            *(lab.consumer(lab.rows, worker.handle, **limits, pollers=2) for worker in workers),
            *(lab.consumer(lab.aggregate, lab.aggregator(60).handle, **limits) for _ in range(2)),
        ]
        async with lab.consuming(*consumers):
            await lab.send(lab.ingest, lab.job(), lab.job())
            # a second trigger may wait in the aggregate queue for the end of the first one's lease
            await lab.until(
                lambda: not (lab.ingest._entries or lab.rows._entries) and is_final(lab), step_s=0.05
            )
    view = await lab.view()
    wanted = expected(text)
    output = lab.objects.stored["out", "results/demo/e1/output.csv"].body.decode()
    header, *rows = csv.reader(io.StringIO(output, newline=""))
    assert header[:5] == ["input_id", "input_name", "input_note", "output_answer", "output_size"]
    assert [[*row[:5], row[6], row[-1].split(":")[0]] for row in rows] == wanted
    failed = sum(row[5] == "FAILED" for row in wanted)
    assert (view.counts.succeeded, view.counts.failed, view.batch.total) == (ROWS - failed, failed, ROWS)
    manifest = json.loads(lab.objects.stored["out", "results/demo/e1/manifest.json"].body)
    assert (manifest["succeeded"], manifest["failed"], manifest["total"]) == (ROWS - failed, failed, ROWS)
    outcomes = await lab.outcomes(view.batch)
    assert {n for n, outcome in outcomes.items() if outcome.status is Status.FAILED} == {
        int(row[0]) for row in wanted if row[5] == "FAILED"
    }
    assert view.batch.partitions > 1
    assert lab.rows.duplicates > 20, "the queue did deliver twice"
    assert lab.rows.lost_deletes > 0
    assert not any(queue._entries for queue in lab.dead.values())
