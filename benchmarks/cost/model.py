"""Costs of a run and of a deployment at rest, from measured calls, sizes and prices.

Pure apart from `load`. All sums are US dollars. The agent itself is in no sum.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.adapters.aws.table.row_items import row_items
from service.adapters.aws.table.values import item_bytes
from service.domain.model import Commit, Outcome, PackedReply, Status
from service.domain.ports import COMMIT_LIMIT

PRICES = Path(__file__).with_name("prices.json")
CALLS = Path(__file__).with_name("calls.json")

HOURS = 730
"""Of a month."""

MINUTES = HOURS * 60
GB = 1e9
KB = 1_024

ROW_CALLS = (
    "sqs_SendMessageBatch",
    "sqs_ReceiveMessage",
    "sqs_DeleteMessageBatch",
    "sqs_ChangeMessageVisibilityBatch",
)
"""The requests to SQS that a row takes part in."""

WORKER = {"vcpu": 0.5, "gb": 1.0, "in_flight": 64}
"""A worker task of the module's defaults, and `worker.max_inflight_rows`."""

CONTROL = {"vcpu": 0.25, "gb": 0.5}
"""The task that plays splitter, aggregator and sweeper."""

TTL_DAYS = 7
"""The module's default of `ttl_days`."""

IMAGES_GB = 0.4
"""A few images of 80 MB each, compressed."""


@dataclass(frozen=True, slots=True)
class Job:
    """A run: rows, mean seconds of a call, bytes of the extracted fields and of the input row as JSON."""

    rows: int = 1_000_000
    seconds: float = 2.0
    outcome_bytes: int = KB
    input_bytes: int = 200
    tasks: int = 10
    spot_percent: float = 70.0


@dataclass(frozen=True, slots=True)
class Line:
    """One item of a bill: the text of its calculation, and the sum."""

    item: str
    calculation: str
    usd: float


class Prices:
    """Prices by name, as in prices.json."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.region = str(document["region"])
        self.as_of = str(document["as_of"])
        self._usd = {name: float(each["usd"]) / each["per"] for name, each in document["prices"].items()}

    def of(self, name: str, amount: float = 1.0) -> float:
        """The price of an amount. Raises KeyError."""
        return self._usd[name] * amount


def load(path: Path) -> Any:
    """The JSON of a file. Raises OSError and ValueError."""
    return json.loads(path.read_text("utf-8"))


def calls_of_a_row(measured: Sequence[Mapping[str, Any]], seconds: float) -> dict[str, float]:
    """Calls of each kind for a row whose agent takes `seconds`.

    Between two measured times the counts are interpolated on the logarithm of the time; outside of them the
    nearest is taken.
    """
    runs = sorted(measured, key=lambda run: float(run["seconds"]))
    after = next((run for run in runs if run["seconds"] >= seconds), runs[-1])
    before = next((run for run in reversed(runs) if run["seconds"] <= seconds), runs[0])
    share = 0.0
    if before["seconds"] < after["seconds"]:
        share = math.log(seconds / before["seconds"]) / math.log(after["seconds"] / before["seconds"])
    one, other = before["calls"], after["calls"]
    return {
        name: one.get(name, 0.0) * (1 - share) + other.get(name, 0.0) * share
        for name in sorted({*one, *other})
    }


def bytes_of_item(outcome_bytes: int, input_bytes: int) -> int:
    """Size of the table's item of a row, as the service writes it."""
    outcome = Outcome(
        number=1_000_000,
        round=1,
        status=Status.SUCCESS,
        input_data=_filled(input_bytes),
        output_data=_filled(outcome_bytes),
        execution_time_ms=2_000,
        timestamp="2026-11-30T12:00:00.000Z",
        worker="0123456789abcdef",
        reply_at=PackedReply("0123456789abcdef", 20_000, 50_000, outcome_bytes, "0" * 43),
    )
    commit = Commit(
        batch_id="my-agent#2026-11-30T12-00-00Z-0123456789",
        round=1,
        partitions=64,
        slot=1,
        outcomes=(outcome,),
        token="0" * 36,
        ttl=1_800_000_000,
        incarnation="2026-11-30T12:00:00.000Z-0123456789",
    )
    return item_bytes(row_items(commit)[0])


def _filled(length: int) -> dict[str, Any]:
    """An object that has `length` bytes as JSON."""
    frame = len('{"text":""}')
    return {"text": "x" * max(0, length - frame)}


