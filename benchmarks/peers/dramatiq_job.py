"""Dramatiq: a queue and results in Redis, one worker process with a thread for each row in flight."""

from __future__ import annotations

import threading
import time

import dramatiq
import job
import requests
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

broker = RedisBroker(url=job.REDIS_URL)
broker.add_middleware(Results(backend=RedisBackend(url=job.REDIS_URL)))
dramatiq.set_broker(broker)
local = threading.local()


@dramatiq.actor(store_results=True)
def answered(row: job.Row) -> job.Row:
    """The row with its answer."""
    if not hasattr(local, "session"):
        local.session = requests.Session()
    response = local.session.post(job.AGENT_URL, json=row, timeout=60)
    response.raise_for_status()
    return {**row, "answer": response.json()["answer"]}


def results_of(rows: list[job.Row]) -> list[job.Row]:
    """Send the rows and take the results in their order."""
    messages = [answered.send(row) for row in rows]
    return [message.get_result(block=True, timeout=600_000) for message in messages]


if __name__ == "__main__":
    results_of(job.WARM_UP)
    started = time.monotonic()
    job.write_rows(results_of(job.read_rows()))
    job.report(started)
