"""Metrics: counters and timings of a process, in CloudWatch's embedded metric format.

They are summed in the process and written as one log line every `metrics_interval_s` (a setting, a minute
by default). CloudWatch Logs turns the line into metrics without an API call. On a terminal nothing is
written. The format:
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping

import orjson
import stamina.instrumentation

from service.domain.errors import ThrottledError

NAMESPACE = "rowfleet"

MAX_SAMPLES = 100
"""Values of one metric in one line (limit of the embedded metric format)."""


class Samples:
    """At most `MAX_SAMPLES` values of a series of any length, thinned evenly to keep the distribution."""

    __slots__ = ("_count", "_stride", "values")

    def __init__(self) -> None:
        self.values: list[float] = []
        self._stride = 1
        self._count = 0

    def add(self, value: float) -> None:
        """Keep every `stride`th value. A full list drops every other value and doubles the stride."""
        if self._count % self._stride == 0:
            if len(self.values) == MAX_SAMPLES:
                del self.values[1::2]
                self._stride *= 2
            self.values.append(value)
        self._count += 1


class Metrics:
    """Counters and timings of one process.

    `emit` receives one complete line without a newline. None keeps the metrics in memory only, for tests and
    terminals. Names are snake_case with the unit last for timings: `agent_latency_ms`.
    """

    def __init__(
        self, dimensions: Mapping[str, str] | None = None, emit: Callable[[str], None] | None = None
    ) -> None:
        self._dimensions = dict(dimensions or {})
        self._emit = emit
        self.totals: defaultdict[str, float] = defaultdict(float)
        self._counters: defaultdict[str, float] = defaultdict(float)
        self._timings: defaultdict[str, Samples] = defaultdict(Samples)

    def count(self, name: str, value: float = 1) -> None:
        """Add to a counter."""
        self.totals[name] += value
        self._counters[name] += value

    def observe(self, name: str, value: float) -> None:
        """Record one timing or size."""
        self._timings[name].add(value)

    def flush(self, now_ms: int) -> None:
        """Write the values since the last flush as one line, if there are any."""
        counters, timings = self._counters, self._timings
        self._counters, self._timings = defaultdict(float), defaultdict(Samples)
        if self._emit is None or not (counters or timings):
            return
        definitions = [{"Name": name, "Unit": "Count"} for name in counters]
        definitions += [{"Name": name, "Unit": _unit(name)} for name in timings]
        line = {
            "_aws": {
                "Timestamp": now_ms,
                "CloudWatchMetrics": [
                    {"Namespace": NAMESPACE, "Dimensions": [list(self._dimensions)], "Metrics": definitions}
                ],
            },
            "event": "metrics",
            **self._dimensions,
            **counters,
            **{name: samples.values for name, samples in timings.items()},
        }
        self._emit(orjson.dumps(line).decode())


def count_calls(metrics: Metrics) -> Callable[[str, str], None]:
    """A callback that counts every AWS call, under `aws_calls_{service}_{operation}`."""

    def count(service: str, operation: str) -> None:
        metrics.count(f"aws_calls_{service.lower()}_{operation}")

    return count


def count_retries(metrics: Metrics) -> None:
    """Count stamina's retries instead of logging them; a call that fails for good is logged by its caller.

    Retries after a ThrottledError are counted in `retries_throttled` as well.
    """

    def on_retry(details: stamina.instrumentation.RetryDetails) -> None:
        metrics.count("retries")
        if isinstance(details.caused_by, ThrottledError):
            metrics.count("retries_throttled")

    stamina.instrumentation.set_on_retry_hooks([on_retry])


def _unit(name: str) -> str:
    if name.endswith("_ms"):
        return "Milliseconds"
    return "Bytes" if name.endswith("_bytes") else "Count"
