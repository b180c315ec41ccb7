"""Celery: a queue and results in Redis, one worker process with a thread for each row in flight."""

from __future__ import annotations

import threading
import time

import job
import requests
from celery import Celery, group

app = Celery("celery_job", broker=job.REDIS_URL, backend=job.REDIS_URL)
app.conf.update(
    task_ignore_result=False,
    worker_prefetch_multiplier=4,
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
)
local = threading.local()


@app.task(name="answered")
def answered(row: job.Row) -> job.Row:
    """The row with its answer."""
    if not hasattr(local, "session"):
        local.session = requests.Session()
    response = local.session.post(job.AGENT_URL, json=row, timeout=60)
    response.raise_for_status()
    return {**row, "answer": response.json()["answer"]}


def results_of(rows: list[job.Row]) -> list[job.Row]:
    """Send the rows as a group and take its results."""
    found: list[job.Row] = group(map(answered.s, rows)).apply_async().join_native()
    return found


if __name__ == "__main__":
    results_of(job.WARM_UP)
    started = time.monotonic()
    job.write_rows(results_of(job.read_rows()))
    job.report(started)
