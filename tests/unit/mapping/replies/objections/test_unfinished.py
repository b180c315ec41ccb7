"""Runs that wait or were stopped, and searches that gave up before their end."""

import json

import pytest

from service.domain.errors import AgentUnavailableError, ReplyPendingError, ReplyRejectedError
from service.mapping import Catalog

SHARDS = {"total": 5, "successful": 5, "skipped": 0, "failed": 0}


def values(path, reply, **keys):
    methods = [{"method": "direct", "field_mappings": {"a": path}}]
    files = {"e.yaml": json.dumps({"output_mappings": {"e": {"extraction_methods": methods, **keys}}})}
    return Catalog.load(files, {}).extractor("e").extract(reply).values


def search(**more):
    """A reply of Elasticsearch."""
    return {"took": 5, "timed_out": False, "_shards": SHARDS, "hits": {"total": {"value": 12}}} | more


def run(status):
    """A run of Agno."""
    return {"run_id": "r", "agent_id": "a", "session_id": "s", "content": "12", "status": status}


def graph_run(status):
    """A run of LangGraph."""
    return {"run_id": "r", "thread_id": "t", "assistant_id": "a", "status": status, "values": {"x": "12"}}


PARTS = [
    ("hits.total.value", search(timed_out=True), "timed_out is true"),
    ("hits.total.value", search(_shards=SHARDS | {"failed": 2}), "2 of the shards failed"),
    ("data.hits.total.value", {"data": search(timed_out=True)}, "timed_out is true"),
    ("count", {"count": 12, "_shards": SHARDS | {"failed": 1}}, "1 of the shards failed"),
    ("responses[0].hits.total.value", {"responses": [search(timed_out=True)]}, "timed_out is true"),
    ("total_count", {"total_count": 12, "incomplete_results": True, "items": []}, "incomplete_results"),
    (
        "response.numFound",
        {"responseHeader": {"status": 0, "partialResults": True}, "response": {"numFound": 12}},
        "partialResults is true",
    ),
    ("found", {"found": 12, "hits": [], "search_cutoff": True}, "search_cutoff is true"),
    ("length(elements)", {"elements": [{}], "remark": "runtime error: Query timed out"}, "Query timed out"),
]


@pytest.mark.parametrize(("path", "reply", "says"), PARTS)
def test_a_part_of_the_results_is_tried_again(path, reply, says):
    """A search that ran out of time has found only some of what there is; a later call may find all."""
    with pytest.raises(AgentUnavailableError, match=says):
        values(path, reply)
    assert values(path, reply, accept_errors=True)["a"]


@pytest.mark.parametrize(
    ("path", "reply", "value"),
    [
        ("hits.total.value", search(), 12),
        ("[hits.total.value, timed_out]", search(timed_out=True), [12, True]),
        ("total_count", {"total_count": 12, "incomplete_results": False, "items": []}, 12),
        ("_seq_no", {"result": "created", "_shards": SHARDS, "_seq_no": 1}, 1),
        ("device", {"device": "pump", "timed_out": True}, "pump"),
        ("text", {"text": "x", "remark": "runtime error in chapter 2"}, "x"),
    ],
)
def test_whole_results_and_marks_that_the_mapping_reads_are_answers(path, reply, value):
    """A mapping that reads the mark decides itself."""
    assert values(path, reply)["a"] == value


@pytest.mark.parametrize(
    ("path", "reply"),
    [
        ("content", run("PAUSED")),
        ("content", run("CANCELLED")),
        ("result.content", {"result": run("PAUSED")}),
        ("[0].content", [run("PAUSED")]),
        ("values.x", graph_run("interrupted")),
        ("values.x", graph_run("timeout")),
        ("values.x", {"thread_id": "t", "status": "interrupted", "values": {"x": "12"}, "interrupts": {}}),
        ("data.outputs.x", {"workflow_run_id": "w", "data": {"status": "paused", "outputs": {"x": "12"}}}),
        ("metadata.x", {"object": "thread.run", "status": "requires_action", "metadata": {"x": "12"}}),
    ],
)
def test_a_run_that_waits_or_was_stopped_is_no_answer(path, reply):
    """Its text says what it asks for, or is what was there when it stopped."""
    with pytest.raises(ReplyRejectedError, match="has status"):
        values(path, reply)
    assert values(path, reply, accept_errors=True)["a"] == "12"


@pytest.mark.parametrize(("path", "reply"), [("content", run("RUNNING")), ("values.x", graph_run("running"))])
def test_a_run_with_a_part_of_its_text_is_tried_again(path, reply):
    """It has not ended."""
    with pytest.raises(ReplyPendingError):
        values(path, reply)


@pytest.mark.parametrize(
    ("path", "reply", "value"),
    [
        ("content", run("COMPLETED"), "12"),
        ("result.status", {"result": run("PAUSED")}, "PAUSED"),
        ("[1].content", [run("COMPLETED"), run("PAUSED")], "12"),
        ("status", run("PAUSED"), "PAUSED"),
        ("text", {"run_id": "jog", "distance": 5, "status": "paused", "text": "x"}, "x"),
        ("metrics.loss", {"run_id": "r", "model": "m", "metrics": {"loss": 2}, "status": "RUNNING"}, 2),
        ("values.x", {"thread_id": "t", "status": "idle", "values": {"x": "12"}}, "12"),
        ("required_action", {"object": "thread.run", "status": "requires_action", "required_action": 1}, 1),
    ],
)
def test_the_status_of_other_records_is_data(path, reply, value):
    """So is the status of a run for a mapping that reads it."""
    assert values(path, reply)["a"] == value
