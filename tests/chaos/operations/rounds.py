"""Checks of a batch that was operated on, against its input: its files, items and log, and its calls."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tests.acceptance.support import Deployment, table
from tests.chaos.agent import Call, answer
from tests.chaos.plan import Job
from tests.chaos.verdict import Files, row_items

OK = 200
LATEST = "latest.json"
CANCELLED = "CancelledError"


@dataclass
class Stands:
    """A batch as it stands at the end: its item, the log of its operations, and its result files by name."""

    job: Job
    item: dict[str, Any]
    log: list[dict[str, Any]]
    files: Files
    rows: list[dict[str, str]] = field(init=False)

    def __post_init__(self) -> None:
        self.rows = list(csv.DictReader(io.StringIO(self.job.content, newline="")))

    @classmethod
    def read(cls, deployment: Deployment, job: Job, files: Files) -> Stands:
        """Read the batch from the table."""
        item = deployment.item(job.batch_id)
        prefix = f"op#{item['incarnation']['S']}#"
        log = [entry for entry in deployment.items(job.batch_id) if entry["row_id"]["S"].startswith(prefix)]
        return cls(job, item, log, files)

    def number(self, name: str) -> int:
        """A number of the batch item; 0 without one."""
        return int(self.item.get(name, {"N": "0"})["N"])

    @property
    def round(self) -> int:
        """The number of the last round."""
        return self.number("round")

    @property
    def was_operated_on(self) -> bool:
        """True if an operation has changed it."""
        return self.number("control") > 0

    @property
    def ops(self) -> set[str]:
        """The names of the operations that changed it."""
        return {entry["op"]["S"] for entry in self.log if int(entry["control"]["N"])}

    def file(self, name: str) -> bytes:
        """A file of the last round."""
        folder = f"round-{self.round:03d}/" if self.round > 1 else ""
        assert folder + name in self.files, f"{self.job.batch_id}: no {folder}{name} in {sorted(self.files)}"
        return self.files[folder + name]


def check_operated(deployment: Deployment, stands: Stands, calls: Iterable[Call]) -> None:
    """Check a batch against its input: its log, rows, counters, items, files, and the calls of its rows."""
    job = stands.job
    _check_log(stands)
    total, unread_from = stands.number("total"), stands.number("unread_from")
    expected = unread_from - 1 if unread_from else len(stands.rows)
    assert total == expected, f"{job.batch_id}: {total} rows, {expected} expected, unread from {unread_from}"
    output = table(stands.file("output.csv"))
    rounds = _check_rows(stands, output, total)
    _check_state(stands, output)
    _check_counters(deployment, stands, output, rounds)
    _check_files(stands, output)
    _check_calls(stands, rounds, output, calls)


def _check_log(stands: Stands) -> None:
    """Every change of the batch has an entry, and each number is given once."""
    controls = sorted(int(entry["control"]["N"]) for entry in stands.log)
    made = [control for control in controls if control]
    assert made == list(range(1, stands.number("control") + 1)), f"{stands.job.batch_id}: log {made}"


def _check_rows(stands: Stands, output: list[dict[str, str]], total: int) -> dict[int, int]:
    """Every row once, in order, with the reply that its round gives. Return the round of each row."""
    name = stands.job.batch_id
    assert [row["_row"] for row in output] == [str(n) for n in range(1, total + 1)], f"{name}: rows of output"
    rounds = {}
    for row, got in zip(stands.rows, output, strict=False):
        number = int(got["_row"])
        round_ = rounds[number] = int(got.get("_round") or 1)
        status, reply = answer(row, is_first=False, round_=round_)
        assert got["input_n"] == row["n"], f"{name}: row {number} has the cells of another"
        if got["_status"] == "SUCCESS":
            assert status == OK, f"{name}: row {number} was refused in round {round_}: {got}"
            assert isinstance(reply, dict)
            assert got["output_category"] == reply["category"], f"{name}: {got}"
        elif got["_error"].startswith(CANCELLED):
            assert "cancel" in stands.ops, f"{name}: nobody has cancelled it: {got}"
        else:
            assert status != OK, f"{name}: row {number} failed in round {round_}: {got}"
            assert "is not for me" in got["_error"], f"{name}: {got}"
    return rounds


def _check_state(stands: Stands, output: list[dict[str, str]]) -> None:
    errors = [row["_error"] for row in output if row["_status"] == "FAILED"]
    expected = "COMPLETED_WITH_ERRORS" if errors else "SUCCEEDED"
    if stands.number("unread_from") or any(error.startswith(CANCELLED) for error in errors):
        expected = "CANCELLED"
    state = stands.item["state"]["S"]
    assert state == expected, f"{stands.job.batch_id}: it is {state}, its rows make it {expected}"


def _check_counters(
    deployment: Deployment, stands: Stands, output: list[dict[str, str]], rounds: dict[int, int]
) -> None:
    """Counters, carried ones and those of the round, and the items of the rows, equal the files."""
    name, round_ = stands.job.batch_id, stands.round
    counted: Counter[str] = Counter()
    for item in deployment.items(name):
        if item["row_id"]["S"].startswith(f"#count#{round_:03d}#"):
            counted.update({key: int(item.get(key, {"N": "0"})["N"]) for key in ("succeeded", "failed")})
    for key, value in stands.item.get("carried", {"M": {}})["M"].items():
        if key in {"succeeded", "failed"}:
            counted[key] += int(value["N"])
    statuses = Counter(row["_status"] for row in output)
    told = (counted["succeeded"], counted["failed"])
    assert told == (statuses["SUCCESS"], statuses["FAILED"]), f"{name}: counters {told}, rows {statuses}"
    items = {
        int(item["row_id"]["S"].removeprefix("row_")): item for item in row_items(deployment, stands.job)
    }
    assert sorted(items) == sorted(rounds), f"{name}: items in the table"
    for number, item in items.items():
        assert int(item["round"]["N"]) == rounds[number], f"{name}: round of row {number}"


def _check_files(stands: Stands, output: list[dict[str, str]]) -> None:
    name = stands.job.batch_id
    failed = [row["_row"] for row in output if row["_status"] == "FAILED"]
    if failed:
        assert [row["_row"] for row in table(stands.file("failures.csv"))] == failed, f"{name}: failures.csv"
    manifest = json.loads(stands.file("manifest.json"))
    told = (manifest["total"], manifest["succeeded"], manifest["failed"])
    assert told == (len(output), len(output) - len(failed), len(failed)), f"{name}: manifest {told}"
    for file in manifest["files"]:
        data = stands.file(file["name"])
        assert (file["bytes"], file["sha256"]) == (len(data), hashlib.sha256(data).hexdigest()), file
    latest = json.loads(stands.files[LATEST])
    assert latest["round"] == stands.round, f"{name}: {latest} in round {stands.round}"
    place = stands.job.results + (f"round-{stands.round:03d}/" if stands.round > 1 else "")
    assert latest["output"].endswith(f"/{place}output.csv"), latest


def _check_calls(
    stands: Stands, rounds: dict[int, int], output: list[dict[str, str]], calls: Iterable[Call]
) -> None:
    """No row was called in a round after the one that its outcome is from; who has a reply was called."""
    name = stands.job.batch_id
    called = {(call.round, call.number) for call in calls if call.batch_id == name}
    later = [(round_, number) for round_, number in called if round_ > rounds.get(number, 0)]
    assert not later, f"{name}: called although they keep an older outcome: {sorted(later)[:20]}"
    for row in output:
        if not row["_error"].startswith(CANCELLED):
            number = int(row["_row"])
            assert (rounds[number], number) in called, f"{name}: row {number} was never called: {row}"