def run_lines(job: Job, measured: Sequence[Mapping[str, Any]], prices: Prices) -> list[Line]:
    """The bill of one run."""
    calls = calls_of_a_row(measured, job.seconds)
    size = bytes_of_item(job.outcome_bytes, job.input_bytes)
    logged = max(float(run["log_bytes_a_row"]) for run in measured)
    return [
        *_queue_lines(job, calls, prices),
        *_table_lines(job, calls, size, prices),
        *_task_lines(job, max(int(run["metrics"]) for run in measured), prices),
        Line("logs", f"{logged:.0f} bytes a row", prices.of("log_gb", job.rows * logged / GB)),
        _object_line(job, prices),
        _pack_line(job, calls, prices),
    ]


def _queue_lines(job: Job, calls: Mapping[str, float], prices: Prices) -> list[Line]:
    requests = sum(calls.get(name, 0.0) for name in ROW_CALLS)
    text = f"{requests:.2f} requests a row: sent, received, deleted, extended"
    return [
        Line("SQS", text, prices.of("sqs_requests", job.rows * requests)),
        Line("SQS, fair queue", "the same", prices.of("sqs_fair_requests", job.rows * requests)),
    ]


def _table_lines(job: Job, calls: Mapping[str, float], size: int, prices: Prices) -> list[Line]:
    commits, checks = calls["dynamodb_TransactWriteItems"], calls["dynamodb_Query"]
    # A transaction takes two units for each KB of a row, and two for its counter.
    writes = 2 * math.ceil(size / KB) + 2 * commits
    # A check reads the batch and its counters, up to 8 KB; a row that came again is looked up; the aggregator
    # reads every row.
    reads = 2 * checks + calls.get("dynamodb_GetItem", 0.0) + size / (4 * KB)
    stored = job.rows * size / GB * TTL_DAYS * 24 / HOURS
    return [
        Line(
            "DynamoDB, writes",
            f"{writes:.2f} units a row: an item of {size:,} bytes, {1 / commits:.1f} rows a commit",
            prices.of("dynamodb_write_units", job.rows * writes),
        ),
        Line(
            "DynamoDB, reads",
            f"{reads:.2f} units a row",
            prices.of("dynamodb_read_units", job.rows * reads),
        ),
        Line(
            "DynamoDB, storage",
            f"{TTL_DAYS} days, with point-in-time recovery",
            prices.of("dynamodb_gb_months", stored) + prices.of("dynamodb_backup_gb_months", stored),
        ),
    ]


def task_price(size: Mapping[str, float], prices: Prices, architecture: str = "arm") -> float:
    """The price of a task for an hour, on demand."""
    return prices.of(f"fargate_{architecture}_vcpu_hours", size["vcpu"]) + prices.of(
        f"fargate_{architecture}_gb_hours", size["gb"]
    )


def _task_lines(job: Job, metrics: int, prices: Prices) -> list[Line]:
    hours = job.rows * job.seconds / WORKER["in_flight"] / 3_600
    spot = job.spot_percent / 100
    share = 1 - spot + spot * prices.of("fargate_spot_share")
    together = hours / job.tasks
    control = task_price(CONTROL, prices) + prices.of("ipv4_hours")
    return [
        Line(
            "workers, ARM",
            f"{hours:.1f} hours of 0.5 vCPU and 1 GB, {job.spot_percent:g} % Spot",
            hours * task_price(WORKER, prices) * share,
        ),
        Line("their IPv4 addresses", 'network = "public"', prices.of("ipv4_hours", hours)),
        Line(
            "control task, its address",
            f"{together:.1f} hours, with {job.tasks} workers",
            together * control,
        ),
        Line(
            "metrics",
            f"{metrics} of them for {together:.1f} hours",
            prices.of("metric_months", metrics * together / HOURS),
        ),
    ]


def _object_line(job: Job, prices: Prices) -> Line:
    # source and result, kept for a month; both in parts of 8 MiB
    stored = job.rows * (2 * job.input_bytes + job.outcome_bytes)
    parts = stored / (8 * 2**20)
    usd = (
        prices.of("s3_gb_months", stored / GB) + prices.of("s3_writes", parts) + prices.of("s3_reads", parts)
    )
    return Line("S3", "source and result, a month", usd)


