"""Envelopes of work that failed, was paused or was cut off, around the values that a mapping reads.

| the object has | beside its result and bookkeeping |
| --- | --- |
| the id of a run, a job or a session, and a status such as `failed`, `paused` | `{runId, status, text}` |
| an `id`, and a `state` of this kind or a status in capitals | `{id, state: failed, result}` (BullMQ) |
| such a status, and an error in words, or a stage of work | `{status: failed, error_message, text}` |
| a status that is called one of work, or is in an object | `{state: {result_state: FAILED}}` (Databricks) |
| an object of a run, a job and the like that has such a status | `{run: {status: FAILED}, output}` |
| a flag that is true: `isError`, `has_error`, `failed`, `truncated`, `blocked` | `{answer, isError: true}` |

Any other key makes the object a record, such as a payment or a test, whose status is data. So is a status
that the mapping reads, and that of an object in a list or under a key that is none of an envelope.

Sources: docs.databricks.com (jobs, runs/get-output), docs.bullmq.io (job states), mastra.ai/docs (suspend
and resume), modelcontextprotocol.io (tools, isError), platform.claude.com/docs (tool_result, is_error),
github.com/ggml-org/llama.cpp (server, truncated).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from functools import lru_cache

from service.domain.errors import ReplyTruncatedError
from service.domain.model import Json
from service.domain.provider_errors import error_summary, says_something
from service.mapping.replies.objections.classification import rejection
from service.mapping.replies.objections.failed_calls import has_marks_of_run
from service.mapping.replies.objections.objection import (
    WRAPPER_KEYS,
    Objection,
    Objections,
    is_stage,
    words,
)
from service.mapping.replies.objections.read_places import snake_case

_FAILED = words(
    "failed failure fail error errored crashed aborted timed_out timeout cancelled canceled revoked killed"
    " internal_error partial_failure partially_failed paused suspended interrupted halted stopped expired"
    " requires_action input_required requires_input awaiting_input waiting_for_input waiting_for_approval"
    " tripwire"
)
_CUT_OFF = words("incomplete truncated")
"""A status of this kind, or a flag, is a matter of `allow_truncated`."""

_NO_ANSWER = _FAILED | _CUT_OFF

_WORK = "run|job|task|execution|prediction|workflow|flow|crew|pipeline"
_WORK_KEY = re.compile(rf"(?:\w+_)?(?:{_WORK})(?:_(?:response|result|output|info|status|state|metadata))?")
_METADATA = words("metadata meta")
_STATE_KEY = re.compile(rf"(?:(?:\w+_)?(?:{_WORK}|result|life_cycle)_)?(?:status|state)")
_WORK_ID = re.compile(rf"(?:\w+_)?(?:{_WORK}|statement|query|session|thread|agent|conversation)_(?:id|uuid)")
_RESULT = re.compile(r"(?:\w+_)?(?:result|output)s?")
_CONTENT = re.compile(r"response|content|completion|generated_text|data|values?")
_TEXT = re.compile(r"answer|reply|text|messages?")
"""Beside an object of work, a text under these keys may be about it: an answer about a job that failed."""

_ERROR = re.compile(
    r"(?:error|failure|exception|state|status)_(?:message|msg|text|type|code|details?|reason)"
    r"|errors?|exception|traceback|stack_trace|exc_info"
)
_BOOKKEEPING = re.compile(
    r"(?:(?:trace|message|request|response|correlation|parent|root|worker|user|tenant|team|assistant)_)?"
    r"(?:id|uuid)|(?:\w+_)?(?:at|time|date|datetime|ms|seconds|urls?|payload|usage|count|tokens|identifier)"
    r"|(?:num|total|is)_\w+|duration|elapsed|latency|cost|progress|percent|pages|steps|turns|attempts?|retries"
    r"|logs?|kind|object|model|version|inputs?|args|kwargs|metrics|metadata|meta|children|queue|worker|suspended"
    r"|timestamp|created|updated|started|finished|completed|success|ok|reason"
    r"|tools|tool_calls|tool_executions|events|requirements|citations|references|reasoning\w*|content_type"
    r"|model_provider\w*|(?:agent|team|workflow)_name|session_state|session_data|tripwire(?:_reason)?"
)
_FLAGS = words("is_error has_error failed truncated blocked")
_FLAGS_OF_TEXTS = words("truncated blocked")
"""Of a list, they say that there is more of it."""

_MOST_KEYS = 40
_LONGEST_KEY = 60
_LONGEST_STATUS = 40


def find_failed_envelopes(root: Json, keys: Collection[str]) -> Objections:
    """The objections by the envelopes on the paths to the values; `keys` are those that the paths name."""
    for place, is_work in _envelopes_on_paths(root, keys):
        for key, value in place.items():
            if key in keys and not isinstance(value, dict):
                continue
            if value is True and _name(key) in _FLAGS:
                yield from _flagged(place, key)
            elif isinstance(value, str) and _is_status(key, value):
                is_of_work = is_work or _is_work_key(key) or _is_marked(place, key, value)
                if is_of_work and _is_envelope(place):
                    yield _objection(place, f"the reply has {key} {value}", key, value)
            elif isinstance(value, dict) and _is_small(value):
                yield from _held(place, key, value, keys)


def _envelopes_on_paths(root: Json, keys: Collection[str]) -> Iterator[tuple[dict[str, Json], bool]]:
    """The objects that may be envelopes, and True for those under a key of work or with marks of a run."""
    if isinstance(root, list) and len(root) == 1:
        (root,) = root
    waiting = [(root, False)]
    while waiting:
        place, is_work = waiting.pop()
        if not isinstance(place, dict) or not _is_small(place):
            continue
        yield place, is_work
        for key in keys:
            inner = place.get(key)
            if not isinstance(inner, dict):
                continue
            is_only_around = all(_is_result(name) or _is_bookkeeping(name) for name in place)
            if has_marks_of_run(inner):
                waiting.append((inner, True))
            elif is_only_around and (key in WRAPPER_KEYS or _is_work_key(key)):
                waiting.append((inner, _is_work_key(key)))


def _held(place: dict[str, Json], key: str, holder: dict[str, Json], keys: Collection[str]) -> Objections:
    """The objection by the status of an object that is about the work: its run, its state, its metadata."""
    name = _name(key)
    is_state, is_work = _is_state_key(key), _is_work_key(key)
    if not (is_state or is_work or name in _METADATA) or not _is_envelope(place, about_work=is_work):
        return
    for inner_key, status in holder.items():
        if isinstance(status, dict) and _is_small(status) and not is_state and _is_state_key(inner_key):
            yield from _held({**place, **holder}, inner_key, status, keys)
        if not isinstance(status, str) or inner_key in keys or not _is_status(inner_key, status):
            continue
        is_whole = is_work and all(map(_is_bookkeeping, holder))
        if is_whole or _is_work_key(inner_key) or _is_marked({**holder, **place}, inner_key, status):
            yield _objection({**holder, **place}, f"the reply has {inner_key} {status}", inner_key, status)


def _is_small(place: dict[str, Json]) -> bool:
    """True for an object of a few short keys, as envelopes are."""
    return len(place) <= _MOST_KEYS and all(len(key) <= _LONGEST_KEY for key in place)


def _is_status(key: str, value: str) -> bool:
    """True for a status or a state of work that has no answer, or a part of one."""
    if len(value) > _LONGEST_STATUS or not _is_state_key(key):
        return False
    return _name(value).removeprefix("task_state_") in _NO_ANSWER


def _objection(place: dict[str, Json], text: str, key: str, status: str) -> Objection:
    if _name(status) in _CUT_OFF:
        return Objection(ReplyTruncatedError(f"{text} (raise the limit, or set allow_truncated: true)"), key)
    reason = _reason(place)
    return rejection({"message": reason}, text, reason, key)


def _is_marked(place: dict[str, Json], key: str, status: str) -> bool:
    """True if an object with a status is known as one of work: by an id of a run, or an error in words."""
    if any(_WORK_ID.fullmatch(_name(name)) for name in place):
        return True
    if any(_ERROR.fullmatch(_name(name)) and says_something(place[name]) for name in place):
        return True
    # CrewAI names the stage; Mastra has an object of the steps, and what they were given.
    if any(map(is_stage, map(_name, place))) or ("input" in place and isinstance(place.get("steps"), dict)):
        return True
    has_id = not {"id", "uuid"}.isdisjoint(place)
    is_of_machine = status.isupper() or _name(key) == "state"
    return has_id and is_of_machine and any(_RESULT.fullmatch(_name(name)) for name in place)


def _is_envelope(place: dict[str, Json], *, about_work: bool = False) -> bool:
    """True if an object has a result, and nothing else but bookkeeping."""
    has_result = any(
        says_something(place[key]) and _is_result(key) and not (about_work and _TEXT.fullmatch(_name(key)))
        for key in place
    )
    return has_result and all(_is_result(key) or _is_bookkeeping(key) for key in place)


def _flagged(place: dict[str, Json], key: str) -> Objections:
    """The objection by a flag beside an answer. With an id of its own, the object may be a record."""
    name = _name(key)
    has_own_id = "id" in place and name != "is_error"
    has_text = any(isinstance(value, str) and _is_result(other) for other, value in place.items())
    if _is_envelope(place) and not has_own_id and (has_text or name not in _FLAGS_OF_TEXTS):
        yield _objection(place, f"the reply says {key}: true", key, name)


def _reason(place: dict[str, Json]) -> str:
    """The reason in the words of the envelope: its error, else its text."""
    errors = (place[key] for key in place if _ERROR.fullmatch(_name(key)))
    said = next((error for error in errors if says_something(error)), None)
    if isinstance(said, dict | list):
        return error_summary(said)
    if isinstance(said, str):
        return said
    return next((value for key, value in place.items() if _is_result(key) and isinstance(value, str)), "")


@lru_cache(maxsize=1_000)
def _name(key: str) -> str:
    return snake_case(key).strip("_")


@lru_cache(maxsize=1_000)
def _is_work_key(key: str) -> bool:
    name = _name(key)
    is_state = name in {"result_state", "life_cycle_state"}
    return is_state or _WORK_KEY.fullmatch(name) is not None


@lru_cache(maxsize=1_000)
def _is_state_key(key: str) -> bool:
    return _STATE_KEY.fullmatch(_name(key)) is not None


@lru_cache(maxsize=1_000)
def _is_result(key: str) -> bool:
    return any(pattern.fullmatch(_name(key)) for pattern in (_RESULT, _CONTENT, _TEXT))


@lru_cache(maxsize=1_000)
def _is_bookkeeping(key: str) -> bool:
    name = _name(key)
    patterns = (_BOOKKEEPING, _WORK_ID, _STATE_KEY, _ERROR, _WORK_KEY)
    return name in _FLAGS or is_stage(name) or any(pattern.fullmatch(name) for pattern in patterns)
