"""Readings of a fleet with a worker and a control service."""

from dataclasses import replace

from service.domain.model import (
    Batch,
    BatchView,
    Checkpoint,
    Counts,
    Hold,
    HoldReason,
    Location,
    Source,
    State,
    iso_time,
)
from service.domain.ports import TaskCounts
from service.scaler.reading import FleetReading, QueueBacklog, UnderWay
from service.scaler.scale_limits import ScaleLimits, ServiceBounds
from service.scaler.target_limits import TargetLimits

NOW_MS = 1_800_000_000_000
CONTROL = ServiceBounds(frozenset({"splitter", "aggregator", "sweeper"}))
WORKERS = ServiceBounds(frozenset({"worker"}), maximum=10, backlog_per_task=500)
LIMITS = ScaleLimits({"worker": WORKERS, "control": CONTROL})
FREE = TargetLimits("target of demo", 64)


def batch(state=State.RUNNING, *, size=0, rows=0, read=0, **more):
    """A batch that has not changed lately; of a source of `size` bytes, `rows` in `read` of them are sent."""
    made = Batch(
        "demo", "e1", state, Source("b", "k", size=size), Location("b", "o/"),
        checkpoint=Checkpoint(rows, read), created_at=iso_time(NOW_MS - 86_400_000),
        updated_at=iso_time(NOW_MS - 3_600_000),
    )  # fmt: skip
    return replace(made, **more)


def held(reason=HoldReason.USER, *, since_ms=NOW_MS - 7_200_000, **more):
    """A batch that is held."""
    return batch(State.PAUSED, total=100, holds=(Hold(reason, "somebody", iso_time(since_ms)),), **more)


def under_way(made, target=FREE, **counts):
    """A batch with its counters and the limits of its target."""
    return UnderWay(BatchView(made, Counts(**counts)), target)


def reading(*batches, now_ms=NOW_MS, pending=0, worker=0, control=0, **backlog):
    """A reading; `worker` and `control` are the tasks that are desired and run."""
    tasks = {"worker": TaskCounts(worker, worker), "control": TaskCounts(control, control)}
    return FleetReading(now_ms, QueueBacklog(**backlog), tasks, batches, pending)
