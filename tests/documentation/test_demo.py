"""`make demo`: the script runs to its end, and shows each part of the service."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.verify
def test_the_demo_follows_a_file_through_the_service() -> None:
    """Processes, queues, table, objects and rows; all processes end with it."""
    done = subprocess.run(
        [sys.executable, "examples/demo.py"], cwd=ROOT, check=False, text=True, capture_output=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    for text in (
        "rowfleet serve --roles aggregator,sweeper", "aws s3 cp examples/airports/cities.csv", "SPLITTING",
        "2,383     19  COMPLETED_WITH_ERRORS", "/output.csv", "/manifest.json", "2,383 SUCCESS, 19 FAILED",
        "rowfleet-rows-dlq 0", "Shanghai Hongqiao International", "2,402 rows, of which 19 failed",
        "rowfleet run FILE.csv --mapping NAME",
    ):  # fmt: skip
        assert text in done.stdout, text
    with (ROOT / "demo-output" / "cities.csv").open(encoding="utf-8", newline="") as file:
        assert sum(1 for _ in csv.DictReader(file)) == 2_402
    for name in ("splitter", "worker-1", "worker-2", "aggregator"):
        assert "service_stopped" in (ROOT / "demo-output" / "logs" / f"{name}.log").read_text("utf-8")
