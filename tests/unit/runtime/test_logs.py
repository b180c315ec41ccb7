"""Log lines."""

import io
import json

import pytest
import structlog

from service.runtime.logs import configure_logging


def break_with(secret):
    raise RuntimeError(f"broken, {len(secret)} characters")


@pytest.mark.parametrize("as_json", [False, True])
def test_a_traceback_shows_no_values(as_json):
    """A traceback names places in the code and no values of variables, which may be secrets."""
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
    """A line is JSON with time, level, event and the bound context."""
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
