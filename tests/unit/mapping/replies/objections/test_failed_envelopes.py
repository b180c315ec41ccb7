"""Envelopes of work that failed, was paused or was cut off, beside a value."""

import json

import pytest

from service.domain.errors import AgentThrottledError, ReplyRejectedError, ReplyTruncatedError
from service.mapping import Catalog


def values(path, reply, **keys):
    methods = [{"method": "direct", "field_mappings": {"a": path}}]
    files = {"e.yaml": json.dumps({"output_mappings": {"e": {"extraction_methods": methods, **keys}}})}
    return Catalog.load(files, {}).extractor("e").extract(reply).values


DATABRICKS = {"life_cycle_state": "TERMINATED", "result_state": "FAILED", "state_message": "boom"}

FAILED = [
    ("output", {"run": {"id": "r", "status": "FAILED"}, "output": "Os"}, "status FAILED"),
    ("output.x", {"run": {"status": "failed"}, "output": {"x": "Os"}}, "status failed"),
    ("run.output", {"run": {"status": "failed", "output": "Os"}}, "status failed"),
    ("run_response.content", {"run_response": {"status": "ERROR", "content": "Os"}}, "status ERROR"),
    (
        "wrapped.content",
        {"wrapped": {"run_id": "r", "agent_id": "a", "status": "ERROR", "content": "Os"}, "city": "Oslo"},
        "status ERROR",
    ),
    (
        "notebook_output.result",
        {"state": DATABRICKS, "run_id": 4, "notebook_output": {"result": "Os"}},
        "boom",
    ),
    (
        "notebook_output.result",
        {"metadata": {"run_id": 4, "state": DATABRICKS}, "notebook_output": {"result": "Os"}},
        "result_state FAILED",
    ),
    ("result", {"result_state": "FAILED", "result": "Os"}, "result_state FAILED"),
    ("output", {"metadata": {"run_id": "r", "status": "failed"}, "output": "Os"}, "status failed"),
    ("output", {"state": "error", "output": "Os", "session_id": "s"}, "state error"),
    ("content", {"run_id": "r", "content": "Os", "status": "error"}, "status error"),
    (
        "text",
        {"status": "failed", "error_message": "stopped after 3 of 5", "text": "Os", "pages": 3},
        "3 of 5",
    ),
    ("result", {"id": "x", "state": "failed", "result": "boom"}, "state failed: boom"),
    ("text", {"status": "suspended", "text": "Os", "suspendPayload": {}, "runId": "r"}, "status suspended"),
    ("result.text", {"result": {"runId": "r", "status": "paused", "text": "Os"}}, "status paused"),
    ("[0].text", [{"runId": "r", "status": "paused", "text": "Os"}], "status paused"),
    ("result.x", {"statement_id": "s", "status": {"state": "FAILED"}, "result": {"x": "Os"}}, "failed"),
    ("answer", {"answer": "Os", "isError": True}, "isError: true"),
    ("answer", {"id": "m", "answer": "Os", "is_error": True}, "is_error: true"),
    ("answer", {"answer": "Os", "has_error": True, "error_message": "boom"}, "has_error: true: boom"),
    ("answer", {"answer": "Os", "failed": True}, "failed: true"),
    ("text", {"text": "Os", "blocked": True}, "blocked: true"),
    ("data.text", {"data": {"text": "Os", "blocked": True}}, "blocked: true"),
    ("content", {"run_id": "r", "content": "Os", "status": "PAUSED", "tools": [{"name": "x"}]}, "PAUSED"),
    ("result", {"state": "FAILED", "status": "boom", "result": "Os", "last_executed_task": None}, "FAILED"),
    ("result", {"status": "failed", "result": "Os", "current_step": "write"}, "status failed"),
    ("result", {"status": "tripwire", "tripwire": {}, "steps": {}, "input": {}, "result": "Os"}, "tripwire"),
    (
        "result.text",
        {
            "status": "suspended",
            "steps": {"ask": {"status": "suspended"}},
            "suspended": [["ask"]],
            "input": {},
            "result": {"text": "Os"},
        },
        "status suspended",
    ),
]


