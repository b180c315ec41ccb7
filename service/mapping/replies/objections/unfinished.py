"""Answers that are not there yet: a response, a task or a run on which its provider still works.

| the reply | it is known by |
| --- | --- |
| `status` queued or in_progress, of OpenAI's Responses and of runs of its Assistants | `object` |
| A2A's states submitted and working | a task |
| `status` starting or processing (Replicate) | `output` that is null beside `logs`, or `id` and `error` |
| the same beside the part of the `output` that is there | `id`, `logs` and `urls` |
| `status` canceled or aborted (Replicate), whatever the `output` is | `logs`, or `id` and `error` |
| `status` pending, running, paused, interrupted … (LangGraph, Agno) | `run_id` beside other marks of a run |
| the same, or busy, of a thread (LangGraph) | `thread_id` beside its `values` |
| `status` running, paused or stopped under `data` (Dify) | `workflow_run_id` |
| `status` scraping (Firecrawl), whatever the `data` is | `completed` and `total` |
| `status` IN_PROGRESS beside the part of a `stream` that is there (RunPod) | `stream` |
| `is_running` and `is_partial` (async search of Elasticsearch) | both |
| `done: false` of a piece of a stream (Ollama) | `model` beside its text |
| `done: false` of an operation (Google), or none beside its `metadata` | its `name` with `operations/` |
| `timed_out`, failed `_shards` (Elasticsearch), `incomplete_results` (GitHub): a search gave up | such keys |
| the same: `partialResults` (Solr), `search_cutoff` (Typesense), a `remark` (Overpass) | keys beside |

Such a reply is tried again, unless the mapping reads its status or its id: then it has asked for just that.
Work that waits for somebody's input, or was stopped, will have no answer: it is rejected.

Sources: platform.openai.com/docs/guides/background, a2a-protocol.org/latest/specification,
replicate.com/docs/reference/http, docs.dify.ai (workflows), docs.langchain.com (LangGraph server),
cloud.google.com/apis (operations), docs.firecrawl.dev (crawl status), docs.runpod.io (stream),
elastic.co/docs (async search, search), docs.github.com/rest/search, solr.apache.org (timeAllowed),
typesense.org/docs (search), wiki.openstreetmap.org (Overpass API), docs.agno.com (human in the loop).
"""

from __future__ import annotations

from collections.abc import Iterator

from service.domain.errors import AgentUnavailableError, ReplyPendingError, ReplyRejectedError
from service.domain.model import Json
from service.mapping.replies.objections.failed_calls import has_marks_of_run
from service.mapping.replies.objections.objection import (
    Objection,
    Objections,
    entries,
    in_words,
    words,
)
from service.mapping.replies.objections.read_places import wrapped_documents
from service.mapping.replies.providers import a2a
from service.mapping.replies.text import str_or_empty

_OF_OPENAI = words("response thread.run")
_WAITING = words("queued in_progress starting processing pending running submitted working busy")
_ENDED = words("expired cancelled cancelling canceled aborted")
"""Statuses of runs that ended without an answer."""

_HALTED = words("paused interrupted suspended requires_action timeout timed_out")
"""Statuses of runs that wait for somebody's input, or were stopped. Predictions have none of them."""

_TEXTS_OF_RUNS = words("content output response result text message messages values")
_RUN_IDS = words("run_id runId")
_WORKFLOW = "the workflow"
_SEARCH, _MODEL = "the search", "the model"
_KEYS_OF_PARTS = {_SEARCH: "is_running", _MODEL: "done"}


def find_unfinished(document: Json) -> Objections:
    """The objection of a reply that says itself that its answer is not there yet, or will never be."""
    if isinstance(document, list) and document and _is_end_of_workflow(document[-1]):
        document = document[-1]
    if isinstance(document, list) and len(document) == 1:
        (document,) = document
    if not isinstance(document, dict):
        return
    yield from _of_work(document)
    for inner in wrapped_documents(document):
        yield from _of_work(inner)


