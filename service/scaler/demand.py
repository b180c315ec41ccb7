"""The tasks that the work at hand asks for, role by role, before bounds and cool-downs. Pure."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from service.domain.deadlines import deadline_of
from service.domain.model import Batch, BatchView, HoldReason, State, WorkKind, ms_of
from service.scaler.memory import DeadCount
from service.scaler.reading import FleetReading, UnderWay
from service.scaler.scale_limits import WORKER, ScaleLimits, ServiceBounds
from service.scaler.target_limits import useful_tasks
from service.steering.expiry import hold_ends_ms

ROW_BYTES = 1_000
"""Bytes of a row in a source of which no row was sent yet."""

FRESH_S = 120.0
"""For so long after a change of a batch SQS may not count all of its messages: it counts approximately."""

DEAD_LETTERS_S = 3_600.0
"""Dead letters that the sweeper has left for so long are left to an operator, and keep no task running."""

WAKE_S = 180.0
"""The sweeper is started so long before the end of a hold, or the deadline of a batch that is held."""

_EPSILON = 1e-9
_READ_STATES = frozenset({State.SPLITTING, State.RUNNING})


@dataclass(frozen=True, slots=True)
class TaskDemand:
    """Tasks of a service that there is work for, and the reasons, for people."""

    tasks: int = 0
    reasons: tuple[str, ...] = ()


def service_demand(
    reading: FleetReading, bounds: ServiceBounds, limits: ScaleLimits, dead: DeadCount
) -> TaskDemand:
    """The demand of a service: that of the role of its that asks for most."""
    demands = []
    if WORKER in bounds.roles:
        demands.append(worker_demand(reading, bounds.backlog_per_task))
    if bounds.roles - {WORKER}:
        demands.append(control_demand(reading, bounds.roles, limits, dead))
    return max(demands, key=lambda demand: demand.tasks, default=TaskDemand())


def control_demand(
    reading: FleetReading, roles: frozenset[str], limits: ScaleLimits, dead: DeadCount
) -> TaskDemand:
    """The demand of splitter, aggregator and sweeper.

    All of them are there as long as anything is under way: each step of a batch may need each of them.
    """
    reasons = tuple(_control_reasons(reading, limits, dead))
    if not reasons:
        return TaskDemand()
    tasks = [1]
    if "splitter" in roles:
        splits = sum(each.view.batch.state is State.SPLITTING for each in reading.batches)
        tasks.append(math.ceil((reading.backlog.ingest + splits) / limits.splits_per_task))
    if "aggregator" in roles:
        tasks.append(math.ceil(reading.backlog.aggregate / limits.results_per_task))
    return TaskDemand(max(tasks), reasons)


def _control_reasons(reading: FleetReading, limits: ScaleLimits, dead: DeadCount) -> Iterator[str]:
    backlog, now_ms = reading.backlog, reading.now_ms
    if backlog.ingest:
        yield f"messages in ingest: {backlog.ingest:,}"
    if backlog.aggregate:
        yield f"messages in aggregate: {backlog.aggregate:,}"
    if dead.messages and now_ms - dead.since_ms < DEAD_LETTERS_S * 1000:
        yield f"dead letters: {dead.messages:,}"
    awake = [each for each in reading.batches if not is_asleep(each.view.batch, now_ms, limits.hold_s)]
    if awake:
        yield f"unfinished batches: {len(awake):,}"
    if reading.pending:
        yield "events or tasks of state machines are to be delivered"


def is_asleep(batch: Batch, now_ms: int, hold_s: float) -> bool:
    """True if nobody has to look at the batch now: it is held, and neither hold nor deadline ends soon."""
    if batch.state is not State.PAUSED or batch.work is not None:
        return False
    # Trials of the target are sent by the sweeper.
    if batch.hold(HoldReason.TARGET) is not None:
        return False
    ends_ms = [hold_ends_ms(batch, hold, hold_s) for hold in batch.holds]
    soon_ms = now_ms + round(WAKE_S * 1000)
    is_ending = any(end_ms is not None and end_ms <= soon_ms for end_ms in ends_ms)
    return not is_ending and deadline_of(batch, None).at_ms > soon_ms


def worker_demand(reading: FleetReading, backlog_per_task: int) -> TaskDemand:
    """The demand of workers: a task for each `backlog_per_task` rows, within the limits of their targets.

    One task is asked for as soon as a job waits, and as long as any row is left.
    """
    backlog = reading.backlog
    batches = [each for each in reading.batches if rows_left(each.view)]
    left = sum(rows_left(each.view) for each in batches)
    if not left:
        return _first_worker(backlog.rows, backlog.ingest)
    # Rows whose messages are lost are no work until the sweeper sends them again.
    at_hand = backlog.rows + sum(rows_without_message(each.view, reading.now_ms) for each in batches)
    share = min(1.0, at_hand / left)
    reasons = [f"rows left: {left:,}, at hand: {min(left, at_hand):,}; {backlog_per_task:,} a task"]
    tasks = 0.0
    for name, group in _by_target(batches).items():
        wanted = sum(rows_left(each.view) for each in group) * share / backlog_per_task
        useful = useful_tasks((each.target for each in group), (each.view for each in group))
        if useful is not None and useful < wanted:
            reasons.append(f"{name} can use {useful} of {math.ceil(wanted - _EPSILON)} tasks")
            wanted = useful
        tasks += wanted
    return TaskDemand(max(1, math.ceil(tasks - _EPSILON)), tuple(reasons))


def _first_worker(rows: int, jobs: int) -> TaskDemand:
    if rows:
        # Of batches that have ended or are held: a worker drops them.
        return TaskDemand(1, (f"messages in rows without a row that is left: {rows:,}",))
    if jobs:
        return TaskDemand(1, (f"messages in ingest: {jobs:,}",))
    return TaskDemand()


def _by_target(batches: list[UnderWay]) -> dict[str, list[UnderWay]]:
    groups: defaultdict[str, list[UnderWay]] = defaultdict(list)
    for each in batches:
        groups[each.target.name].append(each)
    return groups


def rows_left(view: BatchView) -> int:
    """The rows of a batch that workers have to serve, sent or not; an estimate while it is being split."""
    batch = view.batch
    # The rows of a cancelled batch fail without a call, and those of a remap need none.
    if batch.state not in _READ_STATES or batch.cancelled_at or batch.is_remap:
        return 0
    return max(0, expected_total(batch) - batch.carried.done - view.counts.done)


def rows_without_message(view: BatchView, now_ms: int) -> int:
    """The rows left of a batch that have no message yet, or one that SQS may not have counted yet."""
    batch = view.batch
    if batch.state is State.SPLITTING:
        return min(rows_left(view), max(0, expected_total(batch) - batch.checkpoint.rows))
    is_fresh = bool(batch.updated_at) and now_ms - ms_of(batch.updated_at) < FRESH_S * 1000
    is_being_sent = batch.work is not None and batch.work.kind is WorkKind.SEND
    return rows_left(view) if is_fresh or is_being_sent else 0


def expected_total(batch: Batch) -> int:
    """The rows of a batch; while it is being split, as many as its bytes let expect."""
    if batch.total is not None:
        return batch.total
    rows, read = batch.checkpoint.rows, batch.checkpoint.byte_offset
    if rows and read:
        # a compressed source may have been read beyond its size
        expected = math.ceil(rows * max(1.0, batch.source.size / read))
    else:
        expected = math.ceil(batch.source.size / ROW_BYTES)
    return expected if batch.limit is None else min(expected, batch.limit)