REPLY_LINGER_S = 2.0
"""The default of `commit.reply_linger_s`."""

PACKED_SHARE = 0.4
"""Bytes of a pack for each byte of its replies, as JSON of their own kind compresses."""


def _pack_line(job: Job, calls: Mapping[str, float], prices: Prices) -> Line:
    # As if a reply were as long as the fields. With replies a commit waits longer for other rows than in the
    # measured runs, whose replies were too short for a pack.
    rows = 1 / calls["dynamodb_TransactWriteItems"]
    while_waiting = 1 + WORKER["in_flight"] / job.seconds * REPLY_LINGER_S
    packs = job.rows / min(COMMIT_LIMIT, max(rows, while_waiting))
    stored = job.rows * job.outcome_bytes * PACKED_SHARE / GB * TTL_DAYS * 24 / HOURS
    usd = prices.of("s3_writes", packs) + prices.of("s3_gb_months", stored)
    return Line("S3, kept replies", f"packs of {job.rows / packs:.0f} rows, {TTL_DAYS} days", usd)


ALARM_METRICS = {"scaler": 27, "alarms": 34}
"""Metrics in the alarms of the module's defaults; with "alarms" twelve of them scale the workers."""

IDLE_METRICS = 8
"""Custom metrics that a control task without work sends."""

SCALER_S = 0.3
"""An invocation of the scaler with 256 MB at rest: six calls of SQS, seven of DynamoDB, one of ECS.

An estimate: 20 ms of CPU time (measured) and 5 for TLS, at a seventh of a core, and round trips of 0.1 s."""

SCALER_READS = 4
"""Read units of an invocation at rest: a half for each of four states of batches and two kinds of records
of the outbox, and one for what it keeps."""

SCALER_LOG_BYTES = 400
"""Lambda's three lines of an invocation. The scaler writes none at rest."""


def rest_lines(scaling: str, prices: Prices) -> list[Line]:
    """The bill of a month without a run. `scaling` is scaler or alarms. Raises KeyError."""
    lines = {"scaler": _scaler_lines, "alarms": _control_lines}[scaling](prices)
    return [
        *lines,
        Line(
            "alarms",
            " or ".join(f"{metrics}" for metrics in ALARM_METRICS.values()) + " metrics",
            prices.of("alarm_metric_months", ALARM_METRICS[scaling]),
        ),
        Line("images", f"{IMAGES_GB} GB", prices.of("ecr_gb_months", IMAGES_GB)),
    ]


def _scaler_lines(prices: Prices) -> list[Line]:
    return [
        Line(
            "Lambda, once a minute",
            f"{MINUTES:,} times {SCALER_S} s with 0.25 GB",
            prices.of("lambda_requests", MINUTES)
            + prices.of("lambda_arm_gb_seconds", MINUTES * SCALER_S * 0.25),
        ),
        Line("its calls of SQS", f"6 queues: {6 * MINUTES:,}", prices.of("sqs_requests", 6 * MINUTES)),
        Line(
            "its reads of DynamoDB",
            f"{SCALER_READS} units: {SCALER_READS * MINUTES:,}",
            prices.of("dynamodb_read_units", SCALER_READS * MINUTES),
        ),
        Line("its logs", f"{SCALER_LOG_BYTES} bytes", prices.of("log_gb", MINUTES * SCALER_LOG_BYTES / GB)),
    ]


def _control_lines(prices: Prices) -> list[Line]:
    # Two queues with a long poll of 20 s each, by two pollers; once a minute three dead-letter queues.
    polls = (2 * 2 * 3 + 3) * MINUTES
    listings = 2 * 2 * MINUTES
    return [
        Line("control task, ARM", "0.25 vCPU and 0.5 GB", HOURS * task_price(CONTROL, prices)),
        Line("its IPv4 address", 'network = "public"', prices.of("ipv4_hours", HOURS)),
        Line("its metrics", f"{IDLE_METRICS}", prices.of("metric_months", IDLE_METRICS)),
        Line("long polls", f"{polls / 1e6:.1f} million", prices.of("sqs_requests", polls)),
        Line(
            "looks at mappings and schemas",
            f"2 folders, 2 a minute: {listings:,}",
            prices.of("s3_writes", listings),
        ),
    ]


def total(lines: Sequence[Line]) -> float:
    """The sum of a bill."""
    return sum(line.usd for line in lines)
