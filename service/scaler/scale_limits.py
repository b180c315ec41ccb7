"""Limits of the scaler."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

WORKER = "worker"


@dataclass(frozen=True, slots=True)
class ServiceBounds:
    """A service that plays `roles` has `minimum` to `maximum` tasks.

    For workers, one task for each `backlog_per_task` rows that are left; other roles ignore it.
    """

    roles: frozenset[str]
    minimum: int = 0
    maximum: int = 1
    backlog_per_task: int = 500


@dataclass(frozen=True, slots=True)
class ScaleLimits:
    """The services by name, and times in seconds.

    A service gets fewer tasks once no more were wanted for `cooldown_s`, and its last task ends once none was
    wanted for `idle_s`. A decision that is older than `stale_s` is not carried out.

    A task has at most `calls_per_task` calls under way at one target, `splits_per_task` sources that are
    split, and `results_per_task` results that are written. `hold_s`: longest hold of a batch by anybody but
    its user, unless the batch has one of its own.
    """

    services: Mapping[str, ServiceBounds]
    idle_s: float = 600.0
    cooldown_s: float = 300.0
    stale_s: float = 30.0
    calls_per_task: int = 64
    splits_per_task: int = 4
    results_per_task: int = 2
    hold_s: float = 72 * 3_600.0
