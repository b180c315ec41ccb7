"""Logs and metrics."""

import io
import json

import pytest
import structlog

from service.runtime.telemetry import MAX_SAMPLES, Metrics, Samples, configure_logging


def test_a_flush_is_one_line_in_the_embedded_metric_format():
    """CloudWatch finds every metric it is told of in the line, under the dimensions it is told of."""
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


def test_a_flush_starts_anew_and_nothing_is_written_for_nothing():
    """Counters are per interval in the lines, and in total in memory."""
    lines = []
    metrics = Metrics({}, lines.append)
    metrics.count("x")
    metrics.flush(0)
    metrics.flush(1)
    assert len(lines) == 1
    assert metrics.totals["x"] == 1


def test_samples_stay_within_the_format_and_keep_the_spread():
    """However many values come, at most 100 are kept, from the first to near the last."""
    samples = Samples()
    for value in range(100_000):
        samples.add(value)
    assert MAX_SAMPLES / 2 <= len(samples.values) <= MAX_SAMPLES
    assert samples.values == sorted(samples.values)
    assert samples.values[0] == 0
    assert samples.values[-1] > 95_000
    middle = samples.values[len(samples.values) // 2]
    assert 40_000 < middle < 60_000


def break_with(secret):
    raise RuntimeError(f"broken, {len(secret)} characters")


@pytest.mark.parametrize("as_json", [False, True])
def test_a_traceback_shows_no_values(as_json):
    """A bug's traceback names places in the code; what the variables held may be a secret."""
    stream = io.StringIO()
    configure_logging("info", as_json=as_json, stream=stream)
    try:
        try:
            break_with("s3cr3t-canary".upper())
        except RuntimeError as error:
            structlog.get_logger().error("handler_crashed", exc_info=error)
    finally:
        structlog.reset_defaults()
    assert "RuntimeError: broken, 13 characters" in stream.getvalue()
    assert "S3CR3T-CANARY" not in stream.getvalue()


def test_log_lines_are_json_with_their_context():
    """Off a terminal a line is JSON with time, level, event and what is bound."""
    stream = io.StringIO()
    configure_logging("info", as_json=True, stream=stream)
    try:
        with structlog.contextvars.bound_contextvars(batch_id="t#e"):
            structlog.get_logger().info("row_settled", status="SUCCESS")
            structlog.get_logger().debug("not_shown")
    finally:
        structlog.reset_defaults()
    (line,) = map(json.loads, stream.getvalue().splitlines())
    assert line["event"] == "row_settled"
    assert (line["level"], line["batch_id"], line["status"]) == ("info", "t#e", "SUCCESS")
    assert line["timestamp"].endswith("Z")
