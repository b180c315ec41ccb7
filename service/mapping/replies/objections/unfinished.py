"""Answers that are not there yet: a response, a task or a run on which its provider still works.

| the reply | it is known by |
| --- | --- |
| `status` queued or in_progress, of OpenAI's Responses and of runs of its Assistants | `object` |
| A2A's states submitted and working | a task |
| `status` starting or processing (Replicate) | `output` that is null beside `logs`, or `id` and `error` |
| the same beside the part of the `output` that is there | `id`, `logs` and `urls` |
| `status` canceled or aborted (Replicate), whatever the `output` is | `logs`, or `id` and `error` |
| `status` pending or running (LangGraph) | `run_id` beside `assistant_id` |
| `status` running or stopped under `data` (Dify) | `workflow_run_id` |
| `status` scraping (Firecrawl), whatever the `data` is | `completed` and `total` |
| `status` IN_PROGRESS beside the part of a `stream` that is there (RunPod) | `stream` |
| `is_running` and `is_partial` (async search of Elasticsearch) | both |
| `done: false` of an operation (Google), or none beside its `metadata` | its `name` with `operations/` |

Such a reply is tried again, unless the mapping reads its status or its id: then it has asked for just that.

Sources: platform.openai.com/docs/guides/background, a2a-protocol.org/latest/specification,
replicate.com/docs/reference/http, docs.dify.ai (workflows), docs.langchain.com (LangGraph server),
cloud.google.com/apis (operations), docs.firecrawl.dev (crawl status), docs.runpod.io (stream),
elastic.co/docs (async search).
"""

from __future__ import annotations

from service.domain.errors import ReplyPendingError, ReplyRejectedError
from service.domain.model import Json
from service.mapping.replies.objections.objection import Objection, Objections, words
from service.mapping.replies.providers import a2a
from service.mapping.replies.text import str_or_empty

_OF_OPENAI = words("response thread.run")
_WAITING = words("queued in_progress starting processing pending running submitted working")
_ENDED = words("expired cancelled cancelling canceled aborted")
"""Statuses of runs that ended without an answer."""

_WORKFLOW = "the workflow"
_SEARCH = "the search"


def find_unfinished(document: Json) -> Objections:
    """The objection of a reply that says itself that its answer is not there yet, or will never be."""
    if isinstance(document, list) and document and _is_end_of_workflow(document[-1]):
        document = document[-1]
    if not isinstance(document, dict):
        return
    name, status, status_key = _work(document)
    if status in _WAITING:
        text = f"the answer is not there yet: {name} has status {status}"
        yield Objection(ReplyPendingError(text), status_key, "id")
    elif status in _ENDED or (name == _WORKFLOW and status == "stopped"):
        yield Objection(ReplyRejectedError(f"{name} has status {status}"), status_key)


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
        return name, "running", "is_running" if name == _SEARCH else "status"
    if {"run_id", "assistant_id"} <= document.keys():
        return "the run", status, "status"
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
    return _SEARCH if document.get("is_running") is True and "is_partial" in document else None


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
