"""Metrics in the embedded metric format."""

import json

import pytest
import stamina.instrumentation

from service.domain.errors import ThrottledError, UnreachableError
from service.runtime.metrics import MAX_SAMPLES, Metrics, Samples, count_retries
from service.runtime.port_retries import retry_for


@pytest.fixture
def retried():
    """Metrics that count stamina's retries; its own hooks are put back afterwards."""
    hooks = stamina.instrumentation.get_on_retry_hooks()
    metrics = Metrics()
    count_retries(metrics)
    yield metrics
    stamina.instrumentation.set_on_retry_hooks(hooks)


async def test_retries_of_throttled_calls_are_counted_apart(retried):
    """Each retry counts in `retries`, those after a throttle in `retries_throttled` as well."""
    errors = [ThrottledError("slow down"), UnreachableError("no route"), ThrottledError("slow down")]

    async def call() -> None:
        if errors:
            raise errors.pop()

    await retry_for(10.0, first_s=0.05, longest_s=2.0)(call)
    assert retried.totals == {"retries": 3, "retries_throttled": 2}


def test_a_flush_is_one_line_in_the_embedded_metric_format():
    """The line holds every metric and dimension that its directive names."""
    lines = []
    metrics = Metrics({"service": "rowfleet", "role": "worker"}, lines.append)
    metrics.count("rows_succeeded", 3)
    metrics.count("rows_succeeded", 2)
    metrics.observe("agent_latency_ms", 12.5)
    metrics.flush(1_700_000_000_000)
    (line,) = map(json.loads, lines)
    (directive,) = line["_aws"]["CloudWatchMetrics"]
    assert line["_aws"]["Timestamp"] == 1_700_000_000_000
    assert directive["Namespace"] == "rowfleet"
    assert directive["Dimensions"] == [["service", "role"]]
    assert {m["Name"]: m["Unit"] for m in directive["Metrics"]} == {
        "rows_succeeded": "Count", "agent_latency_ms": "Milliseconds",
    }  # fmt: skip
    assert (line["rows_succeeded"], line["agent_latency_ms"]) == (5, [12.5])
    assert (line["service"], line["role"]) == ("rowfleet", "worker")


def test_a_flush_resets_the_counters_and_writes_no_empty_line():
    """Lines count per interval; `totals` counts since the start."""
    lines = []
    metrics = Metrics({}, lines.append)
    metrics.count("x")
    metrics.flush(0)
    metrics.flush(1)
    assert len(lines) == 1
    assert metrics.totals["x"] == 1


def test_samples_stay_within_the_format_and_keep_the_distribution():
    """At most 100 of any number of values are kept, evenly from the first to near the last."""
    samples = Samples()
    for value in range(100_000):
        samples.add(value)
    assert MAX_SAMPLES / 2 <= len(samples.values) <= MAX_SAMPLES
    assert samples.values == sorted(samples.values)
    assert samples.values[0] == 0
    assert samples.values[-1] > 95_000
    middle = samples.values[len(samples.values) // 2]
    assert 40_000 < middle < 60_000