def _of_work(document: dict[str, Json]) -> Objections:
    name, status, status_key = _work(document)
    if status in _WAITING:
        text = f"the answer is not there yet: {name} has status {status}"
        yield Objection(ReplyPendingError(text), status_key, "id")
    elif status in _ENDED or status in _HALTED or (name == _WORKFLOW and status == "stopped"):
        yield Objection(ReplyRejectedError(f"{name} has status {status}"), status_key, "required_action")
    for place in (document, *entries(document.get("responses"))):
        for key, says in _given_up(place):
            yield Objection(AgentUnavailableError(f"the results are only a part: {says}"), key)


def _work(document: dict[str, Json]) -> tuple[str, str, str]:  # noqa: PLR0911 -- one for each provider
    """The work that a document describes, in words; its status; the key that states it; "" without any."""
    status = str_or_empty(document.get("status"))
    kind = str_or_empty(document.get("object"))
    if kind in _OF_OPENAI:
        # A response that was cancelled has partial output, which its finish reason judges.
        return "the response" if kind == "response" else "the run", status, "status"
    for task in (document, document.get("task")):
        state = a2a.task_state(task)
        if state in {"submitted", "working"}:
            return "the task", state, "state"
    if _is_prediction(document, status):
        return "the prediction", status, "status"
    if "workflow_run_id" in document and isinstance(workflow := document.get("data"), dict):
        return _WORKFLOW, str_or_empty(workflow.get("status")), "status"
    if (name := _with_a_part(document, status)) is not None:
        return name, "running", _KEYS_OF_PARTS.get(name, "status")
    if _is_run(document):
        return "the run", status.lower(), "status"
    if {"thread_id", "values"} <= document.keys():
        return "the thread", status, "status"
    if "operations/" in str_or_empty(document.get("name")) and (
        document.get("done") is False or document.keys() == {"name", "metadata"}
    ):
        return "the operation", "running", "done"
    return "", "", ""


def _with_a_part(document: dict[str, Json], status: str) -> str | None:
    """The work of which a part is there: in words, else None."""
    if {"completed", "total", "data"} <= document.keys() and status == "scraping":
        return "the crawl"
    if isinstance(document.get("stream"), list) and status in {"IN_QUEUE", "IN_PROGRESS"}:
        return "the job"
    is_ollamas = "model" in document and not {"response", "message"}.isdisjoint(document)
    if is_ollamas and document.get("done") is False:
        return _MODEL
    return _SEARCH if document.get("is_running") is True and "is_partial" in document else None


def _given_up(document: dict[str, Json]) -> Iterator[tuple[str, str]]:
    """The key by which a search says that it has given up before its end, and the statement in words."""
    shards = document.get("_shards")
    if isinstance(shards, dict):
        if document.get("timed_out") is True:
            yield "timed_out", "timed_out is true"
        if isinstance(failed := shards.get("failed"), int) and failed:
            yield "_shards", f"{failed} of the shards failed"
    header = document.get("responseHeader")
    for key, holder, other_key in (
        ("incomplete_results", document, "items"),
        ("search_cutoff", document, "found"),
        ("partialResults", header if isinstance(header, dict) else {}, "status"),
    ):
        if holder.get(key) is True and other_key in holder:
            yield key, f"{key} is true"
    remark = str_or_empty(document.get("remark"))
    if remark.startswith("runtime error") and "elements" in document:
        yield "remark", in_words("the query failed", remark)


def _is_run(document: dict[str, Json]) -> bool:
    """True for a run of LangGraph, or of another agent with its text: `{run_id, agent_id, content}`."""
    if {"run_id", "assistant_id"} <= document.keys():
        return True
    has_text = not _TEXTS_OF_RUNS.isdisjoint(document)
    return has_text and not _RUN_IDS.isdisjoint(document) and has_marks_of_run(document)


def _is_prediction(document: dict[str, Json], status: str) -> bool:
    """True for a prediction of Replicate, or a job in its form. Its output grows, and stays when it ends."""
    if not {"status", "output"} <= document.keys():
        return False
    if document["output"] is None or status in _ENDED:
        return "logs" in document or {"id", "error"} <= document.keys()
    return {"id", "logs", "urls"} <= document.keys()


def _is_end_of_workflow(event: Json) -> bool:
    """True for the last event of a stream of Dify."""
    return (
        isinstance(event, dict) and event.get("event") == "workflow_finished" and "workflow_run_id" in event
    )
