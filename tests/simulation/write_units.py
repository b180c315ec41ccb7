"""A model of one batch's commits under the quota of DynamoDB: 1,000 write units a second for a partition key.

A transaction costs two units for each KB of an item, rounded up. A key accepts writes while its bucket holds
any units, and refuses a whole transaction otherwise. Sizes and keys are those of the AWS adapter; the
counter of each transaction is written under the key of partition 0.
"""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from dataclasses import replace
from random import Random

from service.adapters.aws.row_items import row_items
from service.adapters.aws.values import Item, item_bytes
from service.domain.model import Commit, Outcome, Status, partition_key, partition_of

UNITS_PER_S = 1_000
"""Write units a second that one partition key takes (AWS)."""

UNIT_BYTES = 1_024
COMMIT_S = 0.02
"""Time of a transaction that is accepted."""

FIRST_BACKOFF_S, LONGEST_BACKOFF_S = 0.02, 5.0
COUNTER_UNITS = 2
BATCH_ID = "demo#e"


def units(item: Item) -> int:
    """The write units of an item in a transaction."""
    return 2 * math.ceil(item_bytes(item) / UNIT_BYTES)


def item_of(size: int) -> Item:
    """The item of an outcome that has this size in bytes."""
    outcome = Outcome(1, 1, Status.SUCCESS, {}, {"a": ""}, 5, "2026-11-23T07:00:01.000Z", worker="w")
    commit = Commit(BATCH_ID, 1, 1, 0, (outcome,), "", 2_000_000_000)
    (empty,) = row_items(commit)
    filled = replace(outcome, output_data={"a": "x" * (size - item_bytes(empty))})
    (item,) = row_items(replace(commit, outcomes=(filled,)))
    return item


class Keys:
    """The buckets of the partition keys."""

    def __init__(self) -> None:
        self._units: defaultdict[str, float] = defaultdict(lambda: float(UNITS_PER_S))
        self._filled_at: defaultdict[str, float] = defaultdict(float)

    def accept(self, costs: dict[str, int], now: float) -> bool:
        """Charge a transaction, or refuse all of it."""
        for key in costs:
            gained = (now - self._filled_at[key]) * UNITS_PER_S
            self._units[key] = min(float(UNITS_PER_S), self._units[key] + gained)
            self._filled_at[key] = now
        if any(self._units[key] <= 0 for key in costs):
            return False
        for key, cost in costs.items():
            self._units[key] -= cost
        return True


def rows_per_s(
    *, item_size: int, partitions: int, workers: int = 32, rows: int = 99, seconds: int = 30
) -> float:
    """Rows that `workers` processes commit in a second, `rows` in a transaction, after a second of start."""
    random, keys = Random(1), Keys()
    outcome_units = units(item_of(item_size))
    numbers = iter(range(1, 10**9))
    due = [(random.random(), worker, 0) for worker in range(workers)]
    waiting: dict[int, dict[str, int]] = {}
    done = 0
    while due[0][0] < seconds + 1:
        now, worker, failures = heapq.heappop(due)
        if worker not in waiting:
            waiting[worker] = _costs([next(numbers) for _ in range(rows)], outcome_units, partitions)
        if keys.accept(waiting[worker], now):
            del waiting[worker]
            done += rows if now >= 1 else 0
            heapq.heappush(due, (now + COMMIT_S, worker, 0))
        else:
            pause_s = min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2**failures) * random.uniform(0.5, 1.5)
            heapq.heappush(due, (now + pause_s, worker, failures + 1))
    return done / seconds


def _costs(numbers: list[int], outcome_units: int, partitions: int) -> dict[str, int]:
    """The write units of a transaction for each partition key."""
    costs: defaultdict[str, int] = defaultdict(int)
    costs[BATCH_ID] += COUNTER_UNITS
    for number in numbers:
        costs[partition_key(BATCH_ID, partition_of(number, partitions))] += outcome_units
    return dict(costs)
