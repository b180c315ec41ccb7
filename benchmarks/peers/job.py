"""The job that every peer does: a row goes to the agent, its reply to a row of the result.

The environment has `AGENT_URL`, `REDIS_URL`, `CONCURRENCY`, `SOURCE` and `TARGET`.
"""

from __future__ import annotations

import csv
import json
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path

AGENT_URL = os.environ.get("AGENT_URL", "")
REDIS_URL = os.environ.get("REDIS_URL", "")
CONCURRENCY = int(os.environ.get("CONCURRENCY", "100"))
WARM_UP = [{"id": "0", "text": "warm-up"}] * CONCURRENCY
"""Rows before the clock starts: connections are open then, and the worker has begun."""

Row = dict[str, str]
COLUMNS = ("id", "text", "answer")


def read_rows() -> list[Row]:
    """The rows of the source."""
    with Path(os.environ["SOURCE"]).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write_rows(rows: Iterable[Row]) -> None:
    """Write the result."""
    with Path(os.environ["TARGET"]).open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def report(started: float) -> None:
    """Tell the benchmark how long the job took."""
    json.dump({"seconds": time.monotonic() - started}, sys.stdout)
