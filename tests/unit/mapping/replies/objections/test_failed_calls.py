"""Jobs of a queue that failed: their exception stands where their result would be."""

import json

import pytest

from service.domain.errors import AgentThrottledError, ReplyRejectedError
from service.mapping import Catalog


def values(path, reply):
    methods = [{"method": "direct", "field_mappings": {"a": path}}]
    files = {"e.yaml": json.dumps({"output_mappings": {"e": {"extraction_methods": methods}}})}
    return Catalog.load(files, {}).extractor("e").extract(reply).values


@pytest.mark.parametrize(
    "reply",
    [
        {"task_id": "4", "status": "FAILURE", "result": "KeyError('x')", "traceback": "Traceback"},
        {"task-id": "4", "state": "REVOKED", "result": "terminated"},
        {"state": "FAILED", "result": "KeyError('x')", "status": "FAILED"},
        {"job_id": "4", "state": "failed", "result": "KeyError('x')"},
        {"id": "4", "status": "FAILED", "result": "x", "createdAt": "2026-01-01", "isCompleted": True},
        {"data": {"task_id": "4", "status": "FAILURE", "result": "KeyError('x')"}},
    ],
)
def test_the_exception_of_a_job_is_no_result(reply):
    """The status of the job says that it failed."""
    with pytest.raises(ReplyRejectedError, match="the job has stat"):
        values("result || data.result", reply)


def test_a_job_that_met_a_throttle_is_one():
    """The text of the exception decides, as with other failures."""
    with pytest.raises(AgentThrottledError):
        values("result", {"task_id": "4", "status": "FAILURE", "result": "RateLimitError: too many requests"})


@pytest.mark.parametrize(
    ("path", "reply"),
    [
        ("result", {"task_id": "4", "status": "SUCCESS", "result": "x", "traceback": None}),
        ("status", {"task_id": "4", "status": "FAILURE", "result": "x"}),
        ("result", {"task_id": "4", "status": "failed", "result": "x", "assignee": "Bo"}),
        ("result", {"id": "A1", "status": "failed", "result": "x"}),
        ("result", {"device": "pump", "state": "FAILED", "result": "leak", "since": "May"}),
        ("result", {"id": 4, "status": "CANCELLED", "result": "2:0", "fixture": "Oslo v Bergen"}),
    ],
)
def test_the_status_of_a_record_is_data(path, reply):
    """Anything beside a result, a status and the keys of a job makes the reply a record."""
    assert values(path, reply)["a"] == reply[path]
