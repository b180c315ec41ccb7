"""A model of one batch's commits under the quota of DynamoDB: 1,000 write units a second for a partition key.

A transaction costs two units for each KB of an item, rounded up. A key accepts writes while its bucket holds
any units, and refuses a whole transaction otherwise. Sizes and keys are those of the AWS adapter; the
counter of each transaction is written under the key of partition 0.
"""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from dataclasses import dataclass, field, replace
from itertools import count, islice
from random import Random

from service.adapters.aws.table.row_items import row_items
from service.adapters.aws.table.values import Item, item_bytes
from service.domain.model import Commit, Outcome, Status, partition_key, partition_of
from service.domain.ports import COMMIT_LIMIT
from service.runtime.backoff import Linger

UNITS_PER_S = 1_000
"""Write units a second that one partition key takes (AWS)."""

UNIT_BYTES = 1_024
COMMIT_S = 0.02
"""Time of a transaction that is accepted."""

FIRST_BACKOFF_S, LONGEST_BACKOFF_S = 0.02, 5.0
COUNTER_UNITS = 2
MOST_WAITING = 1_000
"""Rows that a worker holds at most (`max_held_rows`): it receives no more while so many wait."""

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


@dataclass(frozen=True, slots=True)
class Throughput:
    """What a fleet commits in a second, and the share of its transactions that is throttled."""

    rows_per_s: float
    commits_per_s: float
    throttled: float


@dataclass(slots=True)
class _Worker:
    """One process: the rows that wait for their commit, and the transaction that is tried."""

    linger: Linger
    counted_at: float = 0.0
    waiting: float = 0.0
    trying: dict[str, int] = field(default_factory=dict)
    rows: int = 0
    failures: int = 0


class Fleet:
    """Worker processes that get `rows_each_per_s` outcomes a second each and commit them to one batch.

    With `is_adaptive` False every transaction waits `linger_s`, as if no throttle lengthened it.
    """

    def __init__(
        self,
        *,
        item_size: int,
        partitions: int,
        workers: int = 32,
        rows_each_per_s: float = 10_000,
        linger_s: float = 0.2,
        is_adaptive: bool = True,
    ) -> None:
        self._random, self._keys = Random(1), Keys()
        self._outcome_units = units(item_of(item_size))
        self._partitions = partitions
        self._rows_each_per_s = rows_each_per_s
        self._is_adaptive = is_adaptive
        self._numbers = count(1)
        self._workers = [_Worker(Linger(linger_s)) for _ in range(workers)]
        self._due = [(self._random.random(), index) for index in range(workers)]

    def run(self, seconds: int = 30, warm_up_s: int = 10) -> Throughput:
        """Let the fleet commit for some seconds after a start of `warm_up_s`."""
        rows = commits = throttles = 0
        while self._due[0][0] < warm_up_s + seconds:
            now, index = heapq.heappop(self._due)
            worker = self._workers[index]
            pause_s, is_accepted = self._try(worker, now)
            heapq.heappush(self._due, (now + pause_s, index))
            if now >= warm_up_s:
                rows += worker.rows if is_accepted else 0
                commits += is_accepted
                throttles += not is_accepted
        return Throughput(rows / seconds, commits / seconds, throttles / max(1, commits + throttles))

    def _try(self, worker: _Worker, now: float) -> tuple[float, bool]:
        """Try a transaction. Return the seconds until the worker's next one, and True if it was accepted."""
        gained = (now - worker.counted_at) * self._rows_each_per_s
        worker.waiting, worker.counted_at = min(float(MOST_WAITING), worker.waiting + gained), now
        if not worker.trying:
            worker.rows = min(COMMIT_LIMIT, max(1, int(worker.waiting)))
            worker.waiting -= worker.rows
            worker.trying = self._costs(worker.rows)
        if not self._keys.accept(worker.trying, now):
            if self._is_adaptive:
                worker.linger.lengthen()
            pause_s = min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2**worker.failures)
            worker.failures += 1
            return pause_s * self._random.uniform(0.5, 1.5), False
        worker.linger.shorten()
        worker.trying, worker.failures = {}, 0
        full_s = max(0.0, COMMIT_LIMIT - worker.waiting) / self._rows_each_per_s
        return COMMIT_S + min(worker.linger.seconds, full_s), True

    def _costs(self, rows: int) -> dict[str, int]:
        """The write units of a transaction for each partition key, with that of its counter."""
        costs: defaultdict[str, int] = defaultdict(int)
        costs[BATCH_ID] += COUNTER_UNITS
        for number in islice(self._numbers, rows):
            costs[partition_key(BATCH_ID, partition_of(number, self._partitions))] += self._outcome_units
        return costs
