"""Checks that a chaos run lost, doubled and changed nothing, against the input and against a quiet run."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import threading
import time
from collections.abc import Callable
from typing import Any

from tests.acceptance.support import Deployment, table
from tests.chaos.agent import answer
from tests.chaos.plan import Job

_TIMED = re.compile(rb",(SUCCESS|FAILED),\d+,\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z,")

QUEUES = ("ingest", "rows", "aggregate")
TIMES = ("_execution_time_ms", "_timestamp")
"""Columns of output.csv with time and duration of a row, which differ from run to run."""

_MANIFEST_TIMES = ("started_at", "last_outcome_at", "agent_ms", "operations")
_FILE_TIMES = ("bytes", "sha256")
"""They follow from the columns above. `check_batch` compares them with the files."""

Files = dict[str, bytes]

EMPTY_S = 330.0
"""Limit for the queues to become empty: a job that failed again and again comes after five minutes."""

_TICK = threading.Event()


def within(seconds: float, condition: Callable[[], bool], what: str) -> None:
    """Wait until the condition holds; fail with `what` after so many seconds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds:g} s: {what}"
        _TICK.wait(0.05)


def results(deployment: Deployment, job: Job) -> Files:
    """All result files of a batch, by name; those of later rounds with their folder."""
    prefix = job.results
    listed = deployment.s3.list_objects_v2(Bucket=deployment.names.bucket, Prefix=prefix)
    keys = [entry["Key"] for entry in listed.get("Contents", ())]
    return {key.removeprefix(prefix): deployment.get(f"s3://{deployment.names.bucket}/{key}") for key in keys}


def check_batch(deployment: Deployment, job: Job, files: Files) -> None:
    """Check rows against the input, counters and items exactly, and the manifest against the files."""
    rows = list(csv.DictReader(io.StringIO(job.content, newline="")))
    replies = [answer(row, is_first=False) for row in rows]
    failed = sum(status != 200 for status, _ in replies)
    state = "COMPLETED_WITH_ERRORS" if failed else "SUCCEEDED"
    assert deployment.state(job.batch_id) == state, job
    assert deployment.counted(job.batch_id) == (len(rows) - failed, failed), job
    numbers = sorted(int(item["row_id"]["S"].removeprefix("row_")) for item in row_items(deployment, job))
    assert numbers == list(range(1, len(rows) + 1)), f"{job.batch_id}: items in the table"

    expected_files = {"output.csv", "manifest.json", "latest.json", *(["failures.csv"] if failed else [])}
    assert set(files) == expected_files, job
    output = table(files["output.csv"])
    assert len(output) == len(rows), f"{job.batch_id}: {len(output)} of {len(rows)} rows"
    for row, (status, reply), got in zip(rows, replies, output, strict=True):
        assert got["input_n"] == row["n"], f"{job.batch_id}: out of order at {row['n']}"
        assert got["_status"] == ("SUCCESS" if status == 200 else "FAILED"), got
        expected = reply["category"] if isinstance(reply, dict) and status == 200 else ""
        assert got["output_category"] == expected, got
    if failed:
        refused = [row["n"] for row, (status, _) in zip(rows, replies, strict=True) if status != 200]
        assert [row["n"] for row in table(files["failures.csv"])] == refused
    manifest = json.loads(files["manifest.json"])
    assert (manifest["total"], manifest["succeeded"], manifest["failed"]) == (
        len(rows), len(rows) - failed, failed,
    )  # fmt: skip
    for file in manifest["files"]:
        data = files[file["name"]]
        assert (file["bytes"], file["sha256"]) == (len(data), hashlib.sha256(data).hexdigest()), file


def check_same(job: Job, chaotic: Files, quiet: Files) -> None:
    """Compare results byte by byte, except for times."""
    assert set(chaotic) == set(quiet), job.batch_id
    for name, data in chaotic.items():
        assert timeless(name, data) == timeless(name, quiet[name]), f"{job.batch_id}: {name} differs"


def timeless(name: str, data: bytes) -> bytes:
    """A result file without times and durations."""
    if name == "output.csv":
        return _without_columns(data)
    if name == "manifest.json":
        return _without_times(json.loads(data))
    if name == "latest.json":
        return json.dumps(json.loads(data) | {"incarnation": ""}).encode()
    return data


def check_nothing_left(deployment: Deployment) -> int:
    """Check that queues become empty, without dead letters. Return the number of unfinished uploads.

    A CreateMultipartUpload whose answer is lost leaves an upload that no process knows, as on AWS. The
    bucket's lifecycle rule removes it.
    """

    def waiting() -> int:
        return sum(_depth(deployment, role) for role in QUEUES)

    within(EMPTY_S, lambda: waiting() == 0, "empty queues")
    for role in QUEUES:
        assert _depth(deployment, f"{role}-dlq") == 0, f"dead letters of {role}"
    return len(deployment.s3.list_multipart_uploads(Bucket=deployment.names.bucket).get("Uploads", []))


def row_items(deployment: Deployment, job: Job) -> list[dict[str, Any]]:
    """The items of all rows of a batch, from all its partitions."""
    partitions = int(deployment.item(job.batch_id)["partitions"]["N"])
    names = [job.batch_id, *(f"{job.batch_id}#{number}" for number in range(1, partitions))]
    items = (item for name in names for item in deployment.items(name))
    return [item for item in items if item["row_id"]["S"].startswith("row_")]


def _depth(deployment: Deployment, role: str) -> int:
    names = [f"ApproximateNumberOfMessages{kind}" for kind in ("", "NotVisible", "Delayed")]
    answer_ = deployment.sqs.get_queue_attributes(QueueUrl=deployment.queue(role), AttributeNames=names)
    return sum(int(value) for value in answer_["Attributes"].values())


def _without_columns(data: bytes) -> bytes:
    """The same bytes with the cells of `TIMES` emptied, which stand between `_status` and `_error`."""
    kept, emptied = _TIMED.subn(rb",\1,,,", data)
    assert emptied == len(table(data)), f"{emptied} rows with times, {len(table(data))} rows"
    return kept


def _without_times(manifest: dict[str, Any]) -> bytes:
    kept = {name: value for name, value in manifest.items() if name not in _MANIFEST_TIMES}
    kept["files"] = [
        file | dict.fromkeys(_FILE_TIMES) if file["name"] == "output.csv" else file
        for file in manifest["files"]
    ]
    return json.dumps(kept).encode()
