"""Reasons that a reply gives where a mapping has found nothing in it; beside a value they are data."""

import json
from collections.abc import Mapping

import pytest

from service.domain.errors import (
    AgentCredentialsError,
    AgentThrottledError,
    AgentUnavailableError,
    ExtractionError,
    ReplyPendingError,
    ReplyRejectedError,
    RowfleetError,
)
from service.domain.model import Json
from service.mapping import Catalog


def extract(reply: Json, paths: str | Mapping[str, str] = "answer", **keys: Json) -> dict[str, Json]:
    fields = {"a": paths} if isinstance(paths, str) else paths
    methods = [{"method": "direct", "field_mappings": fields}]
    text = json.dumps({"output_mappings": {"e": {"extraction_methods": methods, **keys}}})
    return Catalog.load({"e.yaml": text}, {}).extractor("e").extract(reply).values


@pytest.mark.parametrize(
    "reply",
    [
        {"id": "u1-e1", "status": "IN_QUEUE"},  # RunPod
        {"delayTime": 2188, "id": "u1", "status": "IN_PROGRESS"},
        {"status": "IN_QUEUE", "queue_position": 2, "response_url": "https://q", "request_id": "y"},  # fal
        {"id": "5", "status": "queued", "audio_url": "https://a", "language_code": "en", "text": None},
        {"id": "5", "status": "processing", "punctuate": True, "text": None},  # AssemblyAI
        {"status": "notStarted", "createdDateTime": "2021-09-24T12:54:35Z"},  # Document Intelligence
        {"status": "running", "createdDateTime": "2021-09-24T12:54:35Z"},
        {"id": "u", "model": "x", "status": "starting", "urls": {"get": "https://api.replicate.com"}},
        {"JobStatus": "IN_PROGRESS", "DocumentMetadata": {}},  # Textract
        {"TranscriptionJob": {"TranscriptionJobName": "j", "TranscriptionJobStatus": "IN_PROGRESS"}},
        {"executionArn": "arn:aws:states:x", "status": "RUNNING", "name": "n", "startDate": 1},
        {"id": "b", "object": "batch", "status": "validating", "output_file_id": None},
        {"id": "b", "type": "message_batch", "processing_status": "in_progress", "results_url": None},
        {"output": {"task_status": "PENDING", "task_id": "0385"}, "request_id": "r"},  # DashScope
        {"task_id": "abc", "status": "PENDING", "result": None},
        {"status": "SUBMITTED", "job_id": "j", "result": None},
        {"data": {"id": "run1", "actId": "a", "status": "RUNNING", "startedAt": "x"}},  # Apify
        {"success": True, "id": "fc", "url": "https://a", "status": "scraping", "total": 9, "data": []},
        {
            "jsonrpc": "2.0",
            "id": 2,
            "result": {"task": {"id": "t", "status": {"state": "TASK_STATE_WORKING"}}},
        },
        {"name": "projects/p/operations/1", "metadata": {"progressPercent": 34}},  # Google
    ],
)
def test_the_envelope_of_work_that_has_not_ended_is_pending(reply: Json) -> None:
    with pytest.raises(ReplyPendingError, match="the answer is not there yet"):
        extract(reply)
    # An empty result is none while the work goes on.
    with pytest.raises(ReplyPendingError):
        extract(reply, allow_empty=True)


def test_an_id_alone_is_no_answer_of_a_job_that_has_not_ended() -> None:
    """A job has an id from the start. A mapping that reads nothing else asks for just that."""
    reply = {"id": "u1", "status": "IN_QUEUE"}
    with pytest.raises(ReplyPendingError):
        extract(reply, {"job": "id", "text": "output.text"})
    assert extract(reply, {"job": "id"}) == {"job": "u1"}
    assert extract(reply, {"state": "status", "text": "output.text"}) == {"state": "IN_QUEUE", "text": None}


def test_an_id_is_an_answer_of_a_record() -> None:
    paths = {"order": "id", "note": "note"}
    assert extract({"id": 7, "status": "processing", "total": 4}, paths) == {"order": 7, "note": None}
    for job in (
        {"id": 7, "status": "processing"},
        {"id": 7, "status": "processing", "error": None, "lang": "en"},
    ):
        with pytest.raises(ReplyPendingError):
            extract(job, paths)


