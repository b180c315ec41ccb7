"""The tasks that the limits of a target can use: more of them would only wait for each other."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from service.domain.model import Batch, BatchView, Counts
from service.mapping import RowMapping
from service.mapping.definition import RateLimit

MEASURED_ROWS = 20
"""Rows after which the mean duration of the calls of a batch, and their tokens, count as known."""

ASSUMED_CALL_S = 5.0
"""Duration of a call of which none is known."""

HEADROOM = 1.25
"""Calls above those that a rate limit needs by the mean duration: durations vary."""

_SECONDS_PER_MINUTE = 60


@dataclass(frozen=True, slots=True)
class TargetLimits:
    """Limits of a target as a batch has them.

    Targets of one `name` share their `rate_limit`. A task has `calls_per_task` calls of the batch under way.
    """

    name: str
    calls_per_task: int
    rate_limit: RateLimit | None = None


def target_limits(batch: Batch, mapping: RowMapping | None, calls_per_task: int) -> TargetLimits:
    """The limits of a batch; `mapping` is None if it cannot be read, and then limits nothing."""
    limits = [calls_per_task if mapping is None else mapping.concurrency(calls_per_task)]
    if batch.max_concurrency is not None:
        limits.append(batch.max_concurrency)
    rate_limit = None if mapping is None else mapping.rate_limit
    name = f"target of {batch.tool_name}" if rate_limit is None else f"rate limit {rate_limit.name}"
    return TargetLimits(name, max(1, min(limits)), rate_limit)


def useful_tasks(limits: Iterable[TargetLimits], views: Iterable[BatchView]) -> int | None:
    """The tasks that batches of one target can use at a time, at least 1; None without a rate limit."""
    calls_per_task, calls = 1, math.inf
    counts = sum((view.counts for view in views), Counts())
    for each in limits:
        calls_per_task = max(calls_per_task, each.calls_per_task)
        if each.rate_limit is not None:
            calls = min(calls, _calls_at_a_time(each.rate_limit, counts))
    return None if math.isinf(calls) else max(1, math.ceil(calls / calls_per_task))


def _calls_at_a_time(limit: RateLimit, counts: Counts) -> float:
    """The calls under way at a time that keep the limit busy."""
    is_measured = counts.done >= MEASURED_ROWS and counts.agent_ms > 0
    call_s = counts.agent_ms / counts.done / 1_000 if is_measured else ASSUMED_CALL_S
    rows_per_minute = [math.inf if limit.requests_per_minute is None else float(limit.requests_per_minute)]
    for tokens_per_minute, tokens in (
        (limit.input_tokens_per_minute, counts.input_tokens),
        (limit.output_tokens_per_minute, counts.output_tokens),
    ):
        if tokens_per_minute is not None and is_measured and tokens > 0:
            rows_per_minute.append(tokens_per_minute / (tokens / counts.done))
    calls = min(rows_per_minute) / _SECONDS_PER_MINUTE * call_s * HEADROOM
    return min(calls, math.inf if limit.concurrent is None else limit.concurrent)
