"""What travels on the queues: ASCII JSON with a version, decoded strictly.

Pure. A body that fits nothing here raises PoisonMessageError with the reason; it is for the dead-letter
queue, not for a guess.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

import orjson

from service.domain.errors import (
    PoisonMessageError,
)
from service.domain.model import (
    MAX_DEADLINE_S,
    MAX_MS,
    MAX_PRIORITY,
    MAX_ROUND,
    MAX_ROWS,
    MAX_WEIGHT,
    Location,
    Source,
    is_name,
)

VERSION = 1

MAX_OBJECT_BYTES = 50 * 2**40
"""Largest object (S3 quota: 50 TB since December 2025): no offset lies beyond."""

MAX_LOST = 10_000
"""Deliveries of one row: more than any queue allows (SQS: maxReceiveCount is at most 1,000)."""

_OPTIONS = {
    "deadline_s": MAX_DEADLINE_S,
    "limit": MAX_ROWS,
    "priority": MAX_PRIORITY,
    "weight": MAX_WEIGHT,
}
"""Job options, each a whole number from 1 to this, and named as its field of `Job`."""

_LATER_OPTIONS = ("approve", "paused")
"""Job options of the design that this version does not carry out: refused in words, never ignored."""


@dataclass(frozen=True, slots=True)
class Span:
    """Where in its source a record stands: the byte `offset`, the `length` in bytes, the physical `line`."""

    offset: int
    length: int
    line: int


@dataclass(frozen=True, slots=True)
class RowMessage:
    """One row to process. Times are in milliseconds since 1970; None if there is none yet.

    `defect`: the reason why the row fails without a call of the agent. `replay`: the row may have been sent
    before, so its worker looks for an outcome first. `span`: a row too large for a message has this place in
    the source instead of cells and defect; its worker reads it there.

    `deadline_ms`: the row's own deadline, set at its first attempt. `first_attempt_ms`: the beginning of its
    first attempt, from which `retry_policy.budget_seconds` counts. `last_outage_ms`: the time when an attempt
    last met an outage of the target. `lost_deliveries`: deliveries of the row's earlier messages that ended
    without an outcome and without a new message, probably because the worker crashed.
    """

    batch_id: str
    round: int
    number: int
    cells: tuple[str, ...]
    attempt: int = 1
    replay: bool = False
    defect: str = ""
    span: Span | None = None
    deadline_ms: int | None = None
    lost_deliveries: int = 0
    first_attempt_ms: int | None = None
    last_outage_ms: int | None = None

    def encode(self) -> str:
        """The body: absent keys are defaults."""
        body: dict[str, Any] = {
            "v": VERSION,
            "batch": self.batch_id,
            "round": self.round,
            "row": self.number,
        }
        if self.span is None:
            body["cells"] = self.cells
        else:
            body["span"] = {"offset": self.span.offset, "length": self.span.length, "line": self.span.line}
        if self.attempt > 1:
            body["attempt"] = self.attempt
        if self.replay:
            body["replay"] = True
        if self.defect:
            body["defect"] = self.defect
        if self.deadline_ms is not None:
            body["until_ms"] = self.deadline_ms
        if self.lost_deliveries:
            body["lost"] = self.lost_deliveries
        if self.first_attempt_ms is not None:
            body["since_ms"] = self.first_attempt_ms
        if self.last_outage_ms is not None:
            body["excused_ms"] = self.last_outage_ms
        return encode(body)

    @classmethod
    def decode(cls, body: str) -> RowMessage:
        """Raises PoisonMessageError."""
        data = _versioned(body)
        span = _span(data) if "span" in data else None
        cells = _field(data, "cells", list) if span is None else []
        if not all(isinstance(cell, str) for cell in cells):
            raise PoisonMessageError("'cells' holds something that is not a string")
        return cls(
            batch_id=_batch_id(data),
            round=_whole(data, "round", MAX_ROUND),
            number=_whole(data, "row", MAX_ROWS),
            cells=tuple(cells),
            attempt=_whole(data, "attempt", 10**6) if "attempt" in data else 1,
            replay=_field(data, "replay", bool) if "replay" in data else False,
            defect=_field(data, "defect", str) if "defect" in data else "",
            span=span,
            deadline_ms=_whole(data, "until_ms", MAX_MS) if "until_ms" in data else None,
            lost_deliveries=_whole(data, "lost", MAX_LOST) if "lost" in data else 0,
            first_attempt_ms=_whole(data, "since_ms", MAX_MS) if "since_ms" in data else None,
            last_outage_ms=_whole(data, "excused_ms", MAX_MS) if "excused_ms" in data else None,
        )


@dataclass(frozen=True, slots=True)
class AggregateMessage:
    """Every row of this round has an outcome: write the result."""

    batch_id: str
    round: int

    def encode(self) -> str:
        """The body."""
        return encode({"v": VERSION, "batch": self.batch_id, "round": self.round})

    @classmethod
    def decode(cls, body: str) -> AggregateMessage:
        """Raises PoisonMessageError."""
        data = _versioned(body)
        return cls(batch_id=_batch_id(data), round=_whole(data, "round", MAX_ROUND))


@dataclass(frozen=True, slots=True)
class Job:
    """A run that was asked for: by a job message, or by an object dropped under `incoming/`.

    `execution_id` is empty where it is to be derived from the source; `dropped` tells the two origins apart;
    `sequencer` is S3's, so that two uploads of the same bytes are two runs. A `problem` fails the batch.
    An option that was not given is None.
    """

    mapping: str
    source: Source
    execution_id: str = ""
    output: Location | None = None
    limit: int | None = None
    deadline_s: int | None = None
    priority: int | None = None
    weight: int | None = None
    dropped: bool = False
    sequencer: str = ""
    problem: str = ""

    def encode(self) -> str:
        """The job message that asks for this run; of the source it names the place only."""
        body: dict[str, Any] = {"v": VERSION, "mapping": self.mapping, "source": self.source.url}
        if self.execution_id:
            body["execution_id"] = self.execution_id
        if self.output is not None:
            body["output"] = self.output.url()
        options = {name: getattr(self, name) for name in _OPTIONS}
        if given := {name: value for name, value in options.items() if value is not None}:
            body["options"] = given
        return encode(body)


def encode(body: dict[str, Any]) -> str:
    """Compact ASCII JSON: SQS takes only some of Unicode."""
    return json.dumps(body, separators=(",", ":"))


def decode_ingest(body: str, *, incoming_prefix: str = "incoming/") -> tuple[Job, ...]:
    """The jobs in an ingest message: a job, or an S3 event, plain or wrapped by SNS or EventBridge.

    () for what asks for nothing: S3's own test event, deletions, keys that are no CSV of a mapping.
    Raises PoisonMessageError with the reason for everything else.
    """
    data = _object(body)
    if isinstance(data.get("Message"), str) and "TopicArn" in data:
        data = _object(data["Message"])
    if data.get("Event") == "s3:TestEvent":
        return ()
    if data.get("source") == "aws.s3" and "detail" in data:
        return _dropped(_event_bridge_object(data), incoming_prefix)
    if isinstance(data.get("Records"), list):
        records = [_s3_record(record) for record in data["Records"]]
        return tuple(job for record in records for job in _dropped(record, incoming_prefix))
    if "mapping" in data or "source" in data:
        return (_job(data),)
    raise PoisonMessageError(
        'neither a job ({"v": 1, "mapping": …, "source": "s3://…"}) nor an S3 event notification'
    )


def parse_url(url: str) -> tuple[str, str]:
    """Bucket and key of `s3://bucket/key`. Raises ValueError."""
    scheme, _, rest = url.partition("://")
    bucket, slash, key = rest.partition("/")
    if scheme != "s3" or not bucket or not slash:
        raise ValueError(f"{url!r} is not of the form s3://bucket/key")
    return bucket, key


def _job(data: dict[str, Any]) -> Job:
    _check_version(data)
    known = {"v", "mapping", "source", "execution_id", "output", "options", "task_token"}
    if unknown := sorted(set(data) - known):
        raise PoisonMessageError(f"a job has no key {unknown[0]!r}; known: {', '.join(sorted(known))}")
    mapping = _field(data, "mapping", str)
    if not is_name(mapping):
        raise PoisonMessageError(f"'mapping' {mapping!r} is not a mapping's name")
    execution_id = _field(data, "execution_id", str) if "execution_id" in data else ""
    if execution_id and not is_name(execution_id):
        raise PoisonMessageError(
            f"'execution_id' {execution_id!r}: use 1 to 128 letters, digits, '.', '_' or '-'"
        )
    try:
        bucket, key = parse_url(_field(data, "source", str))
        if not key:
            raise PoisonMessageError("'source' names a bucket but no key")
        output = _location(_field(data, "output", str)) if "output" in data else None
    except ValueError as error:
        raise PoisonMessageError(str(error)) from None
    options = _field(data, "options", dict) if "options" in data else {}
    given: dict[str, Any] = {
        name: _whole(options, name, most) for name, most in _OPTIONS.items() if name in options
    }
    return Job(
        mapping,
        Source(bucket, key),
        execution_id,
        output,
        problem=_problem(data, options),
        **given,
    )


def _problem(data: dict[str, Any], options: dict[str, Any]) -> str:
    """Why a job cannot be carried out as asked, or nothing."""
    if "task_token" in data:
        return "the job asks for a task token answer, which this version of rowfleet does not give yet"
    for name in sorted(set(options) - set(_OPTIONS)):
        known = "is not supported by this version of rowfleet yet" if name in _LATER_OPTIONS else "is unknown"
        return f"job option {name!r} {known}; supported: {', '.join(_OPTIONS)}"
    return ""


def _location(url: str) -> Location:
    bucket, prefix = parse_url(url)
    return Location(bucket, prefix if not prefix or prefix.endswith("/") else prefix + "/")


def _s3_record(record: object) -> dict[str, Any]:
    if not isinstance(record, dict) or record.get("eventSource") != "aws:s3":
        raise PoisonMessageError("an event record that S3 did not write")
    name = record.get("eventName")
    if not isinstance(name, str) or not name.removeprefix("s3:").startswith("ObjectCreated:"):
        return {}
    return _created(
        record.get("s3"), "an S3 event record", key_of=unquote_plus, etag="eTag", version="versionId"
    )


def _event_bridge_object(data: dict[str, Any]) -> dict[str, Any]:
    if data.get("detail-type") != "Object Created":
        return {}
    # EventBridge does not encode the key
    return _created(data["detail"], "an EventBridge event", key_of=str, etag="etag", version="version-id")


def _created(
    place: Any, what: str, *, key_of: Callable[[str], str], etag: str, version: str
) -> dict[str, Any]:
    """The object that an event announces. Raises PoisonMessageError where it names none."""
    try:
        entry = place["object"]
        return {
            "bucket": _field(place["bucket"], "name", str),
            "key": key_of(_field(entry, "key", str)),
            "etag": str(entry.get(etag, "")).strip('"'),
            "version": str(entry.get(version) or ""),
            "sequencer": str(entry.get("sequencer") or ""),
            "size": int(entry.get("size") or 0),
        }
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise PoisonMessageError(f"{what} without bucket and key ({error!r})") from None


def _dropped(entry: dict[str, Any], incoming_prefix: str) -> tuple[Job, ...]:
    """A dropped object as a job; () where the key is not `incoming/{mapping}/….csv`."""
    key = str(entry.get("key", ""))
    mapping, slash, name = key.removeprefix(incoming_prefix).partition("/")
    if not key.startswith(incoming_prefix) or not slash or not name.lower().endswith(".csv"):
        return ()
    source = Source(entry["bucket"], key, entry["etag"], entry["version"], entry["size"])
    problem = "" if is_name(mapping) else f"the folder {mapping!r} is not a mapping's name"
    return (Job(mapping, source, dropped=True, sequencer=entry["sequencer"], problem=problem),)


def _span(data: dict[str, Any]) -> Span:
    """Where a row stands; never at the beginning of its source, where the header is."""
    where = _field(data, "span", dict)
    offset = _whole(where, "offset", MAX_OBJECT_BYTES)
    return Span(offset, _whole(where, "length", MAX_OBJECT_BYTES), _whole(where, "line", MAX_OBJECT_BYTES))


def _batch_id(data: dict[str, Any]) -> str:
    value: str = _field(data, "batch", str)
    tool_name, _, execution_id = value.partition("#")
    if not is_name(tool_name) or not is_name(execution_id):
        raise PoisonMessageError(f"'batch' {value[:300]!r} is not of the form tool_name#execution_id")
    return value


def _object(body: str) -> dict[str, Any]:
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise PoisonMessageError(f"not JSON: {error}") from None
    if not isinstance(data, dict):
        raise PoisonMessageError("not a JSON object")
    return data


def _versioned(body: str) -> dict[str, Any]:
    data = _object(body)
    _check_version(data)
    return data


def _check_version(data: dict[str, Any]) -> None:
    version = data.get("v", VERSION)
    if version != VERSION or isinstance(version, bool):
        raise PoisonMessageError(f"version {version!r}; this rowfleet reads version {VERSION}")


def _field(data: dict[str, Any], name: str, kind: type) -> Any:
    value = data.get(name)
    if not isinstance(value, kind) or (kind is str and not value and name != "defect"):
        raise PoisonMessageError(f"{name!r} is missing or not a {kind.__name__}")
    return value


def _whole(data: dict[str, Any], name: str, most: int) -> int:
    value = data.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise PoisonMessageError(f"{name!r} is not a whole number from 1 to {most}")
    return value


def derive_execution_id(source: Source, occasion: str) -> str:
    """A readable id that is the same for the same upload: the file's stem and a digest.

    `occasion` (S3's sequencer, or the id of the job's message) tells two uploads of the same bytes apart.
    """
    facts = "\n".join((source.bucket, source.key, source.version or source.etag, occasion))
    stem = source.key.rsplit("/", 1)[-1].removesuffix(".csv")
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._")[:40]
    digest = hashlib.sha256(facts.encode()).hexdigest()[:12]
    return f"{readable}-{digest}" if readable else digest