@pytest.mark.parametrize(("path", "reply", "says"), FAILED)
def test_a_value_in_the_envelope_of_failed_work_is_no_answer(path, reply, says):
    """The status or flag says so, whoever wrote it; accept_errors takes the value."""
    with pytest.raises(ReplyRejectedError, match=says):
        values(path, reply)
    assert values(path, reply, accept_errors=True)["a"]


@pytest.mark.parametrize(
    "reply", [{"answer": "Os", "truncated": True}, {"run_id": "r", "status": "incomplete", "answer": "Os"}]
)
def test_a_value_in_the_envelope_of_work_that_was_cut_off(reply):
    with pytest.raises(ReplyTruncatedError, match="allow_truncated"):
        values("answer", reply)
    assert values("answer", reply, allow_truncated=True)["a"] == "Os"


def test_the_error_beside_the_value_decides():
    """A throttle costs no attempt."""
    reply = {"job_id": "4", "status": "failed", "error_message": "rate limit exceeded", "text": "Os"}
    with pytest.raises(AgentThrottledError):
        values("text", reply)


@pytest.mark.parametrize(
    ("path", "reply"),
    [
        ("status", {"run_id": "r", "status": "failed", "output": "x"}),
        ("run.status", {"run": {"status": "failed"}, "output": "x"}),
        ("[text, blocked]", {"text": "x", "blocked": True}),
        ("[output, state]", {"state": "error", "output": "x", "session_id": "s"}),
        ("output", {"run_id": "r", "status": "completed", "output": "x"}),
        ("output", {"run": {"id": "r", "status": "COMPLETED"}, "output": "x"}),
        ("result", {"payment_id": 4, "status": "failed", "result": "x"}),
        ("result", {"id": "A1", "status": "failed", "result": "x"}),
        ("result", {"id": "A1", "state": "failed", "result": "x", "product": "pump"}),
        ("message", {"id": "pay_1", "state": "failed", "message": "x"}),
        ("message", {"order_id": 4, "status": "cancelled", "message": "x"}),
        ("answer", {"order": {"id": 4, "status": "cancelled"}, "answer": "x"}),
        ("answer", {"job": {"id": 4, "status": "failed"}, "answer": "x"}),
        ("job.title", {"job": {"title": "nurse", "status": "expired"}}),
        ("output", {"task": {"title": "buy milk", "status": "failed"}, "output": "x"}),
        ("text", {"run_id": "jog", "distance": 5, "status": "paused", "text": "x"}),
        ("data.result", {"customer": "Ada", "data": {"id": 4, "state": "failed", "result": "x"}}),
        ("order.result", {"order": {"id": 4, "state": "failed", "result": "x"}}),
        ("results[0].output", {"results": [{"run_id": 4, "status": "failed", "output": "x"}]}),
        ("[1].output", [{"run_id": 4, "output": "y"}, {"run_id": 5, "status": "failed", "output": "x"}]),
        ("category", {"run_id": 4, "status": "failed", "category": "x"}),
        ("text", {"text": "x", "blocked": True, "user": "Bo"}),
        ("text", {"id": 7, "text": "x", "truncated": True}),
        ("data[0].x", {"data": [{"x": 1}], "truncated": True}),
        ("answer", {"answer": "x", "is_error": False, "failed": False, "blocked": None}),
        ("answer", {"answer": "x", "failed": 3}),
        ("result", {"status": "failed", "result": "x", "steps": ["click"], "input": "y"}),
        ("result", {"status": "failed", "result": "x", "last_station": "Oslo"}),
        ("result", {"status": "failed", "result": "x", "tools": ["saw"]}),
        ("outputs[0].text", {"action": "GUARDRAIL_INTERVENED", "outputs": [{"text": "x"}], "usage": {}}),
    ],
)
def test_the_status_of_a_record_is_data(path, reply):
    """So is one that the mapping reads, and one of an object in a list."""
    assert values(path, reply)["a"]
