"""Costs: the arithmetic, and the tables of docs/deploy.md, which are computed."""

import copy
import json
import math
import subprocess
import sys
from typing import Any

import pytest

from benchmarks.cost.model import (
    CALLS,
    PRICES,
    Job,
    Line,
    Prices,
    bytes_of_item,
    calls_of_a_row,
    load,
    rest_lines,
    run_lines,
    total,
)
from benchmarks.cost.tables import comparison, rest_table
from tests.documentation.documents import ROOT

DEPLOY = (ROOT / "docs" / "deploy.md").read_text("utf-8")
DOCUMENT: dict[str, Any] = load(PRICES)
MEASURED: list[dict[str, Any]] = load(CALLS)
PRICED = Prices(DOCUMENT)

RUN = {
    "seconds": 2.0,
    "log_bytes_a_row": 100,
    "metrics": 73,
    "calls": {
        "sqs_SendMessageBatch": 0.1,
        "sqs_ReceiveMessage": 0.2,
        "sqs_DeleteMessageBatch": 0.3,
        "dynamodb_TransactWriteItems": 0.5,
        "dynamodb_Query": 0.25,
    },
}
"""Figures with which sums are done by head."""


def prices(**usd: float) -> Prices:
    """Prices of one unit each: those given, and nothing for all else."""
    made = copy.deepcopy(DOCUMENT)
    for name, each in made["prices"].items():
        each.update(usd=usd.get(name, 0.0), per=1)
    return Prices(made)


def bill(job: Job, **usd: float) -> dict[str, float]:
    """The sums of a run's bill by item, those that are zero left out."""
    return {line.item: line.usd for line in run_lines(job, [RUN], prices(**usd)) if line.usd}


def test_requests_of_a_row() -> None:
    """All requests to the rows' queue are paid, and once more at the surcharge of fair queues."""
    job = Job(rows=1_000)
    assert bill(job, sqs_requests=1) == {"SQS": pytest.approx(600)}
    assert bill(job, sqs_fair_requests=1) == {"SQS, fair queue": pytest.approx(600)}


@pytest.mark.parametrize(("outcome_bytes", "units"), [(100, 2), (900, 4), (2_000, 6)])
def test_a_transaction_takes_two_units_for_each_kb(outcome_bytes: int, units: int) -> None:
    """Of a row's item, begun ones as well, and two units for the counter of each commit."""
    job = Job(rows=1_000, outcome_bytes=outcome_bytes)
    assert bill(job, dynamodb_write_units=1) == {"DynamoDB, writes": pytest.approx(1_000 * (units + 2 * 0.5))}


def test_reads_and_storage_of_the_table() -> None:
    """Two units for each check and one for each 4 KB; a GB is stored for seven days of a month."""
    job = Job(rows=1_000, outcome_bytes=5_000)
    size = bytes_of_item(5_000, job.input_bytes)
    reads = bill(job, dynamodb_read_units=1)["DynamoDB, reads"]
    assert reads == pytest.approx(1_000 * (2 * 0.25 + size / 4_096))
    stored = bill(job, dynamodb_gb_months=1, dynamodb_backup_gb_months=2)["DynamoDB, storage"]
    assert stored == pytest.approx(3 * 1_000 * size / 1e9 * 7 * 24 / 730)


def test_replies_are_put_once_for_each_commit() -> None:
    """A commit waits 2 s, in which 64 calls of 32 s end four times; and seven days of storage."""
    job = Job(rows=1_000, outcome_bytes=5_000, seconds=32)
    assert bill(job, s3_writes=1)["S3, kept replies"] == pytest.approx(200)
    fast = Job(rows=9_900, seconds=0.1)
    assert bill(fast, s3_writes=1)["S3, kept replies"] == pytest.approx(100)
    stored = bill(job, s3_gb_months=1)["S3, kept replies"]
    assert stored == pytest.approx(1_000 * 5_000 * 0.4 / 1e9 * 7 * 24 / 730)


def test_an_item_grows_with_its_values() -> None:
    """By as many bytes as they have; the rest is the same for every row."""
    assert bytes_of_item(2_024, 200) - bytes_of_item(1_024, 200) == 1_000
    assert bytes_of_item(1_024, 300) - bytes_of_item(1_024, 200) == 100
    assert 300 < bytes_of_item(1_024, 200) - 1_224 < 400