@pytest.mark.parametrize(
    ("reply", "path", "value"),
    [
        ({"id": 1, "status": "pending", "total": 40}, "total", 40),
        ({"id": 1, "status": "processing", "carrier": "UPS"}, "carrier", "UPS"),
        ({"order_status": "processing", "id": 1}, "order_status", "processing"),
        ({"orders": [{"id": 1, "status": "pending"}]}, "orders[0].status", "pending"),
        ({"url": "https://a", "status": 404, "title": "Not found"}, "title", "Not found"),
        ({"a": {"n": 1}, "errors": [{"message": "b failed"}]}, "a.n", 1),
    ],
)
def test_a_status_or_an_error_beside_a_value_is_data(reply: Json, path: str, value: Json) -> None:
    assert extract(reply, path)["a"] == value


@pytest.mark.parametrize(
    "reply",
    [
        {"id": 1, "status": "pending", "customer": "Ada"},  # an order
        {"order_status": "processing", "id": 1},
        {"status": "running", "name": "Ada"},
        {"id": 1, "status": "done"},
    ],
)
def test_other_records_are_not_pending(reply: Json) -> None:
    with pytest.raises(ExtractionError, match="no value for any of a"):
        extract(reply)


GRAPHQL = {"data": {"user": None}}


@pytest.mark.parametrize(
    ("reply", "path", "error", "words"),
    [
        (
            {**GRAPHQL, "errors": [{"message": "Could not resolve to a User", "type": "NOT_FOUND"}]},
            "data.user.name",
            ReplyRejectedError,
            "Could not resolve to a User",
        ),
        (
            {**GRAPHQL, "errors": [{"message": "oh", "extensions": {"code": "INTERNAL_SERVER_ERROR"}}]},
            "data.user.name",
            AgentUnavailableError,
            "oh",
        ),
        (
            {"data": {"create": {"product": None, "userErrors": [{"message": "Title is blank"}]}}},
            "data.create.product.id",
            ReplyRejectedError,
            "Title is blank",
        ),
        (
            {"responses": [{"error": {"code": 3, "message": "Bad image data."}}]},
            "responses[0].text",
            ReplyRejectedError,
            "Bad image data.",
        ),
        (
            {"responses": [{"error": {"code": 14, "message": "later"}}]},
            "responses[0].text",
            AgentUnavailableError,
            "later",
        ),
        (
            {"results": {"documents": [], "errors": [{"id": "1", "error": {"message": "Text is empty."}}]}},
            "results.documents[0].sentiment",
            ReplyRejectedError,
            "Text is empty.",
        ),
        (
            {"ParsedResults": [], "IsErroredOnProcessing": True, "ErrorMessage": ["No such file type"]},
            "ParsedResults[0].text",
            ReplyRejectedError,
            "No such file type",
        ),
        (
            {"meta": {"code": 429, "error_detail": "Quota exceeded"}, "response": {}},
            "response.venues[0].id",
            AgentThrottledError,
            "Quota exceeded",
        ),
        (
            {"code": 401, "message": "no key", "version": 3, "region": "eu"},
            "answer",
            AgentCredentialsError,
            "no key",
        ),
        ({"status": "UNKNOWN_ERROR", "results": []}, "results[0].x", AgentUnavailableError, "UNKNOWN_ERROR"),
    ],
)
def test_the_error_beside_what_was_not_found(
    reply: Json, path: str, error: type[RowfleetError], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        extract(reply, path)
    # An error of the row also says what was looked for.
    assert not isinstance(caught.value, ExtractionError) or "no value for any of a" in str(caught.value)
    with pytest.raises(ExtractionError) as plain:
        extract(reply, path, accept_errors=True)
    assert type(plain.value) is ExtractionError


@pytest.mark.parametrize(
    "reply",
    [
        {"statement_id": "s", "status": {"state": "PENDING"}},  # Databricks
        {"QueryExecution": {"QueryExecutionId": "q", "Status": {"State": "RUNNING"}}},  # Athena
        {"jobComplete": False, "jobReference": {"jobId": "j"}, "kind": "bigquery#queryResponse"},
        {"search_metadata": {"status": "Processing", "id": "x"}},  # SerpApi
        {"state": "RUNNING", "status": "RUNNING", "result": None, "last_step": {}},  # CrewAI
        {"status": "running", "current_task": "research", "progress": {"completed_tasks": 1}},
        {"status": "processing", "progress": 40},
        {"status": "in_progress", "output": []},
        {"generations_by_pk": {"status": "PENDING", "generated_images": [], "id": "g"}},  # Leonardo
    ],
)
def test_further_envelopes_of_work(reply: Json) -> None:
    with pytest.raises(ReplyPendingError):
        extract(reply)
