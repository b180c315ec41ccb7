"""Logs and metrics: structlog lines, and CloudWatch's embedded metric format.

A log line is JSON off a terminal: `timestamp`, `level`, `event` in snake_case, `batch_id` and `row_id` bound
by context. Metrics are summed in the process and written every minute as one log line in the embedded
metric format (https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html),
which CloudWatch Logs turns into metrics without an API call; on a terminal they are not written.
"""

from __future__ import annotations

import logging
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, TextIO

import orjson
import stamina.instrumentation
import structlog

NAMESPACE = "rowfleet"
MAX_SAMPLES = 100
"""Values in one metric of one line (embedded metric format)."""


def configure_logging(level: str, *, as_json: bool, stream: TextIO | None = None) -> None:
    """Set up structlog and the standard library's loggers (which show warnings only)."""
    out = stream or sys.stderr
    processors: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if as_json:
        processors += [
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=_render),
        ]
    else:
        # rich's tracebacks show the values of variables, among them what must not be logged
        plain = structlog.dev.plain_traceback
        processors.append(structlog.dev.ConsoleRenderer(colors=out.isatty(), exception_formatter=plain))
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(
        level=logging.WARNING, stream=out, force=True, format="%(levelname)s %(name)s %(message)s"
    )
    logging.getLogger("asyncio").setLevel(logging.ERROR)


def _render(event: Any, **_: object) -> str:
    return orjson.dumps(event, default=str).decode()


class Samples:
    """A thinned series: at most `MAX_SAMPLES` values that keep the distribution, however many come."""

    __slots__ = ("_count", "_stride", "values")

    def __init__(self) -> None:
        self.values: list[float] = []
        self._stride = 1
        self._count = 0

    def add(self, value: float) -> None:
        """Take every `stride`th value; when full, drop every other one and double the stride."""
        if self._count % self._stride == 0:
            if len(self.values) == MAX_SAMPLES:
                del self.values[1::2]
                self._stride *= 2
            self.values.append(value)
        self._count += 1


class Metrics:
    """Counters and timings of one process.

    `emit` takes one finished line (without a newline); None keeps metrics in memory only, for tests and
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
        """Write what came since the last flush as one line, if anything did."""
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
    """What counts every AWS call, under `aws_calls_{service}_{operation}`."""

    def count(service: str, operation: str) -> None:
        metrics.count(f"aws_calls_{service.lower()}_{operation}")

    return count


def count_retries(metrics: Metrics) -> None:
    """Retries are numbers, not log lines: what they were for is logged when it fails for good."""

    def on_retry(details: stamina.instrumentation.RetryDetails) -> None:  # noqa: ARG001 -- stamina's keyword
        metrics.count("retries")

    stamina.instrumentation.set_on_retry_hooks([on_retry])


def _unit(name: str) -> str:
    if name.endswith("_ms"):
        return "Milliseconds"
    return "Bytes" if name.endswith("_bytes") else "Count"