def test_workers_are_paid_for_the_time_of_their_calls() -> None:
    """64 calls at a time; the part on Spot costs its share of the price."""
    job = Job(rows=64 * 3_600, seconds=2, tasks=4, spot_percent=50)
    usd = {"fargate_arm_vcpu_hours": 2.0, "fargate_arm_gb_hours": 3.0, "fargate_spot_share": 0.5}
    assert bill(job, **usd)["workers, ARM"] == pytest.approx(2 * (0.5 * 2 + 3) * 0.75)
    assert bill(job, ipv4_hours=1) == {"their IPv4 addresses": 2, "control task, its address": 0.5}
    assert bill(job, metric_months=730) == {"metrics": pytest.approx(73 * 0.5)}
    assert bill(job, log_gb=1e9) == {"logs": pytest.approx(job.rows * 100)}


def test_calls_between_and_beyond_the_measured_times() -> None:
    """As measured at a measured time, in between on the logarithm, beyond as at the nearest."""
    runs = [
        {"seconds": 8.0, "calls": {"a": 0.3, "b": 0.1}},
        {"seconds": 2.0, "calls": {"a": 0.1}},
    ]
    assert calls_of_a_row(runs, 2) == calls_of_a_row(runs, 0.1) == {"a": 0.1}
    assert calls_of_a_row(runs, 8) == calls_of_a_row(runs, 900) == {"a": 0.3, "b": 0.1}
    assert calls_of_a_row(runs, 4) == {"a": pytest.approx(0.2), "b": pytest.approx(0.05)}


def test_every_price_has_a_source() -> None:
    """A price is positive, and says for what it is, and where it stands."""
    for name, each in DOCUMENT["prices"].items():
        assert each["usd"] > 0, name
        assert each["source"].startswith("https://aws.amazon.com/"), name
        assert each["of"], name


def test_every_price_is_used() -> None:
    """A change of each price changes a bill, apart from those of other networks and of x86."""
    bills = {name: bill_with(name) for name in DOCUMENT["prices"]}
    unused = {name for name, sums in bills.items() if sums == bill_with(None)}
    others = {"nat_hours", "nat_gb", "endpoint_hours", "fargate_x86_vcpu_hours", "fargate_x86_gb_hours"}
    assert unused == others


def bill_with(doubled: str | None) -> list[float]:
    """The sums of all bills, with one price doubled."""
    made = copy.deepcopy(DOCUMENT)
    if doubled is not None:
        made["prices"][doubled]["usd"] *= 2
    changed = Prices(made)
    bills: list[list[Line]] = [
        run_lines(Job(), MEASURED, changed),
        rest_lines("scaler", changed),
        rest_lines("alarms", changed),
    ]
    return [total(each) for each in bills]


def test_the_tables_of_the_document_are_computed() -> None:
    """docs/deploy.md has the tables that `make cost OPTIONS=--document` prints."""
    assert rest_table(PRICED) in DEPLOY
    assert comparison(Job(), MEASURED, PRICED) in DEPLOY


def test_the_figures_beside_the_tables() -> None:
    """Calls of a row, rows of a commit, and sums in the text are those of the files."""
    text = " ".join(DEPLOY.split())
    by_seconds = {run["seconds"]: run for run in MEASURED}
    short, long = by_seconds[2.0], by_seconds[30.0]
    assert (
        f"{short['calls_a_row']:.2f} calls of AWS a row with a mean of 2 s, {long['calls_a_row']:.2f}" in text
    )
    assert f"{short['rows_of_a_commit']:.0f} rows with 64 calls of 2 s in flight" in text
    assert f"{long['rows_of_a_commit']:.1f} with calls of 30 s" in text
    least = 2 * 1_024 - bytes_of_item(1_024, 200)
    assert f"up to about {math.floor(least / 10) * 10} bytes" in text
    small = total(run_lines(Job(outcome_bytes=least), MEASURED, PRICED))
    assert f"Then the sum of the first column is {small:.2f}" in text


def test_the_command_prints_a_bill() -> None:
    """`make cost` with options: the rows, and a sum for them."""
    command = [sys.executable, "-m", "benchmarks.cost", "--rows", "2000", "--seconds", "5", "--bytes", "300"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "2,000 rows, 5 s a call, 300 bytes" in done.stdout
    assert "| **together** |" in done.stdout


def test_another_file_of_prices(tmp_path: Any) -> None:
    """Twice the prices are twice the bill."""
    doubled = copy.deepcopy(DOCUMENT)
    for name, each in doubled["prices"].items():
        each["usd"] *= 1 if name == "fargate_spot_share" else 2
    path = tmp_path / "prices.json"
    path.write_text(json.dumps(doubled), "utf-8")
    twice, once = (total(run_lines(Job(), MEASURED, Prices(load(each)))) for each in (path, PRICES))
    assert twice == pytest.approx(2 * once)
