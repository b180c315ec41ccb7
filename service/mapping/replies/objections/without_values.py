"""Objections that count only where a mapping has found nothing: the reply then says why, in looser forms.

| the reply has | it is |
| --- | --- |
| a status or state such as `IN_QUEUE` or `notStarted`, beside an id, a time, a stage or no result | pending |
| a code from 400 to 599 beside a message, also under `meta` or `header` | the error of that status |
| `error`, `errors` and the like in an object on a path: GraphQL's, those of one item | that error |
| status `UNKNOWN_ERROR` (Google Maps) | a failure of the server |

The same forms beside a value that was found are data: an order that is being processed, the status of a page.

Sources: docs.runpod.io (operations), fal.ai/docs (queue), assemblyai.com/docs (transcripts),
learn.microsoft.com (Document Intelligence), docs.apify.com (runs), docs.aws.amazon.com (Textract,
Transcribe), spec.graphql.org (Errors), cloud.google.com/vision (AnnotateImageResponse),
developers.google.com/maps.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from service.domain.errors import AgentRetryableError, AgentUnavailableError, ReplyPendingError
from service.domain.model import Json
from service.domain.provider_errors import classify_error, error_summary, says_something
from service.domain.stated.facts import GRPC_PASSING
from service.mapping.replies.normalise import ReplyView
from service.mapping.replies.objections.classification import (
    error_status,
    is_about_the_target,
    rejection,
    stated_error,
)
from service.mapping.replies.objections.objection import (
    Objection,
    Objections,
    entries,
    in_words,
    is_stage,
    words,
)
from service.mapping.replies.objections.read_places import places_on_paths, snake_case
from service.mapping.replies.text import str_or_empty

_WORK = (
    "job|task|run|operation|request|query|execution|processing|process|workflow|batch|generation|prediction"
)
_STATE_KEY = re.compile(rf"(?P<work>(?:\w+_)?(?:{_WORK})_)?(?:status|state)")
_WORK_KEY = re.compile(rf"(?:\w+_)?(?:{_WORK}|meta|metadata)|data|result|output|response")
"""Keys under which a reply has the work that it is about."""

_AT_WORK = words(
    "queued in_queue enqueued in_progress processing running not_started starting working executing"
    " validating finalizing preparing initializing scraping transcribing analyzing generating rendering"
)
_MAYBE_AT_WORK = words("pending submitted accepted created scheduled started waiting")
"""Statuses also of what a reply is about. They count where nothing else is in it."""

_ID = re.compile(r"(?:\w+_)?(?:id|uuid|sid|arn|token|job_name|task_name)|(?:response|status|polling)_url")
_TIME = re.compile(
    r"(?:created|submitted|started|last_updated|updated|creation|submission|start)_(?:at|time|date|date_?time)"
)
_BOOKKEEPING = re.compile(
    r"(?:\w+_)?(?:id|ids|uuid|sid|arn|urls?|links?|at|time|date|datetime|token|position|status|state|progress|percent)"
    r"|logs?|message|msg|object|model|version|input|metrics|metadata|meta|type|kind|eta|created|updated|started"
    r"|success|ok|code|webhook|attempts?|priority|stats|options|kwargs|config|name"
)
_CODE_KEYS = (
    *("status", "statusCode", "status_code", "code", "cod", "httpStatus", "http_status", "httpCode"),
    *("errorCode", "error_code"),
)
_TEXT_KEYS = words(
    "message msg detail title error error_message errorMessage error_detail error_type reason description"
    " info error_description httpMessage moreInformation"
)
_HEADS = ("meta", "header", "head", "responseHeader", "status")
_ERROR_KEYS = (
    *("error", "errors", "Error", "Errors", "userErrors", "user_errors", "ErrorList", "fault", "Fault"),
    *("ErrorMessage", "errorMessage", "error_message", "errorDescription", "failed_results"),
)
_RESULTS = words("result results output outputs response answer data")
_PROGRESS = words("progress percent percentage eta eta_seconds queue_position")
_ONLY_A_TEXT = words("message detail msg request_id requestId")
_MAX_INNER = 20


def find_pending(view: ReplyView, *, has_id: bool = False) -> Objections:
    """The objection to a reply that is the envelope of work which has not ended.

    With `has_id` the mapping has found an id in it. Then it may as well be a record, such as an order that is
    being processed.
    """
    for document in view.documents:
        if not isinstance(document, dict):
            continue
        inner = [
            value
            for key, value in document.items()
            if len(document) == 1 or _WORK_KEY.fullmatch(snake_case(key))
        ]
        for envelope in [document, *entries(inner)[:_MAX_INNER]]:
            if has_id and _may_be_a_record(envelope):
                continue
            for key, status in _waiting(envelope):
                text = f"the answer is not there yet: {key} is {status!r}"
                yield Objection(ReplyPendingError(text), key)


def is_id(key: str) -> bool:
    """True for the key of an id."""
    return _ID.fullmatch(snake_case(key)) is not None


def find_reasons(view: ReplyView, keys: Collection[str]) -> Objections:
    """The errors that a reply states somewhere, in which paths with these keys have found nothing."""
    for document in view.documents:
        if isinstance(document, dict):
            yield from _coded(document)
            if document.keys() <= _ONLY_A_TEXT and is_about_the_target(document):
                yield stated_error(document, "the reply states an error", error_summary(document), "")
            for head in entries([document.get(key) for key in _HEADS]):
                yield from _coded(head)
            status = str_or_empty(document.get("status"))
            if status.isupper() and (status == "UNKNOWN_ERROR" or is_about_the_target({"code": status})):
                text = in_words(f"the reply has status {status}", error_summary(document))
                yield Objection(classify_error({"code": status}, text), "status")
    for place, _ in places_on_paths(view.root, keys):
        yield from _errors_in(place)


def _waiting(envelope: dict[str, Json]) -> Iterator[tuple[str, str]]:
    """Key and value of the status by which work has not ended."""
    if envelope.get("jobComplete") is False:  # BigQuery
        yield "jobComplete", "false"
    names = {snake_case(key) for key in envelope}
    is_marked = any(_ID.fullmatch(name) or _TIME.fullmatch(name) or is_stage(name) for name in names)
    # A result that is null or empty, or how far the work has come.
    is_marked = is_marked or any(not envelope[key] for key in _RESULTS if key in envelope)
    is_marked = is_marked or not _PROGRESS.isdisjoint(names)
    for key, stated in envelope.items():
        found = _STATE_KEY.fullmatch(snake_case(key))
        # Databricks and Athena have an object.
        value = stated.get("state", stated.get("State")) if isinstance(stated, dict) else stated
        if found is None or not isinstance(value, str) or not (is_marked or found["work"]):
            continue
        state = snake_case(value).strip("_").removeprefix("task_state_")
        if state in _AT_WORK or (state in _MAYBE_AT_WORK and _is_bookkeeping(envelope)):
            yield key, value


def _may_be_a_record(envelope: dict[str, Json]) -> bool:
    """True for an object with a status `processing` and other content; a job has a key for its error."""
    statuses = {str(value).lower() for value in envelope.values() if isinstance(value, str)}
    return "processing" in statuses and "error" not in envelope and not _is_bookkeeping(envelope)


def _is_bookkeeping(envelope: dict[str, Json]) -> bool:
    return all(not value or _BOOKKEEPING.fullmatch(snake_case(key)) for key, value in envelope.items())


def _coded(document: dict[str, Json]) -> Objections:
    """The error of a code beside a text."""
    key = next((key for key in _CODE_KEYS if error_status(document.get(key))), "")
    if key and any(isinstance(document.get(text), str) and document[text] for text in _TEXT_KEYS):
        status = error_status(document[key])
        text = in_words(f"the reply has {key} {status}", error_summary(document))
        yield Objection(classify_error(document, text, status=status), key)


def _errors_in(place: dict[str, Json]) -> Objections:
    for key in _ERROR_KEYS:
        value = place.get(key)
        if not says_something(value) or not isinstance(value, str | dict | list):
            continue
        detail = error_summary(value)
        if not detail:
            continue
        is_of_google = isinstance(value, dict) and value.keys() <= {"code", "message", "details", "status"}
        if isinstance(value, dict) and is_of_google and value.get("code") in GRPC_PASSING:
            yield Objection(AgentUnavailableError(in_words("the reply states an error", detail)), key)
        facts: Json = value if isinstance(value, dict | list) else {"message": value}
        yield rejection(facts, "the reply states an error", detail, key)


def is_passing(objection: Objection) -> bool:
    """True if a later call may have another reply."""
    return isinstance(objection.error, AgentRetryableError)
