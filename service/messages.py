"""What travels on the queues: ASCII JSON with a version, decoded strictly.

Pure. A body that fits nothing here raises PoisonMessageError with the reason; it is for the dead-letter
queue, not for a guess.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

import orjson

from service.errors import PoisonMessageError
from service.model import MAX_ROUND, MAX_ROWS, Location, Source, is_name

VERSION = 1

_LATER_OPTIONS = ("priority", "weight", "deadline_s", "approve", "paused")
"""Job options of the design that this version does not carry out: refused in words, never ignored."""


@dataclass(frozen=True, slots=True)
class RowMessage:
    """One row to process. `defect` says why no agent may get it; `replay` that it may be a repeat."""

    batch_id: str
    round: int
    number: int
    cells: tuple[str, ...]
    attempt: int = 1
    replay: bool = False
    defect: str = ""

    def encode(self) -> str:
        """The body: absent keys are defaults."""
        body: dict[str, Any] = {
            "v": VERSION,
            "batch": self.batch_id,
            "round": self.round,
            "row": self.number,
            "cells": self.cells,
        }
        if self.attempt > 1:
            body["attempt"] = self.attempt
        if self.replay:
            body["replay"] = True
        if self.defect:
            body["defect"] = self.defect
        return encode(body)

    @classmethod
    def decode(cls, body: str) -> RowMessage:
        """Raises PoisonMessageError."""
        data = _versioned(body)
        cells = _field(data, "cells", list)
        if not all(isinstance(cell, str) for cell in cells):
            raise PoisonMessageError("'cells' holds something that is not a string")
        return cls(
            batch_id=_field(data, "batch", str),
            round=_whole(data, "round", MAX_ROUND),
            number=_whole(data, "row", MAX_ROWS),
            cells=tuple(cells),
            attempt=_whole(data, "attempt", 10**6) if "attempt" in data else 1,
            replay=_field(data, "replay", bool) if "replay" in data else False,
            defect=_field(data, "defect", str) if "defect" in data else "",
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
        return cls(batch_id=_field(data, "batch", str), round=_whole(data, "round", MAX_ROUND))


@dataclass(frozen=True, slots=True)
class Job:
    """A run that was asked for: by a job message, or by an object dropped under `incoming/`.

    `execution_id` is empty where it is to be derived from the source; `dropped` tells the two origins apart;
    `sequencer` is S3's, so that two uploads of the same bytes are two runs. A `problem` fails the batch.
    """

    mapping: str
    source: Source
    execution_id: str = ""
    output: Location | None = None
    limit: int | None = None
    dropped: bool = False
    sequencer: str = ""
    problem: str = ""


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
    limit, problem = _options(data)
    return Job(mapping, Source(bucket, key), execution_id, output, limit, problem=problem)


def _options(data: dict[str, Any]) -> tuple[int | None, str]:
    """The limit, and why the job cannot be carried out as asked."""
    options = _field(data, "options", dict) if "options" in data else {}
    limit = _whole(options, "limit", MAX_ROWS) if "limit" in options else None
    if "task_token" in data:
        return limit, "the job asks for a task token answer, which this version of rowfleet does not give yet"
    for name in sorted(set(options) - {"limit"}):
        known = "is not supported by this version of rowfleet yet" if name in _LATER_OPTIONS else "is unknown"
        return limit, f"job option {name!r} {known}; supported: limit"
    return limit, ""


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
    except (KeyError, TypeError, ValueError, AttributeError) as error:
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
